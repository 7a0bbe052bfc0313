"""A function that holds attention among other things: attention on the backend, the rest on the host in float64.

`WholeKernel` describes it, `WholeExecutable` runs it as `Executable` runs a kernel. Everything but the attention is
the evaluator's; it hands Q, K, V and masks to kernels and takes their results back in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.driver import HostModule
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.host import Declared
from npuc.compiler.interface import kernel_name
from npuc.runtime.arguments import WHOLE_DTYPES, KernelArgument, from_user, to_device, to_interface
from npuc.runtime.backends import HOST_BACKENDS, BackendSettings
from npuc.runtime.check import multiply_accumulates
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Given, Node
from npuc.runtime.evaluator.schedule import evaluate
from npuc.runtime.evaluator.source import of_module
from npuc.runtime.executable import Call, Executable
from npuc.runtime.kernel_file import DescribedKernel, SourceText
from npuc.runtime.layouts import all_inward
from npuc.runtime.statistics import RunReport


@dataclass(frozen=True, kw_only=True)
class WholeKernel(DescribedKernel):
    """attention: the first of those inside.

    calls: what calls of functions that are kernels compute, by the functions' names in the module.  kernels: by the
    names that calls say.  host: the module that calls them.  function: of it and of `source`, which has attentions.
    """

    calls: Mapping[str, Declared]
    kernels: Mapping[str, DescribedKernel]
    host: SourceText
    function: str

    @property
    def inputs(self) -> tuple[KernelArgument, ...]:
        """Of the function, whatever its attentions take."""
        return tuple(a for a in self.arguments if a.direction == "in")

    @property
    def open_sizes(self) -> dict[str, tuple[str, int]]:
        """The open sizes of its inputs, by argument and dimension: arg0.1 is the second of the first."""
        return {f"{a.name}.{d}": (a.name, d) for a in self.inputs for d, size in enumerate(a.shape) if size is None}

    def closed(self, sizes: Mapping[str, int]) -> WholeKernel:
        """With sizes that were open given by name. Raises UsageError for a name that is not open."""
        known = self.open_sizes
        for name in sizes:
            if name not in known:
                remedy = f"open: {', '.join(known) or 'none'}"
                raise UsageError(f"@{self.function} leaves no {name} open", remedy=remedy)
        return self._of_sizes({known[name]: size for name, size in sizes.items()})

    def of_arrays(self, shapes: Mapping[str, tuple[int, ...]]) -> WholeKernel:
        """With the open sizes that shapes by argument name show; wrong shapes are left to who reads the arrays."""
        given = {(name, d): size for name, shape in shapes.items() for d, size in enumerate(shape)}
        return self._of_sizes(given)

    def _of_sizes(self, sizes: Mapping[tuple[str, int], int]) -> WholeKernel:
        arguments = tuple(
            replace(a, shape=tuple(sizes.get((a.name, d)) if n is None else n for d, n in enumerate(a.shape)))
            for a in self.arguments
        )
        return replace(self, arguments=arguments)

    def require_lengths(self) -> None:
        if self.open_sizes:
            example = next(iter(self.open_sizes))
            what = f"@{self.function}: {', '.join(self.open_sizes)} is open"
            raise InputError(what, remedy=f"give it by the arrays or as --dim {example}=N")


class Attended(NamedTuple):
    """One attention of a run: what it was given, as numbers and by name as its kernel saw it, and its result."""

    kernel: DescribedKernel
    given: Sequence[np.ndarray]
    seen: Mapping[str, np.ndarray]
    result: np.ndarray


# The result of a call of a kernel, by the function that it calls, of the values of its arguments.
Attend = Callable[[str, Sequence[np.ndarray]], np.ndarray]


class WholeExecutable(Executable):
    """A function with attention inside, ready to be called with its own arguments.

    macs, attended: of the last call.  open_: gives an executable of a kernel; each is opened once.
    """

    def __init__(self, kernel: WholeKernel, open_: Callable[[DescribedKernel], Executable]) -> None:
        self._parts: dict[str, Executable] = {name: open_(part) for name, part in kernel.kernels.items()}
        self.whole = kernel
        self.macs = 0
        self.attended: list[Attended] = []
        super().__init__(kernel, backend="reference", fallback=(), settings=BackendSettings())
        first = next(iter(self._parts.values()))
        self.notice, self.names = first.notice, first.names

    def close(self) -> None:
        super().close()
        for executable in self._parts.values():
            executable.close()

    def serve(self, given: Mapping[str, Any], attention: Attention | None = None) -> Call:
        """Run the function; the report adds up those of its attentions. Raises as `Executable.serve`."""
        arrays = self._prepare(self.kernel, given)
        calls: list[Call] = []
        self.macs, self.attended = 0, []

        def attend(name: str, values: Sequence[np.ndarray]) -> np.ndarray:
            part = self.whole.calls[name]
            executable = self._parts[part.kernel]
            kernel = executable.kernel.computing(part.attention)
            shapes = {a.name: np.shape(value) for a, value in zip(kernel.inputs, values, strict=True)}
            kernel = kernel.of_arrays(shapes)
            attention = kernel.attention
            named = {
                a.name: value != 0 if a.dtype == "i1" else value for a, value in zip(kernel.inputs, values, strict=True)
            }
            call = executable.serve(named, attention)
            calls.append(call)
            self.macs += multiply_accumulates(attention, all_inward(kernel, attention.taken(named)))
            (result,) = call.outputs.values()
            on_host = call.report.backend in HOST_BACKENDS  # which takes the arguments as they are given
            taken = {a.name: from_user(a, named[a.name]) for a in kernel.inputs}
            seen = taken if on_host else {a.name: to_device(a, taken[a.name]) for a in kernel.inputs}
            self.attended.append(Attended(kernel, values, seen, result))
            return result

        results = _on_host(self.whole, [arrays[a.name] for a in self.kernel.inputs], attend)
        outputs = {a.name: to_interface(a, r) for a, r in zip(self.kernel.outputs, results, strict=True)}
        report = added(call.report for call in calls)
        self._report = report
        self.warnings = [warning for call in calls for warning in call.warnings]
        return Call(outputs, report, tuple(self.warnings))


def _on_host(kernel: WholeKernel, arrays: Sequence[np.ndarray], attend: Attend) -> list[np.ndarray]:
    """The function's results, its attentions computed by `attend` from the values that they take."""
    from npuc.compiler.frontend.parse import parse

    module = parse(kernel.host.text, kernel.host.file)

    class Host(Builder):
        """Builds nodes of the rest; a kernel computes where it is called."""

        def call(self, operation: Any) -> list[Node]:
            name = operation.attributes["callee"].value
            if name not in kernel.calls:
                return super().call(operation)
            type_, _ = self.known_type(operation, operation.results[0].type)
            array = attend(name, [evaluate(node) for node in self.operands(operation)])
            return [Given(self.origin(operation), type_, np.asarray(array, np.float64), False)]

    with module.context:
        source = of_module(module, kernel.host.file, kernel.function, arrays, Host)
        return [evaluate(node) for node in source.results]


