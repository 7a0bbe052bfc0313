"""Faults planted in one place of a layout: each is refused, or changes all sides alike and leaves the kernel right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.array.design import Buffer, Design
from npuc.passes.array.fifo import CORES, DEVICE, Fifo
from npuc.passes.array.target import NPU1
from npuc.passes.array.tile import Order, Tile
from npuc.passes.attention import choose, memory, streams
from npuc.passes.attention.core.state import STATE
from npuc.passes.options import Options
from npuc.passes.pipeline import compile_attention
from npuc.runtime import executor
from npuc.runtime.arguments import draw, to_device
from npuc.runtime.checking import check_run

Plant = Callable[[pytest.MonkeyPatch], None]
SHAPE = Attention.make(heads=1, query_length=32, key_length=70, head_dim=32)
# Q apart, K and V on a channel each, and a mask.
PLAIN = SHAPE, "0"
SPLIT = SHAPE, "1"
MASKED = Attention.make(heads=1, query_length=32, key_length=70, head_dim=48, mask="add"), "0"


def options(split: str) -> Options:
    return Options(columns=1, options={"query_block": "8", "split": split})


def stream(name: str, **changes: Any) -> Plant:
    """Edits a stream where it is declared; a change of `tile` is one of the tile's fields."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        declared = streams.streams

        def edited(*sizes: Any, **more: Any) -> tuple[Fifo, ...]:
            def one(fifo: Fifo) -> Fifo:
                fields = dict(changes)
                if "tile" in fields:
                    fields["tile"] = replace(fifo.tile, **fields["tile"](fifo.tile))
                return replace(fifo, **fields) if fifo.name == name else fifo

            return tuple(map(one, declared(*sizes, **more)))

        for module in (streams, memory, choose):
            patch.setattr(module, "streams", edited)

    return plant


def constant(module: Any, name: str, value: Any) -> Plant:
    return lambda patch: patch.setattr(module, name, value)


def state_record(*fields: str) -> Plant:
    """Edits the declaration of what a core keeps between blocks."""
    return lambda patch: patch.setitem(STATE.__dict__, "fields", fields)


def smaller_buffer(name: str) -> Plant:
    def plant(patch: pytest.MonkeyPatch) -> None:
        sizes = memory.core_buffer_sizes
        patch.setattr(memory, "core_buffer_sizes", lambda *a: {n: s - 64 * (n == name) for n, s in sizes(*a).items()})

    return plant


