"""npuc in PyTorch: `pip install 'npuc[torch]'`.

sdpa: the operation `torch.ops.npuc.sdpa`. on_npu: a context in which scaled_dot_product_attention runs on npuc.
compile_exported: the kernel of a program of torch.export; to_mlir: its text. compile_graph: the backend of `torch.compile(model, backend="npuc")`. collect, Statistics, LayerStatistics: what served.
"""

from __future__ import annotations

from importlib.metadata import entry_points

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("npuc.torch needs PyTorch: pip install 'npuc[torch]'", name=error.name) from error

from npuc.runtime.frameworks.served import LayerStatistics, Statistics, collect
from npuc.runtime.frameworks.torch_compile import compile_graph
from npuc.runtime.frameworks.torch_export import compile_exported, to_mlir
from npuc.runtime.frameworks.torch_mode import on_npu
from npuc.runtime.frameworks.torch_operation import sdpa

__all__ = ["LayerStatistics", "Statistics", "collect", "compile_exported", "compile_graph", "on_npu", "sdpa", "to_mlir"]

# What is installed names its backend to torch.compile by an entry point; a source tree on the path has none.
if not entry_points(group="torch_dynamo_backends", name="npuc"):
    from torch._dynamo import register_backend

    register_backend(compile_graph, name="npuc")
