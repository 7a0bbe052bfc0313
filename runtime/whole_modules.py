"""A function that holds attention among other things: attention on the backend, the rest on the host in float64.

`WholeKernel` describes it, `WholeExecutable` runs it as `Executable` runs a kernel. Everything but the attention is
the evaluator's; it hands Q, K, V and masks to kernels and takes their results back in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.interface import kernel_name
from npuc.runtime import evaluator
from npuc.runtime.arguments import INTERFACE_DTYPES, KernelArgument, to_interface
from npuc.runtime.backends import BackendSettings
from npuc.runtime.check import multiply_accumulates
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Given, Node
from npuc.runtime.evaluator.schedule import evaluate
from npuc.runtime.evaluator.source import of_module
from npuc.runtime.executable import Call, Executable
from npuc.runtime.judgement import LIMITS, CheckResult, Judge
from npuc.runtime.kernel_file import DescribedKernel, SourceText
from npuc.runtime.layouts import all_inward
from npuc.runtime.statistics import RunReport


@dataclass(frozen=True, kw_only=True)
class WholeKernel(DescribedKernel):
    """attention: the first of those inside.  parts: all of them.  function: what `source` holds."""

    parts: tuple[Attention, ...]
    function: str


# The result of an attention, by number, of the values of its arguments.
Attend = Callable[[int, Sequence[np.ndarray]], np.ndarray]
# Opens a kernel of an attention: Executable of each kind that a module has.
Open = Callable[[Attention], Executable]


class WholeExecutable(Executable):
    """A function with attention inside, ready to be called with its own arguments.

    open_: gives an executable of an attention; each kind is opened once.
    """

    def __init__(self, kernel: WholeKernel, open_: Open) -> None:
        self._kinds: dict[Attention, Executable] = {}
        self.whole = kernel
        self.macs = 0
        for part in kernel.parts:
            kind = kind_of(part)
            if kind not in self._kinds:
                self._kinds[kind] = open_(part)
        super().__init__(kernel, backend="reference", fallback=(), settings=BackendSettings())
        first = next(iter(self._kinds.values()))
        self.notice, self.names = first.notice, first.names

    def close(self) -> None:
        super().close()
        for executable in self._kinds.values():
            executable.close()

    def serve(self, given: Mapping[str, Any], attention: Attention | None = None) -> Call:
        """Run the function; the report adds up those of its attentions. Raises as `Executable.serve`."""
        arrays = self._prepare(self.kernel, given)
        calls: list[Call] = []
        self.macs = 0

        def attend(number: int, values: Sequence[np.ndarray]) -> np.ndarray:
            part = self.whole.parts[number]
            executable = self._kinds[kind_of(part)]
            named = {a.name: value for a, value in zip(executable.kernel.inputs, values, strict=True)}
            call = executable.serve(named, part)
            calls.append(call)
            self.macs += multiply_accumulates(part, all_inward(executable.kernel, named))
            (result,) = call.outputs.values()
            return result

        results = _on_host(self.whole, [arrays[a.name] for a in self.kernel.inputs], attend)
        outputs = {a.name: to_interface(a, r) for a, r in zip(self.kernel.outputs, results, strict=True)}
        report = added(call.report for call in calls)
        self._report = report
        self.warnings = [warning for call in calls for warning in call.warnings]
        return Call(outputs, report, tuple(self.warnings))


def _on_host(kernel: WholeKernel, arrays: Sequence[np.ndarray], attend: Attend) -> list[np.ndarray]:
    """The function's results, its attentions (by number) computed by `attend` from the values that they take."""
    from npuc.compiler.frontend.functions import choose
    from npuc.compiler.frontend.load import parts_of
    from npuc.compiler.frontend.parse import parse

    assert kernel.source is not None
    text, file = kernel.source.text, kernel.source.file
    module = parse(text, file)
    with module.context:
        parts = parts_of(choose(module, file, kernel.function), file)
        places = {part.root: (number, part.leaves) for number, (part, _) in enumerate(parts)}

        class Host(Builder):
            """Builds nodes of the rest; an attention is computed where it stands."""

            def results_of(self, operation: Any) -> list[Node]:
                found = super().results_of(operation)
                for n, result in enumerate(operation.results):
                    if result in places:
                        number, leaves = places[result]
                        values = [evaluate(self.values[leaf]) for leaf in leaves]
                        array = np.asarray(attend(number, values), np.float64)
                        found[n] = Given(found[n].origin, found[n].type, array, False)
                return found

        return [evaluate(node) for node in of_module(module, file, kernel.function, arrays, Host).results]


def kind_of(attention: Attention) -> Attention:
    """What kernels are shared by: everything but where it is."""
    return replace(attention, function="", within=None)


def added(reports: Any) -> RunReport:
    """Cycles and seconds of several runs together; cores and channels of the last."""
    found = list(reports)
    last: RunReport = found[-1]
    cycles = None if last.cycles is None else sum(report.cycles or 0 for report in found)
    return replace(last, seconds=sum(report.seconds for report in found), cycles=cycles)


def check_whole(
    kernel: WholeKernel, arrays: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
) -> CheckResult:
    """Judge the results of a whole function against its own operations in float64.

    A single element may be off by the share of the mean of all that an attention's may be of its values.
    """
    assert kernel.source is not None
    given = [arrays[a.name] for a in kernel.inputs]
    source = evaluator.load(kernel.source.text, kernel.source.file, kernel.function, given)
    judge = Judge(LIMITS[kernel.attention.precision])
    for number, argument in enumerate(kernel.outputs):
        reference = source.whole(number)
        finite = reference[np.isfinite(reference)]
        judge.add(outputs[argument.name], reference, float(np.abs(finite).mean()) if finite.size else 0.0)
    return judge.result("source")


def _argument(
    name: str, dtype: str, shape: Sequence[int | None], direction: str, place: int, file: str
) -> KernelArgument:
    """An argument or a result of a whole function. Raises InputError for what calls do not take."""
    if dtype not in INTERFACE_DTYPES or None in shape:
        what = f"argument {name} of {dtype} {list(shape)} is not taken of whole modules"
        raise InputError(what, place=file, remedy=f"element types are {', '.join(INTERFACE_DTYPES)}, and sizes numbers")
    device = "f32" if dtype == "f16" else dtype
    return KernelArgument(name, direction, dtype, device, tuple(shape), direction, place)


def described(text: str, file: str, function: str | None, parts: Sequence[Attention]) -> WholeKernel:
    """The kernel that a function is of which `parts` are the attentions. Raises InputError for arguments of kinds that
    calls do not take."""
    from npuc.compiler.frontend.functions import choose
    from npuc.compiler.frontend.parse import parse
    from npuc.compiler.frontend.shapes import sizes_of

    module = parse(text, file)
    with module.context:
        chosen = choose(module, file, function)
        type_ = chosen.operation.attributes["function_type"].value
        given, made = (
            [(str(getattr(t, "element_type", t)), t) for t in types] for types in (type_.inputs, type_.results)
        )
        arguments = [
            _argument(f"{stem}{n}", dtype, sizes_of(t) if hasattr(t, "rank") else (None,), direction, n + first, file)
            for stem, types, direction, first in (("arg", given, "in", 0), ("result", made, "out", len(given)))
            for n, (dtype, t) in enumerate(types)
        ]
    return WholeKernel(
        kernel_name(chosen.name),
        tuple(arguments),
        parts[0],
        source=SourceText(text, file),
        parts=tuple(parts),
        function=chosen.name,
    )
