"""npuc golden."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from npuc.compiler import golden
from npuc.compiler.commands.distributed import distributed
from npuc.compiler.diagnostics import CheckFailed, InputError
from npuc.compiler.files import write_bytes
from npuc.compiler.outputs import check_outputs


@click.command("golden")
@click.argument("action", type=click.Choice(["record", "check"]))
@click.argument("folder", metavar="DIR")
@click.option("--update", is_flag=True, help="Rewrite what changed, write what is missing, delete what has no case.")
@click.option("--artifacts", metavar="FOLDER", help="Of cases that differ, write what they compile to now and the "
              "difference as HTML into this folder.")  # fmt: skip
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=20, show_default=True,
              help="Differences of a section that the text shows; 0 shows all.")  # fmt: skip
@distributed
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
def command(
    action: str,
    folder: str,
    update: bool,
    artifacts: str | None,
    limit: int,
    workers: int,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Record what the cases of DIR/golden.toml compile to, or check that they still do.

    record writes goldens that are missing; one that differs it leaves alone unless --update is given. check writes
    nothing unless --update is given. Both print the difference, and end with exit code 1 when recorded files differ
    from what was compiled, are missing, or belong to no case.

    \b
    [[case]]
    name = "s64-d64"          # of the recorded files
    source = "s64-d64.mlir"   # relative to DIR
    keep = ["xclbin"]         # stages: xclbin npua pdi txn plan asm attn
    function, columns, precision, options = { key = "value" }  as npuc compile takes them

    JSON: passed, cases[{name, status, error, files[{file, status, bytes, diff}]}], stale. status: same, differs,
    missing, recorded, updated, failed; diff: as npuc diff --json, of texts a unified diff.
    """
    from npuc.runtime.distribute import in_order

    cases = golden.read_cases(folder)
    _require_separate_files(folder, cases, artifacts)
    stale = golden.stale_files(folder, cases)
    results = []
    jobs = [(folder, case) for case in cases]
    for result in in_order(_checked, jobs, workers, scheduler):
        if artifacts is not None:
            _write_artifacts(artifacts, result)
        if action == "record" or update:
            result = golden.write_results(folder, result, replace=update)
        results.append(result)
        if not as_json:
            click.echo(_text(result, limit), nl=False)
    if update:
        stale = _delete(folder, stale)
    if not as_json:
        for name in stale:
            click.echo(f"{name}: belongs to no case")
    wrong = [r for r in results if r.status in (golden.DIFFERS, golden.MISSING, golden.FAILED)]
    if as_json:
        passed = not wrong and not stale
        click.echo(json.dumps({"passed": passed, "cases": [r.to_json() for r in results], "stale": stale}))
    _conclude(folder, action, wrong, stale, len(cases))


def _checked(job: tuple[str, golden.Case]) -> golden.CaseResult:
    """Of one case, on any process that sees the folder."""
    return golden.check_case(*job)


def _require_separate_files(folder: str, cases: tuple[golden.Case, ...], artifacts: str | None) -> None:
    """Sources are no recorded files, and artifacts are neither."""
    sources = [os.path.join(folder, golden.LIST), *(os.path.join(folder, case.source) for case in cases)]
    recorded = [file for case in cases for file in case.files().values()]
    check_outputs(sources, {f"recorded file {file}": os.path.join(folder, file) for file in recorded})
    if artifacts is not None:
        written = [file + suffix for file in recorded for suffix in ("", ".html", ".diff")]
        kept = [*sources, *(os.path.join(folder, file) for file in recorded)]
        check_outputs(kept, {f"--artifacts {file}": os.path.join(artifacts, file) for file in written})


def _conclude(folder: str, action: str, wrong: list[golden.CaseResult], stale: list[str], count: int) -> None:
    told = [f"case {result.case.name} {result.status}" for result in wrong]
    told += [f"{name} belongs to no case" for name in stale]
    if not told:
        return
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    missing = action == "check" and all(result.status == golden.MISSING for result in wrong) and not stale
    remedy = f"npuc golden record {folder}" if missing else f"when this is meant: npuc golden check {folder} --update"
    if any(result.status == golden.FAILED for result in wrong):
        remedy = "a case that does not compile cannot be recorded"
    raise CheckFailed(f"{', '.join(told[:3])}{more}", place=folder, remedy=remedy)


def _delete(folder: str, names: list[str]) -> list[str]:
    """Delete files; what is left of them."""
    for name in names:
        try:
            os.unlink(os.path.join(folder, name))
        except OSError as error:
            raise InputError(f"cannot delete: {error.strerror}", place=os.path.join(folder, name)) from error
        click.echo(f"{name}: deleted, it belongs to no case", err=True)
    return []


def _text(result: golden.CaseResult, limit: int) -> str:
    from npuc.compiler.inspect.diff.text import render
    from npuc.compiler.plain_text import printable

    if result.error:
        return f"{result.case.name}: failed: {printable(result.error)}\n"
    lines = []
    for found in result.files:
        lines.append(f"{result.case.name}: {found.status} ({found.file}, {len(found.new):,} bytes)")
        difference = render(found.report, limit) if found.report else found.text
        lines += [f"  {printable(line)}".rstrip() for line in difference.splitlines()]
    return "\n".join(lines) + "\n"


def _write_artifacts(folder: str, result: golden.CaseResult) -> None:
    from npuc.compiler.inspect.diff.html import render_html

    for found in result.files:
        if found.status == golden.SAME:
            continue
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder: {error.strerror}", place=folder) from error
        write_bytes(os.path.join(folder, found.file), found.new)
        if found.report is not None:
            write_bytes(os.path.join(folder, f"{found.file}.html"), render_html(found.report).encode())
        elif found.text:
            write_bytes(os.path.join(folder, f"{found.file}.diff"), f"{found.text}\n".encode())
