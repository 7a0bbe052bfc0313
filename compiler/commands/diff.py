"""npuc diff."""

from __future__ import annotations

import json
import sys

import click

from npuc.compiler.diagnostics import CheckFailed
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.outputs import check_outputs


def _kinds(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The kinds that `--ignore` names, in the order of KINDS."""
    from npuc.compiler.inspect.diff.ignored import KINDS

    named = [] if value is None else [kind.strip() for kind in value.split(",")]
    unknown = [kind for kind in named if kind not in KINDS]
    if unknown:
        raise click.BadParameter(f"{unknown[0]!r} is none of {', '.join(KINDS)}", context, parameter)
    return tuple(kind for kind in KINDS if kind in named)


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--ignore", metavar="uuid,time", callback=_kinds,
              help="What does not count: identities (uuid), times (time), or both.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
@click.option("--html", metavar="OUT.html", help="Also write the report as one self-contained page.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=20, show_default=True,
              help="Differences of a section that the text shows; 0 shows all.")  # fmt: skip
def command(a: str, b: str, ignore: tuple[str, ...], as_json: bool, html: str | None, limit: int) -> None:
    """Say what differs between two binaries: xclbin, pdi, cdo, txn, npua (1 and 2) or elf, other tools' included.

    Section by section, registers by field, core programs instruction by instruction. A difference that only follows
    from others (a length, an offset, a hash) is named last. Exit code 0: no byte differs, or those alone that are
    ignored, which is said; 1: others do; 3: a file cannot be read.

    JSON: identical, differences (their number), ignored{kinds, differences}, a and b {file, format, bytes, sha256},
    sections[{name, status, note, differences[{place, change, before, after, note, derived, lines, ignored}]}]. status:
    identical, changed, added, removed, reordered, derived where all of a section follows from others, or ignored;
    change: changed, added, removed, reordered; lines: a text diff of instructions.
    """
    from npuc.compiler.inspect.diff.compare import compare
    from npuc.compiler.inspect.diff.html import render_html
    from npuc.compiler.inspect.diff.text import render

    check_outputs([a, b], {"--html": html, "--json": "-" if as_json else None})
    report = compare(read_bytes(a), read_bytes(b), (a, b), ignore)
    if html is not None:
        write_bytes(html, render_html(report).encode())
    if as_json:
        click.echo(json.dumps(report.to_json()))
    elif html != "-":
        sys.stdout.write(render(report, limit))
    if not report.identical:
        raise CheckFailed(f"{a} and {b} differ")
