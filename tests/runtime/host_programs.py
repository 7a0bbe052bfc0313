"""Host programs in the styles of public projects, written from their documentation.

Each is text that begins with its import of pyxrt, and runs with another module by that one line alone. They find
k.xclbin, insts.bin (or insts.txt) and x.npy in the working folder and leave y.npy.
"""

from __future__ import annotations

# mlir-aie's test programs: buffers by group, words or bytes for ninstr, opcode 3.
MLIR_AIE = """
import pyxrt as xrt
import numpy as np

instructions = np.fromfile("insts.bin", dtype=np.uint32)
values = np.load("x.npy")
device = xrt.device(0)
xclbin = xrt.xclbin("k.xclbin")
name = [k for k in xclbin.get_kernels() if "MLIR_AIE" in k.get_name()][0].get_name()
device.register_xclbin(xclbin)
context = xrt.hw_context(device, xclbin.get_uuid())
kernel = xrt.kernel(context, name)
bo_instr = xrt.bo(device, len(instructions) * 4, xrt.bo.cacheable, kernel.group_id(1))
bo_in = xrt.bo(device, values.nbytes, xrt.bo.host_only, kernel.group_id(3))
bo_out = xrt.bo(device, values.nbytes, xrt.bo.host_only, kernel.group_id(4))
bo_instr.write(instructions, 0)
bo_in.write(values, 0)
bo_instr.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
bo_in.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
handle = kernel(3, bo_instr, len(instructions), bo_in, bo_out)
state = handle.wait()
assert state == xrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED, state
bo_out.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
np.save("y.npy", bo_out.read(values.nbytes, 0).view(np.uint32))
"""

# The runtime of mlir-aie's Python interface: arrays over mapped buffers, group 0, ninstr in bytes, device by name.
IRON = """
import pyxrt
import numpy as np

device = pyxrt.device(0)
assert any(name in device.get_info(pyxrt.xrt_info_device.name) for name in ("npu1", "Phoenix"))
xclbin = pyxrt.xclbin("k.xclbin")
device.register_xclbin(xclbin)
context = pyxrt.hw_context(device, xclbin.get_uuid())
kernel = pyxrt.kernel(context, xclbin.get_kernels()[0].get_name())
data = open("insts.bin", "rb").read()
instructions = pyxrt.bo(device, len(data), pyxrt.bo.cacheable, kernel.group_id(1))
instructions.write(data, 0)
instructions.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

class Tensor:
    def __init__(self, array):
        self.shape, self.dtype = array.shape, array.dtype
        self.bo = pyxrt.bo(device, array.nbytes, pyxrt.bo.host_only, 0)
        self.array = np.frombuffer(self.bo.map(), dtype=self.dtype).reshape(self.shape)
        np.copyto(self.array, array)
        self.bo.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def numpy(self):
        self.bo.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
        return self.array

x = Tensor(np.load("x.npy"))
y = Tensor(np.zeros_like(np.load("x.npy")))
run = kernel(3, instructions, len(data), x.bo, y.bo)
if run.wait() != pyxrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
    raise RuntimeError("kernel did not complete")
np.save("y.npy", y.numpy())
"""

# Riallto's runner: the sequence as text, memory banks of all parameters asked for first, arrays that know their buffer.
RIALLTO = """
import pyxrt as ipr
import numpy as np

class AppRunner:
    def __init__(self, name, sequence):
        xclbin = ipr.xclbin(name)
        self.device = ipr.device(0)
        self.device.register_xclbin(xclbin)
        context = ipr.hw_context(self.device, xclbin.get_uuid())
        description = xclbin.get_kernels()[0]
        self.kernel = ipr.kernel(context, description.get_name())
        self.banks = [self.kernel.group_id(i) for i in range(description.get_num_args())]
        words = np.array([int(line, 16) for line in open(sequence).read().split()], dtype=np.uint32)
        self.count = len(words)
        self.instr = ipr.bo(self.device, words.nbytes, ipr.bo.flags.cacheable, self.banks[1])
        self.instr.write(words, 0)
        self.instr.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def allocate(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        buffer = ipr.bo(self.device, size, ipr.bo.flags.host_only, self.banks[3])
        array = np.asarray(buffer.map()).view(dtype).reshape(shape)
        return array, buffer

    def call(self, *buffers):
        for buffer in buffers:
            buffer.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE, buffer.size(), 0)
        handle = self.kernel(3, self.instr, self.count, *buffers)
        handle.wait()
        for buffer in buffers:
            buffer.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE, buffer.size(), 0)

app = AppRunner("k.xclbin", "insts.txt")
given = np.load("x.npy")
input_array, input_buffer = app.allocate(given.shape, np.uint32)
output_array, output_buffer = app.allocate(given.shape, np.uint32)
input_array[:] = given
app.call(input_buffer, output_buffer)
np.save("y.npy", output_array)
"""

