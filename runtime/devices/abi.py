"""The interface of the amdxdna driver: structures, request numbers and constants of both of its tracks.

Two drivers speak it: the kernel's own (mainline; Linux 6.14 has its first form) and the out-of-tree module. Their
structures are the same but for the quality of service, which the module extends. Source: facts/platform/amdxdna.md and
amdxdna_abi.json; the requests of the DRM core that belong to it are those of the kernel's drm.h.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from npuc.compiler.emit.layout import Layout

# Field names and struct codes (little-endian) in order; pads are fields, as the driver requires zeros in them.
_BOTH = {
    "create_hwctx": "ext:Q ext_flags:Q qos_p:Q umq_bo:I log_buf_bo:I max_opc:I num_tiles:I mem_size:I umq_doorbell:I "
    "handle:I syncobj_handle:I",
    "destroy_hwctx": "handle:I pad:I",
    "cu_config": "cu_bo:I cu_func:B pad:3s",
    "hwctx_param_config_cu": "num_cus:H pad:6s cu_configs:0s",
    "uc_info_entry": "index:I size:I",
    "fw_buffer_metadata": "buf_type:B num_ucs:B pad:2s bo_handle:I command_id:Q uc_info:0s",
    "config_hwctx": "handle:I param_type:I param_val:Q param_val_size:I pad:I",
    "va_entry": "vaddr:Q len:Q",
    "va_tbl": "dmabuf_fd:i num_entries:I va_entries:0s",
    "create_bo": "flags:Q vaddr:Q size:Q type:I handle:I",
    "get_bo_info": "ext:Q ext_flags:Q handle:I pad:I map_offset:Q vaddr:Q xdna_addr:Q",
    "sync_bo": "handle:I direction:I offset:Q size:Q",
    "exec_cmd": "ext:Q ext_flags:Q hwctx:I type:I cmd_handles:Q args:Q cmd_count:I arg_count:I seq:Q",
    "wait_cmd": "hwctx:I timeout:I seq:Q",
    "query_aie_status": "buffer:Q buffer_size:I cols_filled:I",
    "query_aie_version": "major:I minor:I",
    "query_aie_tile_metadata": "row_count:H row_start:H dma_channel_count:H lock_count:H event_reg_count:H pad:6s",
    "query_aie_metadata": "col_size:I cols:H rows:H version:8s core:16s mem:16s shim:16s",
    "query_clock": "name:16s freq_mhz:I pad:I",
    "query_clock_metadata": "mp_npu_clock:24s h_clock:24s",
    "query_sensor": "label:64s input:I max:I average:I highest:I status:64s units:16s unitm:b type:B pad:6s",
    "query_hwctx": "context_id:I start_col:I num_col:I pad:I pid:q command_submissions:Q command_completions:Q "
    "migrations:Q preemptions:Q errors:Q",
    "get_power_mode": "power_mode:B pad:7s",
    "query_firmware_version": "major:I minor:I patch:I build:I",
    "get_resource_info": "npu_clk_max:Q npu_tops_max:Q npu_task_max:Q npu_tops_curr:Q npu_task_curr:Q",
    "attribute_state": "state:B pad:7s",
    "query_telemetry_header": "major:I minor:I type:I map_num_elements:I map:0s",
    "get_info": "param:I buffer_size:I buffer:Q",
    "hwctx_entry": "context_id:I start_col:I num_col:I hwctx_id:I pid:q command_submissions:Q command_completions:Q "
    "migrations:Q preemptions:Q errors:Q priority:Q heap_usage:Q suspensions:Q state:I pasid:I gops:I fps:I "
    "dma_bandwidth:I latency:I frame_exec_time:I txn_op_idx:I ctx_pc:I fatal_error_type:I "
    "fatal_error_exception_type:I fatal_error_exception_pc:I fatal_error_app_module:I pad:I name:16s",
    "async_error": "err_code:Q ts_us:Q ex_err_code:Q",
    "bo_usage": "pid:q total_usage:Q internal_usage:Q heap_usage:Q",
    "aie_coredump": "pid:Q context_id:I pad:I",
    "aie_tile_access": "pid:Q context_id:I col:I row:I addr:I size:I type:B pad:3s",
    "dpt_metadata": "offset:Q size:I watch:B pad:3s",
    "set_dpt_state": "action:I config:I pad:Q",
    "get_dpt_state": "version:I status:I config:I pad:I",
    "get_array": "param:I element_size:I num_element:I pad:I buffer:Q",
    "set_state": "param:I buffer_size:I buffer:Q",
    "set_power_mode": "power_mode:B pad:7s",
    # of the DRM core
    "gem_close": "handle:I pad:I",
    "version": "major:i minor:i patch:i pad:I name_len:Q name:Q date_len:Q date:Q desc_len:Q desc:Q",
    "syncobj_destroy": "handle:I pad:I",
    "syncobj_timeline_wait": "handles:Q points:Q timeout_nsec:q count_handles:I flags:I first_signaled:I pad:I",
}
_QUALITY = "gops:I fps:I dma_bandwidth:I latency:I frame_exec_time:I priority:I"
_OUT_OF_TREE = {
    "qos_info": f"{_QUALITY} user_start_col:I reserved:I",
    "aie_mem": "col:I row:I addr:I size:I buf_p:Q",
    "aie_reg": "col:I row:I addr:I val:I",
}

WRITE, READ_WRITE = 1, 3  # directions as ioctl numbers have them, seen by the caller
_DRIVER = 0x40  # number of the driver's first request; those of the DRM core are below and above
_REQUESTS = {
    "CREATE_HWCTX": (_DRIVER + 0, READ_WRITE),
    "DESTROY_HWCTX": (_DRIVER + 1, READ_WRITE),
    "CONFIG_HWCTX": (_DRIVER + 2, READ_WRITE),
    "CREATE_BO": (_DRIVER + 3, READ_WRITE),
    "GET_BO_INFO": (_DRIVER + 4, READ_WRITE),
    "SYNC_BO": (_DRIVER + 5, READ_WRITE),
    "EXEC_CMD": (_DRIVER + 6, READ_WRITE),
    "GET_INFO": (_DRIVER + 7, READ_WRITE),
    "SET_STATE": (_DRIVER + 8, READ_WRITE),
    "WAIT_CMD": (_DRIVER + 9, READ_WRITE),
    "GET_ARRAY": (_DRIVER + 10, READ_WRITE),
    "VERSION": (0x00, READ_WRITE),
    "GEM_CLOSE": (0x09, WRITE),
    "SYNCOBJ_DESTROY": (0xC0, READ_WRITE),
    "SYNCOBJ_TIMELINE_WAIT": (0xCA, READ_WRITE),
}
CORE_REQUESTS = ("VERSION", "GEM_CLOSE", "SYNCOBJ_DESTROY", "SYNCOBJ_TIMELINE_WAIT")
_NOT_IN_6_14 = ("WAIT_CMD", "GET_ARRAY")

# Values of fields.
BO_SHARE, BO_DEV_HEAP, BO_DEV, BO_CMD = 1, 2, 3, 4
CONFIG_CU = 0
TO_DEVICE, FROM_DEVICE = 0, 1
SUBMIT_EXEC_BUF = 0
QUERY_AIE_STATUS, QUERY_AIE_METADATA, QUERY_AIE_VERSION, QUERY_CLOCK_METADATA = 0, 1, 2, 3
QUERY_FIRMWARE_VERSION, QUERY_RESOURCE_INFO = 8, 12
INVALID_ADDRESS = (1 << 64) - 1
INVALID_HANDLE = 0
NORMAL_PRIORITY = 512
START_COLUMN_NOT_REQUESTED = 255
WAIT_FOR_SUBMIT = 2  # of SYNCOBJ_TIMELINE_WAIT: the point may not have been submitted yet

# Limits of npu1.
CONTEXTS, COMPUTE_UNITS = 6, 32
HEAP_BYTES, HEAP_BASE = 64 << 20, 0x4000000
DEV_BO_ALIGNMENT = 32 << 10
PAGE = 4096
MOST_ARGUMENT_BOS = 4095
DRIVER_NAME = "amdxdna"


def _layouts(fields: Mapping[str, str]) -> dict[str, Layout]:
    return {name: _layout(name, text) for name, text in fields.items()}


def _layout(name: str, text: str) -> Layout:
    pairs = (field.split(":") for field in text.split())
    return Layout(f"amdxdna {name}", *((field, code, b"" if code.endswith("s") else 0) for field, code in pairs))


def request_number(direction: int, number: int, size: int) -> int:
    """An ioctl's number, by the kernel's rule; the type is DRM's letter d."""
    return direction << 30 | size << 16 | ord("d") << 8 | number


