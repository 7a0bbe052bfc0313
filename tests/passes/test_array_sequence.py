"""The runtime sequence: what it moves, and that it never overtakes queues, descriptors or tokens."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit import txn
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.sequence import BufferNumbers, runtime_sequence
from npuc.passes.options import Options

Q, K, V, OUT = range(4)
CHANNELS = {
    geometry.channel_queue_offset("shim", direction, number): (direction, number)
    for direction in geometry.DIRECTIONS
    for number in range(2)
}
SHAPES = [
    dict(heads=1, query_length=64, head_dim=64),
    dict(heads=9, query_length=64, key_length=96, head_dim=128, kv_heads=3),
    dict(heads=3, query_length=320, head_dim=64, batch=2),
    dict(heads=5, query_length=64, key_length=4096 + 32, head_dim=64),
    dict(heads=5, query_length=64, key_length=8192, head_dim=128),
]


def planned(shape: dict[str, int], columns: int | None = None) -> Plan:
    return make_plan(Attention.make(**shape), Options(columns=columns))  # type: ignore[arg-type]


class Replay:
    """Follows a sequence as the shims would: every task a list of (argument, first byte, bytes) it moves."""

    def __init__(self, plan: Plan) -> None:
        self.descriptors: dict[tuple[int, int], dict[str, int]] = {}
        self.patches: dict[tuple[int, int], tuple[int, int]] = {}
        self.under_way: dict[int, list[set[int]]] = defaultdict(list)  # per column: descriptors of unfinished items
        self.pushed: Counter[tuple[int, str, int]] = Counter()
        self.items: dict[int, int] = defaultdict(int)
        self.moved: dict[tuple[str, int], list[tuple[int, int, int]]] = defaultdict(list)
        self.params: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        self.plan = plan
        for operation in runtime_sequence(plan, BufferNumbers(Q, K, V, OUT)).operations:
            self.step(operation)

    def step(self, operation: txn.Operation) -> None:
        if isinstance(operation, txn.Sync):
            assert (operation.row, operation.direction, operation.channel) == (0, 0, 0)
            self.under_way[operation.column].pop(0)
            return
        column, row, offset = geometry.split_address(operation.address)  # type: ignore[union-attr]
        if isinstance(operation, txn.BlockWrite):
            number = (offset - geometry.bd_offset("shim", 0)) // geometry.BD_STRIDE
            self.descriptors[column, number] = geometry.unpack_bd("shim", operation.words)
            self.patches.pop((column, number), None)
            current = self.under_way[column]
            assert not any(number in item for item in current[:-1]), "descriptor of an unfinished item rewritten"
        elif isinstance(operation, txn.DdrPatch):
            number = (offset - 4 - geometry.bd_offset("shim", 0)) // geometry.BD_STRIDE
            self.patches[column, number] = (operation.argument, operation.offset)
        elif isinstance(operation, txn.Write) and row == 0:
            self.push(column, *CHANNELS[offset], operation.value)
        elif isinstance(operation, txn.Write):
            self.params[column, row][offset] = operation.value

    def push(self, column: int, direction: str, channel: int, word: int) -> None:
        first, repeat, token = geometry.split_queue_word("shim", word)
        if direction == "s2mm":  # an item begins with its output
            assert token
            self.under_way[column].append(set())
            self.pushed[column, "mm2s", 0] = 0
        chain = [first]
        while self.descriptors[column, chain[-1]]["use_next"]:
            chain.append(self.descriptors[column, chain[-1]]["next_bd"])
        assert not any(set(chain) & item for item in self.under_way[column])
        self.under_way[column][-1] |= set(chain)
        self.pushed[column, direction, channel] += 1
        for number in range(repeat):
            for descriptor in chain:
                fields = self.descriptors[column, descriptor]
                argument, offset = self.patches[column, descriptor]
                step = fields["iteration_step"] + 1 if fields["iteration_wrap"] else 0
                assert number <= fields["iteration_wrap"]
                moved = (argument, offset + 4 * number * step, 4 * fields["length"])
                self.moved[f"{direction}{channel}", column].append(moved)
        pushes = self.pushed[column, "mm2s", 0]
        assert len(self.under_way[column]) * max(1, pushes) <= geometry.CHANNEL_QUEUE_DEPTH


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("columns", [None, 1])
def test_output_and_queries_are_moved_once_each_and_alike(shape: dict[str, int], columns: int | None) -> None:
    plan = planned(shape, columns)
    replay = Replay(plan)
    total = plan.batch * plan.heads * plan.query_length * plan.head_dim * 2
    for channel, argument in (("s2mm0", OUT), ("mm2s1", Q)):
        pieces = sorted(p for column in range(plan.columns) for p in replay.moved[channel, column])
        end = 0
        for piece in pieces:
            assert piece[0] == argument and piece[1] == end
            end += piece[2]
        assert end == total
    for column in range(plan.columns):
        starts = [[piece[1] for piece in replay.moved[channel, column]] for channel in ("s2mm0", "mm2s1")]
        assert starts[0] == starts[1]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_each_item_gets_all_key_and_value_blocks_of_its_head_in_turn(shape: dict[str, int]) -> None:
    plan = planned(shape)
    replay = Replay(plan)
    for column, items in enumerate(plan.items):
        expected = []
        for item in items:
            head = (item.batch * plan.kv_heads + item.kv_head) * plan.key_length * plan.head_dim * 2
            for block in range(plan.key_blocks):
                place = head + block * plan.key_bytes
                expected += [(K, place, plan.key_bytes), (V, place, plan.key_bytes)]
        assert replay.moved["mm2s0", column] == expected


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_token_is_waited_for(shape: dict[str, int]) -> None:
    plan = planned(shape)
    assert not any(Replay(plan).under_way.values())
    operations = runtime_sequence(plan, BufferNumbers(Q, K, V, OUT)).operations
    syncs = Counter(operation.column for operation in operations if isinstance(operation, txn.Sync))
    assert syncs == {column: len(items) for column, items in enumerate(plan.items)}


def test_each_core_gets_its_parameters_and_one_start() -> None:
    plan = planned(dict(heads=5, query_length=64, head_dim=64))
    params = Replay(plan).params
    assert set(params) == {(column, row) for column in range(plan.columns) for row in geometry.CORE_ROWS}
    for (column, _), written in params.items():
        start = geometry.lock_offset("core", plan.core_locks["start"])
        place = plan.core_buffers["params"].address
        assert written == {place: len(plan.items[column]), place + 4: plan.key_blocks, start: 1}


def test_keys_beyond_the_queue_are_a_resource_error_with_the_limit() -> None:
    plan = planned(dict(heads=1, query_length=64, key_length=8192 + 64, head_dim=64))
    with pytest.raises(ResourceError, match="at most 8192 keys"):
        runtime_sequence(plan, BufferNumbers(Q, K, V, OUT))
