"""The memory map of core tiles for one choice of tile sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.design import ALIGNMENT
from npuc.passes.array.target import NPU1
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.core.state import STATE
from npuc.passes.attention.plan import ELEMENT_BYTES, Buffer
from npuc.passes.attention.streams import streams

BANK = NPU1.core_bank
CONSTANT_BYTES = 1024

# In address order, with the bank boundary a buffer lies across or the bank it begins in.  What one bundle may access
# together lies in different banks then: the two halves of a block of K, these and Q, and V and O.
ORDER = ("scores", "v0", "k0", "v1", "k1", "o", "q")
ACROSS = {"k0": 1 * BANK, "k1": 2 * BANK}
NOT_BEFORE = {"q": 3 * BANK}
FILLERS = ("m0", "m1", "state", "constants", "heads")
MASK_BUFFERS, INTEGER_BUFFERS = {"m0", "m1"}, {"heads"}


def core_buffer_sizes(
    head_dim: int, query_block: int, key_block: int, mask_parts: int = 0, split: bool = False
) -> dict[str, int]:
    """Bytes of each core buffer: those of the streams, and the program's own.

    constants: the parameters of a call before them, as one pointer reaches both.  q: Q turned, a buffer that a stream
    fills only where Q comes as a whole.  o: fp32 accumulators in 4x4 tiles, one column of tiles for the row sums; the
    bf16 result is left compacted at its start.  state: a record for each four rows (running maximum and rescaling).
    """
    fifos = streams(head_dim, query_block, key_block, mask_parts, split)
    filled = {slot.buffer: fifo.core_buffer_bytes for fifo in fifos for slot in fifo.core_slots()}
    return {
        "constants": PARAMETER_BYTES + CONSTANT_BYTES,
        "q": query_block * head_dim * ELEMENT_BYTES,
        **filled,
        "scores": query_block * key_block * 4,
        "o": query_block // 4 * (head_dim // 4 + 1) * 64,
        "state": query_block // 4 * STATE.nbytes,
    }


def aligned(address: int, unit: int) -> int:
    """The next multiple of `unit`."""
    return -(-address // unit) * unit


def across(sizes: Mapping[str, int]) -> dict[str, int]:
    """Where buffers begin that lie across a bank boundary with half of themselves on each side."""
    return {name: boundary - sizes[name] // 2 for name, boundary in ACROSS.items()}


def _place(sizes: Mapping[str, int], wishes: Mapping[str, int], order: Sequence[str]) -> dict[str, Buffer]:
    """Those of `order` one behind the other, none before the address wished for; fillers into the first gap that holds
    them."""
    placed: dict[str, Buffer] = {}
    end = 0
    for name in order:
        placed[name] = Buffer(aligned(max(end, wishes.get(name, 0)), ALIGNMENT), sizes[name])
        end = placed[name].end
    for name in (filler for filler in FILLERS if filler in sizes and filler not in placed):
        placed[name] = Buffer(_first_gap(placed, sizes[name]), sizes[name])
    place = placed["constants"].address
    return {
        "params": Buffer(place, PARAMETER_BYTES),
        **placed,
        "constants": Buffer(place + PARAMETER_BYTES, sizes["constants"] - PARAMETER_BYTES),
    }


def _first_gap(placed: Mapping[str, Buffer], size: int) -> int:
    address = 0
    for buffer in sorted(placed.values()):
        if address + size <= buffer.address:
            return address
        address = max(address, aligned(buffer.end, ALIGNMENT))
    return address


def core_memory(
    head_dim: int, query_block: int, key_block: int, mask_parts: int = 0, split: bool = False
) -> dict[str, Buffer]:
    """Spread over the four compiler banks where that fits, else without gaps.

    Raises ResourceError naming the first buffer beyond the 64 KiB.
    """
    sizes = core_buffer_sizes(head_dim, query_block, key_block, mask_parts, split)
    return laid_out(
        sizes,
        {*ORDER, *FILLERS} - INTEGER_BUFFERS - (set() if mask_parts else MASK_BUFFERS),
        f"{query_block} queries of head size {head_dim} with blocks of {key_block} keys",
        ORDER,
        ({**across(sizes), **NOT_BEFORE}, {}),
    )


def laid_out(
    sizes: Mapping[str, int],
    names: set[str],
    of_what: str,
    order: Sequence[str],
    choices: Sequence[Mapping[str, int]],
) -> dict[str, Buffer]:
    """Buffers of those sizes, which must be those named, in that order.

    choices: addresses before which buffers are not to begin; the first with which all fit is taken.
    """
    unplaced = set(sizes) ^ names
    if unplaced:
        raise ResourceError(f"the streams' buffers are not those of the memory map: {', '.join(sorted(unplaced))}")
    for wishes in choices:
        placed = _place(sizes, wishes, order)
        if all(buffer.end <= NPU1.core_memory for buffer in placed.values()):
            return {name: placed[name] for name in ("params", *sizes)}
    beyond = next(name for name in sizes if placed[name].end > NPU1.core_memory)
    raise ResourceError(
        f"core data memory holds {NPU1.core_memory:,} bytes, {of_what} need {sum(sizes.values()):,}: "
        f"{beyond} ({sizes[beyond]:,}) does not fit",
        remedy="fewer queries a core: --option query_block=N",
    )