@dataclass(frozen=True)
class Track:
    """One driver's form of the interface.

    layouts: structures by name, without the driver's prefixes. requests: ioctl numbers by name. versions: of the DRM
    driver that speaks it (major, first minor, last minor).
    """

    name: str
    layouts: Mapping[str, Layout]
    requests: Mapping[str, int]
    version: tuple[int, int]

    def layout_of(self, request: str) -> Layout:
        """The structure that a request carries."""
        return self.layouts[request.lower()]


def _track(name: str, own: Mapping[str, str], version: tuple[int, int], **directions: int | None) -> Track:
    layouts = _layouts({**_BOTH, **own})
    requests = {}
    for request, (number, usual) in _REQUESTS.items():
        direction = directions.get(request, usual)
        if direction is not None:
            requests[request] = request_number(direction, number, layouts[request.lower()].size)
    return Track(name, MappingProxyType(layouts), MappingProxyType(requests), version)


LINUX_6_14 = _track("Linux 6.14", {"qos_info": _QUALITY}, (0, 0), **dict.fromkeys(_NOT_IN_6_14))
MAINLINE = _track("mainline", {"qos_info": _QUALITY}, (0, 1), WAIT_CMD=WRITE)
OUT_OF_TREE = _track("out-of-tree", _OUT_OF_TREE, (1, 0))
TRACKS = {track.name: track for track in (LINUX_6_14, MAINLINE, OUT_OF_TREE)}


def track_of(major: int, minor: int) -> Track | None:
    """The track whose driver has this version; None for one that is not known.

    The module's major version is 1, the kernel's 0; its minor is 0 before GET_ARRAY.
    """
    if major == OUT_OF_TREE.version[0]:
        return OUT_OF_TREE
    if major == MAINLINE.version[0]:
        return MAINLINE if minor >= MAINLINE.version[1] else LINUX_6_14
    return None