REFUSED = {
    "Q tiles by columns": (PLAIN, constant(streams, "QUERY_ORDER", Order(4, 8, "cols"))),
    "Q tiles of another shape": (PLAIN, constant(streams, "QUERY_ORDER", Order(8, 4))),
    "mask tiles by columns": (MASKED, constant(streams, "MASK_ORDER", Order(4, 8, "cols"))),
    "V tiles by rows": (PLAIN, constant(streams, "VALUE_ORDER", Order(8, 4))),
    "V tiles of another shape": (PLAIN, constant(streams, "VALUE_ORDER", Order(4, 8, "cols"))),
    "K not in halves": (PLAIN, constant(streams, "key_order", lambda key_block: Order(key_block, 8))),
    "O tiles by columns": (PLAIN, constant(streams, "OUTPUT_ORDER", Order(4, 4, "cols"))),
    "tiles that cut words": (PLAIN, constant(streams, "OUTPUT_ORDER", Order(4, 1))),
    "K of another type": (PLAIN, stream("k", tile=lambda tile: {"dtype": "f32"})),
    "more keys in a block of K": (PLAIN, stream("k", tile=lambda tile: {"rows": 2 * tile.rows})),
    "fewer keys in a block of V": (PLAIN, stream("v", tile=lambda tile: {"rows": tile.rows // 2})),
    "fewer queries in a block of Q": (PLAIN, stream("q", tile=lambda tile: {"rows": tile.rows // 2})),
    "three buffers of K": (PLAIN, stream("k", depth=3)),
    "one buffer of V": (PLAIN, stream("v", depth=1)),
    "one buffer of the mask": (MASKED, stream("m", depth=1)),
    "two buffers of O": (PLAIN, stream("o", depth=2)),
    "K half way in three buffers, V in two": (PLAIN, stream("k", relay_depth=3)),
    "more descriptors than there are": (PLAIN, stream("q", relay_depth=5)),
    "Q on the channel of K and V": (PLAIN, stream("q", channel=0)),
    "V on the channel of Q": (PLAIN, stream("v", channel=1)),
    "V tiles by rows, Q in them": (SPLIT, constant(streams, "VALUE_ORDER", Order(8, 4))),
    "K not in halves, Q in it": (SPLIT, constant(streams, "key_order", lambda key_block: Order(key_block, 8))),
    "Q in blocks that no item is cut into": (SPLIT, constant(choose, "KEY_BLOCK", 64)),
    "O in pieces": (PLAIN, stream("o", pieces=2)),
    "O in more pieces than it is made in": (SPLIT, stream("o", pieces=4)),
    "K in pieces": (SPLIT, stream("k", pieces=2)),
    "no ones behind V": (PLAIN, stream("v", behind=0)),
    **{
        f"a smaller buffer {name}": (MASKED if name == "m1" else PLAIN, smaller_buffer(name))
        for name in ("q", "k0", "v1", "m1", "o", "scores", "state")
    },
}

ALIKE = {
    "nothing": (PLAIN, lambda patch: None),
    "a block of 16 keys": (PLAIN, constant(choose, "KEY_BLOCK", 16)),
    "a block of 16 keys and a mask": (MASKED, constant(choose, "KEY_BLOCK", 16)),
    "a block of 16 keys, Q in two of each": (SPLIT, constant(choose, "KEY_BLOCK", 16)),
    "O in one buffer half way": (PLAIN, stream("o", relay_depth=1)),
    "K in four buffers half way": (SPLIT, stream("k", relay_depth=4)),
    "mask in one buffer half way": (MASKED, stream("m", relay_depth=1)),
    "state the other way round": (PLAIN, state_record("unseen", "reference")),
    "buffers in another order": (PLAIN, constant(memory, "ORDER", ("q", "o", "k1", "v1", "k0", "v0", "scores"))),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_layout_that_one_side_does_not_share_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (attention, split), plant = REFUSED[fault]
    plant(monkeypatch)
    with pytest.raises(ResourceError) as refusal:
        compile_attention(attention, options(split))
    print(refusal.value)


@pytest.mark.parametrize("change", ALIKE)
def test_a_layout_that_changes_on_all_sides_alike_gives_a_right_kernel(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (attention, split), plant = ALIKE[change]
    plant(monkeypatch)
    kernel = compile_attention(attention, options(split)).xclbin
    loaded = executor.load(kernel, backend="emulator", fallback=(), strict=True, engine="interpreter")
    given = draw(loaded.kernel.arguments, 0)
    result = loaded.run(given)["o"]
    seen = {argument.name: to_device(argument, given[argument.name]) for argument in loaded.kernel.inputs}
    assert check_run(loaded.kernel, seen, result, 0).passed


BLOCK = Tile(8, 32, "bf16", Order(4, 8))
IN, OUT = Fifo("x", BLOCK, 1), Fifo("y", BLOCK, 1, producer=CORES, consumers=DEVICE, dealt=True)
BUFFERS = {"x": Buffer(0, 512), "y": Buffer(512, 512)}


def designed(*fifos: Fifo, buffers: dict[str, Buffer] = BUFFERS, columns: int = 1, signals: int = 1) -> Design:
    names = tuple(f"signal{number}" for number in range(signals))
    return Design(NPU1, columns, fifos or (IN, OUT), buffers, names, {})


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: designed(IN, replace(OUT, name="x")),
        lambda: designed(IN, OUT, replace(OUT, name="z"), buffers=BUFFERS | {"z": Buffer(1024, 512)}),
        lambda: designed(buffers={"x": Buffer(0, 512)}),
        lambda: designed(buffers=BUFFERS | {"y": Buffer(448, 512)}),
        lambda: designed(buffers=BUFFERS | {"y": Buffer(520, 512)}),
        lambda: designed(buffers=BUFFERS | {"y": Buffer(65536 - 448, 512)}),
        lambda: designed(columns=5),
        lambda: designed(replace(IN, columns=2), OUT, columns=3),
        lambda: designed(signals=13),
        lambda: designed(replace(IN, relay_depth=1025), OUT),
        lambda: replace(IN, depth=0),
        lambda: replace(IN, channel=2),
        lambda: replace(IN, producer=CORES),
        lambda: replace(OUT, dealt=False),
        lambda: Tile(6, 8, "bf16", Order(4, 8)),
        lambda: Tile(4, 3, "bf16"),
    ],
)
def test_designs_that_contradict_themselves_or_the_target_are_resource_errors(wrong: Callable[[], object]) -> None:
    designed()
    with pytest.raises(ResourceError):
        wrong()


@pytest.mark.parametrize("order", [None, Order(4, 8), Order(8, 4, "cols"), Order(16, 2), Order(2, 16, "cols")])
def test_the_descriptor_of_a_tile_passes_its_numbers_in_the_order_of_their_places(order: Order | None) -> None:
    tile = Tile(16, 48, "bf16", order)
    places = {tile.place(row, col): (row, col) for row in range(16) for col in range(48)}
    assert sorted(places) == list(range(0, tile.nbytes, 2))
    passed = []
    for position in range(tile.words):
        address, rest = 0, position
        for wrap, step in ((d.wrap, d.step) for d in tile.dimensions()):
            address, rest = address + (rest % wrap if wrap else rest) * step, rest // wrap if wrap else 0
        word = address if tile.dimensions() else position
        passed += [divmod(2 * word + half, tile.cols) for half in range(2)]
    assert [places[2 * number] for number in range(len(passed))] == passed
