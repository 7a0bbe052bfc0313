"""What a compilation that makes several kernels writes and tells of them together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from npuc.compiler.interface import kernel_name

if TYPE_CHECKING:
    from npuc.passes.pipeline import CompiledKernel

OWN = ("cores", "program_bytes_max", "plan")


def joined_files(kernels: Sequence[CompiledKernel], until: str | None) -> dict[str, bytes]:
    """The files of a result that hold all kernels, of a compilation that ended with the pass `until`; of the others
    each kernel has its own."""
    from npuc.compiler.frontend.print_attn import to_attn_module
    from npuc.passes.pipeline import joined_xclbin

    files = {"attn.mlir": "".join(to_attn_module(kernel.attention) for kernel in kernels).encode()}
    if until is not None:
        plans = {kernel_name(kernel.attention.function): kernel.plan for kernel in kernels}
        files["plan.txt"] = "\n".join(f"{name}\n{p.describe().rstrip()}\n" for name, p in plans.items()).encode()
        objects = {name: plan.to_json() for name, plan in plans.items()}
        files["plan.json"] = (json.dumps(objects, indent=2, sort_keys=True) + "\n").encode()
    if until == "xclbin":
        files["kernel.xclbin"] = joined_xclbin(kernels)
    return files


def joined_summary(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The summary of a file; of several kernels each entry of `kernels` has what the summary of its own said besides,
    and the file's are the largest numbers and the first plan."""
    first, *others = summaries
    if not others:
        return first
    kernels = [{**s["kernels"][0], **{key: s[key] for key in OWN}} for s in summaries]
    largest = {key: None if first[key] is None else max(s[key] for s in summaries) for key in OWN[:2]}
    warnings = [f"{k['name']}: {w}" for k, s in zip(kernels, summaries, strict=True) for w in s["warnings"]]
    return {"kernels": kernels, **largest, "plan": first["plan"], "warnings": warnings}
