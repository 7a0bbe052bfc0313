"""npuc doctor: what this machine lacks to run on an NPU, and the proof kit."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import click

from npuc.compiler.diagnostics import BackendError, UsageError

if TYPE_CHECKING:
    from npuc.runtime.doctor.diagnose import Diagnosis
    from npuc.runtime.doctor.recording import Recording
    from npuc.runtime.proof.machines import Machine

WAYS = ("auto", "amdxdna", "xrt", "emulator")


@click.command("doctor")
@click.option("--run", "run", is_flag=True, help="Climb the proof ladder on the NPU, up to the first rung that fails.")
@click.option("--backend", type=click.Choice(WAYS), help="With --run: the way to the NPU, or the emulator.")
@click.option("--repetitions", type=click.IntRange(min=1), help="With --run: of one call (default 1000).")
@click.option("--root", metavar="DIR", help="Read a captured system tree (made by --capture) instead of this machine.")
@click.option("--capture", metavar="DIR", help="Write what doctor reads here into DIR, a new folder, without secrets.")
@click.option("-o", "output", metavar="REPORT.json", help="Write the report there too, as JSON without secrets.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    run: bool,
    backend: str | None,
    repetitions: int | None,
    root: str | None,
    capture: str | None,
    output: str | None,
    as_json: bool,
) -> None:
    """Say what this machine lacks to run on an NPU, each finding with its remedy. Emulation needs none of it.

    Exit code 0 only when an NPU would run, 4 otherwise. With --run: 0 when all rungs hold, 1 when results differ from
    the emulator's, 4 when there is no NPU or it fails.

    JSON: npu_usable, ways{amdxdna xrt} (through the driver itself, and through XRT), findings[name ok finding remedy
    evidence blocks severity]. blocks: the ways that do not work for it. With --run, where there is an NPU: way,
    emulated, passed, failed{rung sentence remedy}, device, rungs[...], assumptions[rung assumption holds assumed seen]
    and diagnosis{the former}; -o has it after every rung, passed once all were climbed.
    """
    if not run and (backend is not None or repetitions is not None):
        raise UsageError("--backend and --repetitions belong to --run", remedy="give --run too")
    if run and (root is not None or capture is not None):
        raise UsageError("--run is for this machine, not for a captured one", remedy="leave --root and --capture out")
    from npuc.compiler.outputs import check_outputs
    from npuc.runtime.doctor.diagnose import diagnose

    check_outputs([], {"-o": output, "--json": "-" if as_json else None})
    system = _system(root)
    diagnosis = diagnose(system)
    if capture is not None:
        from npuc.runtime.doctor.capture import write_tree

        write_tree(system, capture)
    if run:
        _prove(backend or "auto", repetitions, diagnosis, output, as_json)
        return
    _tell(diagnosis, output, as_json)


def _system(root: str | None) -> Recording:
    from npuc.runtime.doctor.captured import tree
    from npuc.runtime.doctor.recording import Recording
    from npuc.runtime.doctor.system import LiveSystem

    return Recording(tree(root) if root is not None else LiveSystem())


def _tell(diagnosis: Diagnosis, output: str | None, as_json: bool) -> None:
    from npuc.runtime.doctor.render import rendered

    _write(output, diagnosis.as_json())
    click.echo(json.dumps(diagnosis.as_json()) if as_json else rendered(diagnosis))
    if not diagnosis.usable:
        raise SystemExit(4)


def _write(output: str | None, report: dict[str, Any]) -> None:
    if output is not None:
        from npuc.compiler.files import write_bytes
        from npuc.runtime.doctor.capture import own_names, redacted_values

        write_bytes(output, (json.dumps(redacted_values(report, own_names()), indent=1) + "\n").encode())


def _machine(backend: str) -> Machine:
    """What the ladder runs on; by itself XRT where it opens and the node does not. BackendError: there is no NPU."""
    from npuc.runtime.devices import system_calls
    from npuc.runtime.proof.machine_xrt import XrtMachine
    from npuc.runtime.proof.machines import DriverMachine, EmulatedMachine

    if backend == "emulator":
        return EmulatedMachine()
    calls = system_calls.present()
    if backend == "amdxdna" or (backend == "auto" and calls.nodes()):
        if not calls.nodes():
            raise BackendError("no /dev/accel/accel*")
        through_driver = DriverMachine(calls)
        if backend == "amdxdna" or _opens(through_driver):
            return through_driver
        with contextlib.suppress(BackendError):
            machine = XrtMachine()
            machine.open()
            return machine
        return through_driver  # whose first rung says why it does not open
    machine = XrtMachine()
    machine.open()
    return machine


def _opens(machine: Machine) -> bool:
    try:
        machine.open()
    except BackendError:
        return False
    machine.close()
    return True


def _prove(backend: str, repetitions: int | None, diagnosis: Diagnosis, output: str | None, as_json: bool) -> None:
    from dataclasses import replace

    from npuc.compiler.files import require_writable
    from npuc.runtime.doctor.render import rendered
    from npuc.runtime.proof.ladder import climb
    from npuc.runtime.proof.report import line, report, summary
    from npuc.runtime.proof.settings import EMULATED, Settings

    try:
        machine = _machine(backend)
    except BackendError as error:
        if not as_json:
            click.echo(f"no NPU to climb on: {error.message}")
        _tell(diagnosis, output, as_json)
        raise SystemExit(4) from error
    settings = EMULATED if machine.emulated else Settings()
    if output is not None:
        require_writable(output)
    climbed = []
    for tried in climb(machine, settings if repetitions is None else replace(settings, repetitions=repetitions)):
        climbed.append(tried)
        if not as_json:
            click.echo(line(tried))
        _write(output, report(machine, climbed, diagnosis.as_json()))  # kept, however the climb ends
    told = report(machine, climbed, diagnosis.as_json())
    if as_json:
        click.echo(json.dumps(told))
    else:
        if climbed[-1].device_failed:
            click.echo(rendered(diagnosis))
        click.echo("\n".join(summary(told)))
    if not climbed[-1].passed:
        raise SystemExit(4 if climbed[-1].device_failed else 1)
