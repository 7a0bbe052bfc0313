"""What GET_INFO of the software device tells."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.devices import abi
from npuc.runtime.devices.software_memory import write_user
from npuc.runtime.devices.system_calls import error

if TYPE_CHECKING:
    from npuc.runtime.devices.software import OpenFile, SoftwareDevice

CORE_ROWS = len(geometry.CORE_ROWS)


def get_info(device: SoftwareDevice, file: OpenFile, values: dict[str, Any]) -> dict[str, Any]:
    """The answer goes into the caller's buffer; EOPNOTSUPP for what this device does not tell."""
    made = _INFO.get(values["param"])
    if made is None:
        raise error(errno.EOPNOTSUPP, f"GET_INFO: parameter {values['param']}")
    data = made(device)
    if values["buffer_size"] < len(data):
        device.complain(f"GET_INFO {values['param']} fills {len(data)} bytes, the caller has {values['buffer_size']}")
        raise error(errno.EINVAL, "GET_INFO")
    write_user(values["buffer"], data)
    return {}


def _metadata(device: SoftwareDevice) -> bytes:
    tile, version = device.layout("query_aie_tile_metadata"), device.layout("query_aie_version")

    def rows(kind: str, count: int, first: int) -> bytes:
        channels = 2 * geometry.CHANNEL_COUNT[kind]
        return tile.pack(
            row_count=count, row_start=first, dma_channel_count=channels, lock_count=geometry.LOCK_COUNT[kind]
        )

    return device.layout("query_aie_metadata").pack(
        col_size=1 << geometry.COLUMN_SHIFT,
        cols=device.columns,
        rows=geometry.ROWS,
        version=version.pack(major=2, minor=0),
        core=rows("core", CORE_ROWS, geometry.CORE_ROWS[0]),
        mem=rows("memtile", 1, geometry.MEMTILE_ROW),
        shim=rows("shim", 1, geometry.SHIM_ROW),
    )


def _aie_version(device: SoftwareDevice) -> bytes:
    return device.layout("query_aie_version").pack(major=2, minor=0)


def _firmware(device: SoftwareDevice) -> bytes:
    names = ("major", "minor", "patch", "build")
    return device.layout("query_firmware_version").pack(**dict(zip(names, device.firmware, strict=True)))


def _clocks(device: SoftwareDevice) -> bytes:
    one = device.layout("query_clock")
    return device.layout("query_clock_metadata").pack(
        mp_npu_clock=one.pack(name=b"MP-NPU Clock", freq_mhz=600),
        h_clock=one.pack(name=b"H Clock", freq_mhz=device.machine.clock_hz // 1_000_000),
    )


_INFO: dict[int, Callable[[SoftwareDevice], bytes]] = {
    abi.QUERY_AIE_METADATA: _metadata,
    abi.QUERY_AIE_VERSION: _aie_version,
    abi.QUERY_CLOCK_METADATA: _clocks,
    abi.QUERY_FIRMWARE_VERSION: _firmware,
}
