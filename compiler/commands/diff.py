"""npuc diff."""

from __future__ import annotations

import json
import sys

import click

from npuc.compiler.diagnostics import CheckFailed
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.outputs import check_outputs


@click.command("diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
@click.option("--html", metavar="OUT.html", help="Also write the report as one self-contained page.")
@click.option("--limit", metavar="N", type=click.IntRange(min=0), default=20, show_default=True,
              help="Differences of a section that the text shows; 0 shows all.")  # fmt: skip
def command(a: str, b: str, as_json: bool, html: str | None, limit: int) -> None:
    """Say what differs between two binaries: xclbin, pdi, cdo, txn, npua (1 and 2) or elf, other tools' included.

    Section by section, registers by field, core programs instruction by instruction. A difference that only follows
    from others (a length, an offset, a hash) is named last. Exit code 0: no byte differs; 1: some do; 3: a file cannot
    be read.

    JSON: identical, differences (their number), a and b {file, format, bytes, sha256}, sections[{name, status, note,
    differences[{place, change, before, after, note, derived, lines}]}]. status: identical, changed, added, removed,
    reordered, or derived where all of a section follows from others; change: changed, added, removed, reordered; lines:
    a text diff of instructions.
    """
    from npuc.compiler.inspect.diff.compare import compare
    from npuc.compiler.inspect.diff.html import render_html
    from npuc.compiler.inspect.diff.text import render

    check_outputs([a, b], {"--html": html, "--json": "-" if as_json else None})
    report = compare(read_bytes(a), read_bytes(b), (a, b))
    if html is not None:
        write_bytes(html, render_html(report).encode())
    if as_json:
        click.echo(json.dumps(report.to_json()))
    elif html != "-":
        sys.stdout.write(render(report, limit))
    if not report.identical:
        raise CheckFailed(f"{a} and {b} differ")
