"""npuc inspect."""

from __future__ import annotations

import sys

import click


@click.command("inspect")
@click.argument("file", metavar="FILE")
@click.option("--json", "as_json", is_flag=True, help="The description as JSON.")
def command(file: str, as_json: bool) -> None:
    """Show what FILE holds: an xclbin, pdi, cdo, txn, npua (1 and 2) or elf, told by its content.

    JSON: file, format, bytes, sha256, and what the format has: the sections and kernels of an xclbin, the tiles a PDI
    or CDO writes, the operations of a TXN, the metadata and runtime sequence of an NPUA, the symbols of an ELF.
    """
    from npuc.compiler.inspect.show import show

    sys.stdout.write(show(file, as_json).rstrip("\n") + "\n")
