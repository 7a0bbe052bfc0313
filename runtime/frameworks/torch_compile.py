"""The backend "npuc" of torch.compile: attention as `npuc::sdpa`, the rest by another backend."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from npuc.compiler.diagnostics import UsageError
from npuc.runtime.choices import BACKEND_NAMES
from npuc.runtime.frameworks.torch_attention import note_torch, why_not
from npuc.runtime.frameworks.torch_multi_head import SDPA

NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
OPTIONS = ("rest", "backend")


def compile_graph(
    graph: GraphModule, examples: Sequence[Any], *, options: Mapping[str, Any] | None = None, **settings: Any
) -> Callable[..., Any]:
    """A graph that torch.compile captured, with its attention on npuc.

    options: `rest`, the torch.compile backend of all else (default "eager"; "inductor", ...), and `backend`, npuc's
    (default "auto"). Attention that npuc cannot serve stays PyTorch's, with the reason logged and in the statistics.
    Raises UsageError on another option.
    """
    chosen = {"rest": "eager", "backend": "auto", **(options or {})}
    if chosen.keys() - set(OPTIONS) or chosen["backend"] not in BACKEND_NAMES or chosen["rest"] == "npuc":
        raise UsageError(
            f"backend npuc of torch.compile takes no options {dict(options or {})}",
            remedy=f"rest: another backend of torch.compile; backend: one of {', '.join(BACKEND_NAMES)}",
        )
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is SDPA:
            _replace(graph, node, chosen["backend"])
    graph.recompile()
    rest = torch._dynamo.lookup_backend(chosen["rest"])
    compiled: Callable[..., Any] = rest(graph, list(examples), **settings)
    return compiled


def _replace(graph: GraphModule, node: Node, backend: str) -> None:
    """One call of SDPA by `npuc::sdpa`, where npuc may serve it."""
    given = {**dict(zip(NAMES, node.args, strict=False)), **node.kwargs}
    layer = _layer(node)
    reason = _why_not(given)
    if reason is not None:
        note_torch(layer, reason, 0.0)
        return
    given.pop("dropout_p", None)
    with graph.graph.inserting_before(node):
        new = graph.graph.call_function(
            torch.ops.npuc.sdpa.default, kwargs={**given, "backend": backend, "layer": layer}
        )
    new.meta = dict(node.meta)
    node.replace_all_uses_with(new)
    graph.graph.erase_node(node)


def _why_not(given: Mapping[str, Any]) -> str | None:
    query, key, value, mask = (_example(given.get(name)) for name in NAMES[:4])
    if given.get("is_causal") and mask is not None:
        return "is_causal beside a mask"
    return why_not(query, key, value, mask, given.get("dropout_p", 0.0))


def _example(value: Any) -> Any:
    return value.meta.get("example_value") if isinstance(value, Node) else value


def _layer(node: Node) -> str:
    """The module that calls it, as its model names it; "" outside of modules."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [entry[0] for entry in stack.values()]
    return re.sub(r"^L\['\w+'\]\.?", "", str(paths[-1])) if paths else ""