# A run list: each run takes the last one's output, and all are handed over in one go.
RUNLIST = """
import datetime
import pyxrt
import numpy as np

device = pyxrt.device(0)
xclbin = pyxrt.xclbin("k.xclbin")
device.register_xclbin(xclbin)
context = pyxrt.hw_context(device, xclbin.get_uuid())
kernel = pyxrt.kernel(context, "MLIR_AIE")
data = np.fromfile("insts.bin", dtype=np.uint32)
instructions = pyxrt.bo(device, data.nbytes, pyxrt.bo.cacheable, kernel.group_id(1))
instructions.map().cast("B")[:] = data.tobytes()
instructions.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
values = np.load("x.npy")
pool = [pyxrt.bo(device, values.nbytes, pyxrt.bo.host_only, kernel.group_id(3 + i)) for i in range(5)]
for buffer in pool:
    buffer.write(np.zeros_like(values), 0)
pool[0].write(values, 0)
for buffer in pool:
    buffer.sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
runs = pyxrt.runlist(context)
for source, target in zip(pool, pool[1:]):
    run = pyxrt.run(kernel)
    for index, argument in enumerate((3, instructions, len(data), source, target)):
        run.set_arg(index, argument)
    runs.add(run)
runs.execute()
runs.wait(datetime.timedelta(seconds=60))
pool[-1].sync(pyxrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
np.save("y.npy", np.frombuffer(pool[-1].map(), np.uint32) - (len(pool) - 2))
"""

# mlir-aie's present runtime: one allocation, of which tensors are parts that are synchronised by range; contexts kept.
VIEWS = """
import pyxrt as xrt
import numpy as np
from pathlib import Path

device = xrt.device(0)
context = xrt.hw_context(device, str(Path("k.xclbin").resolve()))
file = context.get_xclbin()
kernel = xrt.kernel(context, file.get_kernels()[0].get_name())
declared = file.get_kernels()[0].get_num_args() - 3
data = np.fromfile("insts.bin", dtype=np.uint32)

class Transport:
    def __init__(self, size, flags, group):
        self.bo = xrt.bo(device, size, flags, group)
        self.host = np.frombuffer(self.bo.map(), dtype=np.uint8)
        self.parts = {}

    def part(self, offset, size):
        return self.parts.setdefault((offset, size), xrt.bo(self.bo, size, offset))

instructions = Transport(data.nbytes, xrt.bo.cacheable, kernel.group_id(1))
instructions.host[:] = data.view(np.uint8)
instructions.bo.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
values = np.load("x.npy")
size = values.nbytes
storage = Transport(2 * size, xrt.bo.host_only, 0)
storage.host[:size] = values.view(np.uint8)
source, target = storage.part(0, size), storage.part(size, size)
source.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
assert declared >= 2
result = kernel(3, instructions.bo, data.nbytes, source, target).wait()
if result != xrt.ert_cmd_state.ERT_CMD_STATE_COMPLETED:
    raise RuntimeError(f"Kernel returned {str(result)}")
target.sync(xrt.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE)
np.save("y.npy", storage.host[size:].view(np.uint32))
"""

# Arrays of Riallto's kind: an ndarray over the buffer, states by their number, five seconds at most for a call.
ARRAYS = """
import pyxrt as ipr
import numpy as np

class Buffer(np.ndarray):
    def __new__(cls, *args, bo=None, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self.bo = bo
        return self

    def sync_to_npu(self):
        self.bo.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)

    def sync_from_npu(self):
        self.bo.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_FROM_DEVICE, self.bo.size(), 0)

def allocate(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bo = ipr.bo(device, size, ipr.bo.flags.host_only, kernel.group_id(3))
    return Buffer(shape=shape, dtype=dtype, bo=bo, buffer=bo.map())

device, xclbin = ipr.device(0), ipr.xclbin("k.xclbin")
device.register_xclbin(xclbin)
context = ipr.hw_context(device, xclbin.get_uuid())
kernel = ipr.kernel(context, xclbin.get_kernels()[0].get_name())
words = np.array([int(line, 16) for line in open("insts.txt").read().split()], dtype=np.uint32)
instr = ipr.bo(device, words.nbytes, ipr.bo.flags.cacheable, kernel.group_id(1))
given = np.load("x.npy")
source, target = allocate(given.shape, np.uint32), allocate(given.shape, np.uint32)
source[:] = given
for _ in range(2):
    instr.write(words, 0)
    instr.sync(ipr.xclBOSyncDirection.XCL_BO_SYNC_BO_TO_DEVICE)
    source.sync_to_npu()
    state = kernel(3, instr, len(words), source.bo, target.bo).wait(5000)
    if state.value != 4:
        raise RuntimeError(f"Returned state is {state}: {state.value}")
    target.sync_from_npu()
np.save("y.npy", np.asarray(target))
"""

PROGRAMS = {
    "mlir-aie": MLIR_AIE,
    "iron": IRON,
    "riallto": RIALLTO,
    "runlist": RUNLIST,
    "views": VIEWS,
    "arrays": ARRAYS,
}