def added(reports: Any) -> RunReport:
    """Cycles and seconds of several runs together; cores and channels of the last."""
    found = list(reports)
    last: RunReport = found[-1]
    cycles = None if last.cycles is None else sum(report.cycles or 0 for report in found)
    return replace(last, seconds=sum(report.seconds for report in found), cycles=cycles)


def _argument(
    name: str, dtype: str, shape: Sequence[int | None], direction: str, place: int, file: str
) -> KernelArgument:
    """An argument or a result of a whole function. Raises InputError for what calls do not take."""
    if dtype not in WHOLE_DTYPES:
        what = f"argument {name} of {dtype} {list(shape)} is not taken of whole modules"
        raise InputError(what, place=file, remedy=f"element types are {', '.join(WHOLE_DTYPES)}")
    device = "f32" if dtype == "f16" else dtype
    return KernelArgument(name, direction, dtype, device, tuple(shape), direction, place)


def described(host: HostModule, file: str, kernel_of: Callable[[Declared], DescribedKernel]) -> WholeKernel:
    """The kernel that a function is, of which `kernel_of` gives those inside. Raises InputError for arguments of kinds
    that calls do not take."""
    from npuc.compiler.frontend.functions import choose
    from npuc.compiler.frontend.host import declarations
    from npuc.compiler.frontend.parse import parse
    from npuc.compiler.frontend.shapes import sizes_of

    module = parse(host.text, file)
    with module.context:
        function = choose(module, file, host.function).operation
        type_ = function.attributes["function_type"].value
        given, made = (
            [(str(getattr(t, "element_type", t)), t) for t in types] for types in (type_.inputs, type_.results)
        )
        arguments = [
            _argument(f"{stem}{n}", dtype, sizes_of(t) if hasattr(t, "rank") else (), direction, n + first, file)
            for stem, types, direction, first in (("arg", given, "in", 0), ("result", made, "out", len(given)))
            for n, (dtype, t) in enumerate(types)
        ]
        calls = declarations(function, file)
    by_name = {part.kernel: part for part in reversed(calls.values())}
    return WholeKernel(
        kernel_name(host.function),
        tuple(arguments),
        next(iter(calls.values())).attention,
        calls=calls,
        kernels={part.kernel: kernel_of(part) for part in calls.values() if by_name[part.kernel] is part},
        host=SourceText(host.text, file),
        function=host.function,
    )
