"""Memory maps and locks of core tiles and memory tiles for one choice of tile sizes."""

from __future__ import annotations

from collections.abc import Mapping

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, Buffer

ALIGNMENT = 64  # one 512-bit vector
BANK = geometry.CORE_MEMORY_SIZE // geometry.CORE_COMPILER_BANKS  # 256-bit accesses occupy both 8 KiB siblings
CONSTANT_BYTES = 1024

# In address order, with the bank boundary a buffer lies across or the bank it begins in.  What one bundle may access
# together lies in different banks then: the two halves of a block of K, these and Q, and V and O.
ORDER = ("scores", "v0", "k0", "v1", "k1", "o", "q")
ACROSS = {"k0": 1 * BANK, "k1": 2 * BANK}
NOT_BEFORE = {"q": 3 * BANK}
FILLERS = ("m0", "m1", "state", "constants")


def core_buffer_sizes(head_dim: int, query_block: int, key_block: int, mask_parts: int = 0) -> dict[str, int]:
    """Bytes of each core buffer.

    constants: the parameters of a call before them, as one pointer reaches both.  v*: one block and, behind it, the
    constant tile of ones for the row sums, which no DMA writes (64 bytes for every 8 keys).  o: fp32 accumulators in
    4x4 tiles, one column of tiles for the row sums; the bf16 result is left compacted at its start.  state: 192 bytes
    for each four rows (running maximum and rescaling).  m*, where there is a mask: a block of it, or of Q's columns.
    """
    masks = dict.fromkeys(("m0", "m1"), query_block * key_block * ELEMENT_BYTES) if mask_parts else {}
    key_bytes = key_block * head_dim * ELEMENT_BYTES
    value_bytes = key_bytes + key_block // 8 * 64
    return {
        "constants": PARAMETER_BYTES + CONSTANT_BYTES,
        "q": query_block * head_dim * ELEMENT_BYTES,
        "k0": key_bytes,
        "k1": key_bytes,
        "v0": value_bytes,
        "v1": value_bytes,
        "scores": query_block * key_block * 4,
        "o": query_block // 4 * (head_dim // 4 + 1) * 64,
        "state": query_block // 4 * 192,
        **masks,
    }


def _aligned(address: int, unit: int) -> int:
    return -(-address // unit) * unit


def _wished(name: str, size: int) -> int:
    return ACROSS[name] - size // 2 if name in ACROSS else NOT_BEFORE.get(name, 0)


def _place(sizes: Mapping[str, int], wishes: Mapping[str, int]) -> dict[str, Buffer]:
    """ORDER one behind the other, none before the address wished for; fillers into the first gap that holds them."""
    placed: dict[str, Buffer] = {}
    end = 0
    for name in ORDER:
        placed[name] = Buffer(_aligned(max(end, wishes.get(name, 0)), ALIGNMENT), sizes[name])
        end = placed[name].end
    for name in (filler for filler in FILLERS if filler in sizes):
        placed[name] = Buffer(_first_gap(placed, sizes[name]), sizes[name])
    place = placed["constants"].address
    return {
        "params": Buffer(place, PARAMETER_BYTES),
        **placed,
        "constants": Buffer(place + PARAMETER_BYTES, CONSTANT_BYTES),
    }


def _first_gap(placed: Mapping[str, Buffer], size: int) -> int:
    address = 0
    for buffer in sorted(placed.values()):
        if address + size <= buffer.address:
            return address
        address = max(address, _aligned(buffer.end, ALIGNMENT))
    return address


def core_memory(head_dim: int, query_block: int, key_block: int, mask_parts: int = 0) -> dict[str, Buffer]:
    """Core memory map, spread over the four compiler banks where that fits, else without gaps.

    Raises ResourceError naming the first buffer beyond the 64 KiB.
    """
    sizes = core_buffer_sizes(head_dim, query_block, key_block, mask_parts)
    spread = {name: _wished(name, size) for name, size in sizes.items()}
    for wishes in (spread, {}):
        placed = _place(sizes, wishes)
        if all(buffer.end <= geometry.CORE_MEMORY_SIZE for buffer in placed.values()):
            return {name: placed[name] for name in ("params", *sizes)}
    beyond = next(name for name in sizes if placed[name].end > geometry.CORE_MEMORY_SIZE)
    raise ResourceError(
        f"core data memory holds {geometry.CORE_MEMORY_SIZE:,} bytes, {query_block} queries of head size {head_dim} "
        f"with blocks of {key_block} keys need {sum(sizes.values()):,}: {beyond} ({sizes[beyond]:,}) does not fit",
        remedy="fewer queries a core: --option query_block=N",
    )


def core_locks(mask_parts: int = 0) -> tuple[dict[str, int], dict[str, int]]:
    """(name -> id, name -> initial value) of a core tile's locks."""
    rows = {"m_empty": 2, "m_full": 0} if mask_parts else {"q_empty": 1, "q_full": 0}
    initial = {"k_empty": 2, "k_full": 0, "v_empty": 2, "v_full": 0, **rows, "o_empty": 1, "o_full": 0, "start": 0}
    return {name: lock for lock, name in enumerate(initial)}, initial


def memtile_memory(head_dim: int, query_block: int, key_block: int, mask_parts: int = 0) -> dict[str, Buffer]:
    """Memory tile map: rings of two for K and V, two buffers per core for Q (or blocks of it and the mask) and for O.

    Raises ResourceError when the 512 KiB do not hold them.
    """
    key_bytes = key_block * head_dim * ELEMENT_BYTES
    query_bytes = query_block * head_dim * ELEMENT_BYTES
    sizes = {name: key_bytes for name in ("k0", "k1", "v0", "v1")}
    row_bytes = query_block * key_block * ELEMENT_BYTES if mask_parts else query_bytes
    for half in range(2):
        sizes.update({f"{rows_stream(mask_parts)}{core}.{half}": row_bytes for core in range(CORES_PER_COLUMN)})
    for half in range(2):
        sizes.update({f"o{core}.{half}": query_bytes for core in range(CORES_PER_COLUMN)})
    placed: dict[str, Buffer] = {}
    end = 0
    for name, size in sizes.items():
        placed[name] = Buffer(_aligned(end, ALIGNMENT), size)
        end = placed[name].end
    if end > geometry.MEMTILE_MEMORY_SIZE:
        raise ResourceError(f"memory tile holds {geometry.MEMTILE_MEMORY_SIZE:,} bytes, the kernel needs {end:,}")
    return placed


def rows_stream(mask_parts: int) -> str:
    """What the stream of each core's own rows is called: Q's, or the mask's that carries Q too."""
    return "m" if mask_parts else "q"


def memtile_locks(mask_parts: int = 0) -> tuple[dict[str, int], dict[str, int]]:
    """(name -> id, name -> initial value) of a memory tile's locks."""
    rows = rows_stream(mask_parts)
    initial = {"k_empty": 2, "k_full": 0, "v_empty": 2, "v_full": 0}
    for core in range(CORES_PER_COLUMN):
        initial.update({f"{rows}{core}_empty": 2, f"{rows}{core}_full": 0, f"o{core}_empty": 2, f"o{core}_full": 0})
    return {name: lock for lock, name in enumerate(initial)}, initial
