"""A stand-in for the pass pipeline, for tests of what lies around it: the driver, the cache, the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from npuc.compiler import frontend
from npuc.compiler.frontend.attention import Attention
from npuc.passes.options import Options


@dataclass(frozen=True)
class FakePlan:
    columns: int

    def to_json(self) -> dict[str, Any]:
        return {"columns": self.columns}

    def describe(self) -> str:
        return f"plan over {self.columns} columns"


class FakePipeline:
    """compile_attention as the driver calls it; `compilations` counts how often."""

    def __init__(self) -> None:
        self.compilations = 0

    def compile_attention(self, attention: Attention, options: Options, until: str, source: str | None) -> Any:
        self.compilations += 1
        if options.print_ir_after:
            options.print_ir_after("plan", "the plan")
            options.print_ir_after("kernel", "the kernel")
        columns = options.columns or 1
        places = [(0, 2), (0, 3)]
        arguments = [
            {"name": a.name, "role": a.role, "dtype": a.dtype, "device_dtype": "bf16", "shape": list(a.shape)}
            | {"direction": "out" if a.role == "out" else "in", "buffer": index, "layout": "row-major"}
            for index, a in enumerate(attention.arguments)
        ]
        return SimpleNamespace(
            attention=attention,
            plan=FakePlan(columns),
            programs={place: SimpleNamespace(code=bytes(32), listing=f"nop at {place}\n") for place in places},
            elfs={place: b"\x7fELF" + bytes(place) for place in places},
            cdo=b"cdo",
            pdi=b"pdi",
            control=SimpleNamespace(instantiate=lambda dimensions: b"txn"),
            npua=b"npua",
            metadata={"kernel": attention.function, "arguments": arguments, "attention": attention.to_json()},
            xclbin=b"xclbin of " + attention.function.encode(),
        )

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the pipeline's place; the frontend then returns one small attention for any text."""
        pipeline = ModuleType("npuc.passes.pipeline")
        pipeline.compile_attention = self.compile_attention  # type: ignore[attr-defined]
        pipeline.PIPELINE = [SimpleNamespace(name="plan"), SimpleNamespace(name="kernel")]  # type: ignore[attr-defined]
        patch.setitem(sys.modules, "npuc.passes.pipeline", pipeline)
        patch.setattr(frontend, "recognise", small_attention)


def small_attention(text: str, file: str, function: str | None, after: object = None) -> Any:
    """Any text is one attention."""
    attention = Attention.make(function=function or "attention", heads=2, query_length=64, head_dim=64)
    return SimpleNamespace(attentions=(attention,), host=lambda kernels: f"calls of {', '.join(kernels)}")
