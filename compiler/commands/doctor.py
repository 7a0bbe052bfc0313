"""npuc doctor: what this machine lacks to run on an NPU."""

from __future__ import annotations

import json

import click


@click.command("doctor")
@click.option("--root", metavar="DIR", help="Read a captured system tree (made by --capture) instead of this machine.")
@click.option("--capture", metavar="DIR", help="Write what doctor reads here into DIR, a new folder, without secrets.")
@click.option("-o", "output", metavar="REPORT.json", help="Write the report there too, as JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(root: str | None, capture: str | None, output: str | None, as_json: bool) -> None:
    """Say what this machine lacks to run on an NPU, each finding with its remedy. Emulation needs none of it.

    Exit code 0 only when an NPU would run, 4 otherwise.

    JSON: npu_usable, ways{amdxdna xrt} (through the driver itself, and through XRT), findings[name ok finding remedy
    evidence blocks severity]. blocks: the ways that do not work for it.
    """
    from npuc.compiler.files import write_bytes
    from npuc.compiler.outputs import check_outputs
    from npuc.runtime.doctor.capture import write_tree
    from npuc.runtime.doctor.captured import tree
    from npuc.runtime.doctor.diagnose import diagnose
    from npuc.runtime.doctor.recording import Recording
    from npuc.runtime.doctor.render import rendered
    from npuc.runtime.doctor.system import LiveSystem

    check_outputs([], {"-o": output, "--json": "-" if as_json else None})
    system = Recording(tree(root) if root is not None else LiveSystem())
    diagnosis = diagnose(system)
    if capture is not None:
        write_tree(system, capture)
    report = (json.dumps(diagnosis.as_json(), indent=1) + "\n").encode()
    if output is not None:
        write_bytes(output, report)
    click.echo(json.dumps(diagnosis.as_json()) if as_json else rendered(diagnosis))
    if not diagnosis.usable:
        raise SystemExit(4)
