"""Attention -> Plan: tile sizes and columns by the cost model, work dealt out, memory maps laid down."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import ResourceError, UsageError
from npuc.passes.array.design import core_locks, relay_buffers, relay_locks
from npuc.passes.array.fifo import Fifo
from npuc.passes.array.target import NPU1, Costs
from npuc.passes.attention import integer_memory, memory
from npuc.passes.attention.call import Call, call_of, with_default_sizes
from npuc.passes.attention.cost import Tiles, estimate
from npuc.passes.attention.grouped import grouped_call
from npuc.passes.attention.image_class import bounded_softcap
from npuc.passes.attention.masks import mask_parts
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan
from npuc.passes.attention.predict import predicted_cycles
from npuc.passes.attention.shares import reads_allowed, shared_work
from npuc.passes.attention.streams import START, integer_streams, most_kept, streams
from npuc.passes.attention.work import Work
from npuc.passes.options import Options

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

KEY_BLOCK = 32
KEY_BLOCK_OF_WIDE_HEADS = 16  # beyond 144, where core memory holds twice as many queries then
WIDE_HEAD = 144
INTEGER_KEY_BLOCK = 64
INTEGER_WIDE_HEAD = 128  # beyond, KEY_BLOCK
HEAD_UNIT = 8  # elements; the runtime pads other head sizes
QUERY_BLOCK_UNIT = 8
QUERY_BLOCK_LIMIT = 64
CLOSE, MOST_FOLLOWED = 1.04, 3  # choices whose sequences are followed
LEFT = 0.98
OPTION_KEYS = ("query_block", "group_columns", "split", "kept")


@dataclass(frozen=True)
class Candidate:
    """A choice that the planner could make: columns and options as `npuc compile` takes them. predicted: cycles on the
    machine that was asked about."""

    columns: int
    options: Mapping[str, str]
    predicted: int


def make_plan(attention: Attention, options: Options) -> Plan:
    """The plan with the least estimated cycles, of those within CLOSE of these the one whose sequence takes the least;
    ties go to more queries a core, then to fewer columns.

    K and V are read once for REUSED_ROWS rows of all query heads that share them, or all there are.  Open lengths are
    planned with usual ones.  Raises UsageError for impossible options, ResourceError when no tile fits the memories.
    """
    return _best_first(with_default_sizes(attention), options)[0][1]


def candidates(attention: Attention, count: int, costs: Costs = NPU1.costs) -> list[Candidate]:
    """What the planner could choose, best first by its own order, which is that of the target; the first is its choice.

    costs: of the machine for which cycles are predicted. Raises as `make_plan`.
    """
    attention, options = with_default_sizes(attention), Options()
    found = []
    near = [tiles for tiles, _ in _best_first(attention, options)]
    others = [tiles for tiles in _ranked(attention, options) if tiles not in near]
    for tiles in (near + others)[:count]:
        predicted = predicted_cycles(_plan(tiles, call_of(attention)), attention, costs=costs)
        chosen = {"query_block": tiles.query_block, "group_columns": tiles.group_columns, "split": int(tiles.split)}
        chosen |= {"kept": 1} if tiles.kept else {}
        options_of = {key: str(value) for key, value in chosen.items()}
        found.append(Candidate(tiles.columns, options_of, predicted))
    return found


def _best_first(attention: Attention, options: Options) -> list[tuple[Tiles, Plan]]:
    """The best choices, whose costs are close by the model of terms, in the order of what their sequences take; the
    first of that model stays so if no other on as many columns takes less by the error that is left."""
    call, ranked = call_of(attention), _ranked(attention, options)
    rereads, cost, *_ = _rank(ranked[0], call)
    ranks = [(tiles, _rank(tiles, call)) for tiles in ranked[:MOST_FOLLOWED]]
    columns = ranked[0].columns
    near = [t for t, rank in ranks if rank[0] == rereads and rank[1] <= CLOSE * cost and t.columns == columns]
    plans = [(tiles, _predicted(tiles, attention, options)) for tiles in near]
    return sorted(plans, key=lambda one: one[1].estimate.total * (LEFT if one[0] == ranked[0] else 1.0))


def _ranked(attention: Attention, options: Options) -> list[Tiles]:
    call = call_of(attention)
    capped = dict(capped=attention.softcap is not None, bounded=bounded_softcap(attention))
    kind = dict(recipe=attention.recipe, **capped, **numbers(attention))
    sizes = (_head(attention), _key_block(attention), mask_parts(attention))
    integer = attention.precision == "int8"
    choices = [
        Tiles(sizes[0], query_block, sizes[1], columns, group_columns, sizes[2], split, **kind)  # type: ignore[arg-type]
        for split in _splits(attention, options)
        for query_block in _query_blocks(attention, options)
        for columns in _column_counts(options)
        for group_columns in _group_sizes(columns, options)
        if not (integer and group_columns * CORES_PER_COLUMN * query_block % sizes[1])  # Q comes in blocks of keys
    ]
    choices = [each for tiles in choices for each in _keeping(tiles, call, options)]
    if not choices:
        raise UsageError("int8: rows of an item are no multiple of a block of keys", remedy="a larger query_block")
    return sorted(choices, key=lambda tiles: _rank(tiles, call))


def _predicted(tiles: Tiles, attention: Attention, options: Options) -> Plan:
    """The plan of these tiles, with the cycles that its sequence takes by the model."""
    plan = _plan(tiles, call_of(attention))
    total = predicted_cycles(plan, attention, options.options.get("sequence", "default"))
    return replace(plan, estimate=replace(plan.estimate, total=total))


def numbers(attention: Attention) -> dict[str, str]:
    """Precision and element type of the result, as plans have them."""
    integer = attention.precision == "int8"
    output = "i8" if integer and attention.argument("out").dtype == "i8" else "bf16"
    return {"precision": attention.precision, "output": output}


def _group_sizes(columns: int, options: Options) -> list[int]:
    possible = [size for size in (1, 2, 4) if columns % size == 0]
    wanted = options.options.get("group_columns")
    if wanted is None:
        return possible
    if not wanted.isdecimal() or int(wanted) not in possible:
        raise UsageError(f"group_columns={wanted}: possible are {', '.join(map(str, possible))}")
    return [int(wanted)]


def _splits(attention: Attention, options: Options) -> list[bool]:
    """Whether K and V may have a channel each: where there is no mask, whose rows want one."""
    possible = {"0": False} | ({} if attention.mask is not None else {"1": True})
    if attention.precision == "int8":
        possible = {"1": True}
    wanted = options.options.get("split")
    if wanted is None:
        return list(possible.values())
    if wanted not in possible:
        raise UsageError(f"split={wanted}: possible are {', '.join(possible)}")
    return [possible[wanted]]


def _keeping(tiles: Tiles, call: Call, options: Options) -> Iterator[Tiles]:
    """The tiles, and where that serves the call, the same with K and V kept in the memory tiles."""
    wanted = options.options.get("kept")
    if wanted not in (None, "0", "1"):
        raise UsageError(f"kept={wanted}: possible are 0, 1")
    if wanted != "1":
        yield tiles
    if tiles.split and wanted != "0":
        kept = replace(tiles, kept=most_kept(_streams(tiles), NPU1))
        if wanted == "1" or _work(kept, call).by_heads:
            yield kept


def _streams(tiles: Tiles) -> tuple[Fifo, ...]:
    sizes = (tiles.head_dim, tiles.query_block, tiles.key_block)
    if tiles.precision == "int8":
        return integer_streams(*sizes, tiles.output, kept=tiles.kept)
    return streams(*sizes, tiles.mask_parts, tiles.split, kept=tiles.kept)


def _work(tiles: Tiles, call: Call) -> Work:
    masked = bool(tiles.mask_parts)
    call = call if masked else grouped_call(call, tiles.rows)
    return shared_work(call, tiles.rows, tiles.query_block, tiles.key_block, tiles.groups, masked, tiles.kept)


def _rank(tiles: Tiles, call: Call) -> tuple[int, int, int, int, int]:
    work = _work(tiles, call)
    cost = estimate(tiles, work)
    rereads = max(0, work.reads - call.batch * call.kv_heads * reads_allowed(call))
    # The sequence runs beside the cores: a sixteenth of it decides between otherwise equal choices.
    return rereads, cost.total + cost.dispatch // 16, -tiles.query_block, tiles.columns, tiles.group_columns


def padded_head(head_dim: int) -> int:
    """The next size that tiles of the matrix unit have."""
    return -(-head_dim // HEAD_UNIT) * HEAD_UNIT


def _head(attention: Attention) -> int:
    """The head size that the array computes with; with a mask Q travels in blocks as wide as those of keys."""
    padded = padded_head(attention.head_dim)
    return padded if attention.mask is None else max(padded, _key_block(attention))


def _key_block(attention: Attention) -> int:
    if attention.precision == "int8":
        return INTEGER_KEY_BLOCK if padded_head(attention.head_dim) <= INTEGER_WIDE_HEAD else KEY_BLOCK
    return KEY_BLOCK if padded_head(attention.head_dim) <= WIDE_HEAD else KEY_BLOCK_OF_WIDE_HEADS


def _query_blocks(attention: Attention, options: Options) -> list[int]:
    """Allowed queries a core: multiples of 8 that fit its memory."""
    possible = list(range(QUERY_BLOCK_UNIT, QUERY_BLOCK_LIMIT + 1, QUERY_BLOCK_UNIT))
    wanted = options.options.get("query_block")
    if wanted is not None:
        if not wanted.isdecimal() or int(wanted) not in possible:
            raise UsageError(f"query_block={wanted}: possible are {', '.join(map(str, possible))}")
        possible = [int(wanted)]
    fitting, refusal = [], None
    for size in possible:
        try:
            if attention.precision == "int8":
                integer_memory.core_memory(_head(attention), size, _key_block(attention), numbers(attention)["output"])
            else:
                memory.core_memory(_head(attention), size, _key_block(attention), mask_parts(attention))
            fitting.append(size)
        except ResourceError as error:
            refusal = error
    if not fitting and refusal is not None:
        raise refusal
    return fitting


def _column_counts(options: Options) -> list[int]:
    if options.columns is None:
        return list(range(1, NPU1.columns + 1))
    if not 1 <= options.columns <= NPU1.columns:
        raise UsageError(f"{options.columns} columns: npu1 has 1 to {NPU1.columns} for a kernel")
    return [options.columns]


def _plan(tiles: Tiles, call: Call) -> Plan:
    if tiles.precision == "int8":
        sizes = (tiles.head_dim, tiles.query_block, tiles.key_block, tiles.output)
        buffers = integer_memory.core_memory(*sizes)
    else:
        bf16_sizes = (tiles.head_dim, tiles.query_block, tiles.key_block, tiles.mask_parts, tiles.split)
        buffers = memory.core_memory(*bf16_sizes)
    fifos = _streams(tiles)
    core, memtile = core_locks(fifos, (START,)), relay_locks(fifos, NPU1)
    return Plan(
        head_dim=tiles.head_dim,
        query_block=tiles.query_block,
        key_block=tiles.key_block,
        columns=tiles.columns,
        group_columns=tiles.group_columns,
        mask_parts=tiles.mask_parts,
        split=tiles.split,
        core_buffers=buffers,
        core_locks=_numbered(core),
        core_lock_initial=core,
        memtile_buffers=relay_buffers(fifos, NPU1),
        memtile_locks=_numbered(memtile),
        memtile_lock_initial=memtile,
        call=call,
        estimate=estimate(tiles, _work(tiles, call)),
        precision=tiles.precision,
        output=tiles.output,
        kept=tiles.kept,
        bounded=tiles.bounded,
    )


def _numbered(names: Iterable[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}
