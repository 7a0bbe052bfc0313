"""npuc sequence."""

from __future__ import annotations

import sys

import click

from npuc.compiler.commands.run import sizes_of
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.outputs import check_outputs


@click.command("sequence")
@click.argument("file", metavar="KERNEL")
@click.option("--kernel", metavar="NAME", help="Which kernel, of several.")
@click.option("--dim", "dims", metavar="S=N", multiple=True, help="A length that the file left open; repeatable.")
@click.option("-o", "--output", metavar="insts.bin", required=True, help="Where to; - is standard output.")
def command(file: str, kernel: str | None, dims: tuple[str, ...], output: str) -> None:
    """Write the instruction stream of a call of KERNEL (.xclbin or .npua), for hosts that are not npuc.

    Data buffers are dense and row-major, in the order of the arguments as `inspect` shows them; head sizes that are not
    multiples of 8 are padded to one. A mask's buffer is the copy that passes/attention/masks.py describes; with a mask,
    rows have as many elements as a block has keys at least, and Q and the result as many rows as a work item.
    """
    from npuc.passes.attention.sequence import length_warnings
    from npuc.runtime.kernel_file import read_kernel

    check_outputs([file], {"-o": output})
    found = read_kernel(read_bytes(file), file, kernel).closed(sizes_of(dims))
    stream = found.sequence()
    for warning in length_warnings(len(stream)):
        print(f"warning: {warning}", file=sys.stderr)
    write_bytes(output, stream)
