"""npuc disasm."""

from __future__ import annotations

import click

from npuc.compiler.commands.core_option import CoreNumber


@click.command("disasm")
@click.argument("file", metavar="FILE")
@click.option("--core", type=CoreNumber(), metavar="COL,ROW", help="This core only (in every PDI that has it).")
@click.option("--pdi", type=click.IntRange(0), metavar="N", help="This PDI of an xclbin only.")
@click.option("-o", "--output", metavar="OUT", default="-", help="Where to (default: standard output).")
@click.option("--raw", is_flag=True, help="FILE is bare code from program address 0.")
def command(file: str, core: tuple[int, int] | None, pdi: int | None, output: str, raw: bool) -> None:
    """Print the core programs of FILE as assembly text: an xclbin, pdi, cdo, npua with PDI, ELF, relocatable object or
    archive of objects.

    One line a bundle, with all slots of its format; `npuc asm` takes the text back to the same bytes. Bytes that are no
    instructions stand as `.byte` lines with the reason beside them. Of control-code ELFs and ELFs of other machines the
    sections, symbols and relocations are told, as comments.
    """
    from npuc.compiler.asm.listing import list_file
    from npuc.compiler.files import read_bytes, write_bytes
    from npuc.compiler.inspect.show import holds_tables_only, show_as_comments
    from npuc.compiler.outputs import check_outputs

    check_outputs([file], {"-o": output})
    data, name = read_bytes(file), "<stdin>" if file == "-" else file
    if not raw and core is None and pdi is None and holds_tables_only(data):
        text = show_as_comments(data, name)
    else:
        text = list_file(data, name, core, pdi, raw)
    write_bytes(output, text.encode())
