"""Kernel files with a true frame and no program: what the runtime needs around a device."""

from __future__ import annotations

import hashlib
from typing import Any

from npuc.compiler.emit.npua import ControlTemplate, Npua, write_npua
from npuc.compiler.emit.pdi import write_pdi
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.compiler.frontend.attention import Attention


def metadata_of(attention: Attention) -> dict[str, Any]:
    arguments = [
        {
            "name": a.name,
            "role": a.role,
            "dtype": a.dtype,
            "device_dtype": "bf16" if a.dtype in ("f32", "f16") else a.dtype,
            "shape": list(a.shape),
            "direction": "out" if a.role == "out" else "in",
            "buffer": index,
            "layout": "row-major",
        }
        for index, a in enumerate(attention.arguments)
    ]
    return {
        "kernel": attention.function,
        "arguments": arguments,
        "attention": attention.to_json(),
        "plan": {},
        "compiler_version": "0",
        "source_sha256": "",
        "columns": 1,
    }


def npua_of(attention: Attention, /, *, pdi: bytes | None = None, **changes: Any) -> bytes:
    """A standalone NPUA; `changes` replace metadata entries, `pdi` is carried in place of the one it was made for."""
    image = write_pdi([])
    metadata = {**metadata_of(attention), **changes}
    control = ControlTemplate(columns=1, operations=())
    return write_npua(Npua(metadata, control, (), hashlib.sha256(image).digest(), image if pdi is None else pdi))


def xclbin_of(*attentions: Attention, pdi: bytes | None = None) -> bytes:
    """An XCLBIN with one kernel an attention; `pdi` lies in it in place of the one the metadata was made for."""
    image = write_pdi([])
    kernels = []
    for number, attention in enumerate(attentions):
        control = ControlTemplate(columns=1, operations=())
        npua = write_npua(Npua(metadata_of(attention), control, (), hashlib.sha256(image).digest()))
        names = tuple(a.name for a in attention.arguments)
        kernels.append(KernelEntry(attention.function, f"I{number}", 0x901 + number, names, npua))
    return write_xclbin(Xclbin(tuple(kernels), 1, image if pdi is None else pdi))
