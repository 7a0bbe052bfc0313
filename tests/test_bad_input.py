"""Damaged files through the command line: the exit codes of the contract, one line, nothing half-written, no hang."""

from __future__ import annotations

import dataclasses
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import campaigns
import damaged_commands
import pytest
from damage import CHANGES, changed_metadata, changed_program, resealed, truncated
from damaged_commands import (
    COUNT,
    LONGEST,
    SMALL,
    SUFFIXES,
    EndsWell,
    check_changed,
    check_cut,
    check_flipped,
    deadline,
    judge,
    stages,
)
from small_kernels import compiled

from npuc.compiler.emit import cdo, layout, npua, pdi, txn, xclbin


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    with damaged_commands.bounded_memory():
        yield


@pytest.fixture(autouse=True)
def interpreted(monkeypatch) -> None:
    """A program that runs once is sooner interpreted than translated."""
    monkeypatch.setenv("NPUC_ENGINE", "interpreter")


@pytest.fixture
def ends_well(npuc, tmp_path) -> EndsWell:
    folder = tmp_path / "work"
    folder.mkdir()
    return judge(npuc, folder)


CHANGES_TESTED = [
    pytest.param(change, 8 if change is changed_metadata else 2, id=change.__name__) for change in CHANGES
]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_bad_input(ends_well, suffix, seed):
    check_cut(ends_well, suffix, random.Random(seed), COUNT.get(suffix, 30))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits_are_found_or_harmless(ends_well, suffix, seed):
    check_flipped(ends_well, suffix, random.Random(seed), COUNT.get(suffix, 30))


@pytest.mark.parametrize(("change", "count"), CHANGES_TESTED)
def test_a_changed_kernel_with_right_checksums_ends_in_a_result_or_a_named_error(ends_well, change, count, seed):
    check_changed(ends_well, change.__name__, random.Random(seed), count)


def test_a_cut_xclbin_that_announces_its_length_is_bad_input_or_lost_only_text(ends_well, seed):
    whole = compiled(**SMALL).xclbin
    end = whole.index(b"XCLBIN_MIRROR_DATA_START")
    for data in truncated(whole, random.Random(seed), 60):
        told = data[:0x130] + len(data).to_bytes(8, "little") + data[0x138:] if len(data) >= 0x138 else data
        ends_well(told, ".xclbin", "inspect", allowed=(0,) if len(data) >= end else (3,))


# campaigns


def in_batches(kind: str, name: str, seed: object, count: int, size: int, processes: dict[str, Any]) -> None:
    items = [(kind, name, *each) for each in campaigns.batches(seed, count, size)]
    campaigns.run(run_batch, items, processes)


def run_batch(item: tuple[str, str, str, int]) -> None:
    campaigns.in_child(damaged_commands.batch, *item)


@pytest.mark.parametrize("kind, name", [("cut", ".txn"), ("flipped", ".npua"), ("changed", "changed_metadata")])
def test_a_campaign_in_batches_is_judged_as_one_file_is(kind, name, seed, processes):
    in_batches(kind, name, seed, 6, 3, processes)


def fails(number: int) -> None:
    assert number == 5, "so it was seen"


def ends(signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def test_what_fails_or_ends_in_a_batch_fails_the_campaign():
    assert campaigns.in_child(fails, 5) is None
    with pytest.raises(AssertionError, match="so it was seen"):
        campaigns.in_child(fails, 6)
    with pytest.raises(AssertionError, match="exit -11"):
        campaigns.in_child(ends, 11)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "flipped"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_thousands_of_damaged_files(kind, suffix, seed, processes):
    in_batches(kind, suffix, seed + 1, 3000, 250, processes)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_hundreds_of_changed_kernels(change, seed, processes):
    in_batches("changed", change.__name__, seed + 1, 600, 50, processes)


@pytest.mark.slow
def test_both_engines_end_a_changed_program_alike(seed, processes):
    in_batches("engines", "", seed + 2, 30, 5, processes)


def test_the_hash_in_the_metadata_catches_a_changed_program(npuc, tmp_path, seed):
    """A PDI exchanged with all of the container's and its own checksums right is not the one that was compiled."""
    generator = random.Random(seed)
    path = tmp_path / "k.xclbin"
    kernel = compiled(**SMALL)
    original = xclbin.read_xclbin(kernel.xclbin)
    for _ in range(20):
        image = xclbin.read_xclbin(changed_program(kernel.xclbin, generator)).pdi
        path.write_bytes(xclbin.write_xclbin(dataclasses.replace(original, pdi=image, pdis=())))
        assert npuc("inspect", path)[0] == 0
        code, out, err = npuc("run", path, "--backend", "emulator")
        assert (code, out) == (3, "") and err.startswith(f"error: {path}: the program was changed")
    alone = dataclasses.replace(npua.read_npua(kernel.stage("npua")), pdi=image)
    (tmp_path / "k.npua").write_bytes(npua.write_npua(alone))
    code, _, err = npuc("run", tmp_path / "k.npua", "--backend", "emulator")
    assert code == 3 and "the program was changed" in err


def test_a_program_that_never_ends_is_ended(npuc, tmp_path):
    """Every core's program replaced by a jump to itself."""
    from npuc.compiler.asm import codec, text

    slots = text.parse_bundle("j #0")
    jump = codec.encode_bundle(slots) + 5 * codec.encode_bundle(text.parse_bundle("nop"))
    words = layout.take_words(layout.padded(jump, 4), 0, -(-len(jump) // 4), "program")
    kernel = compiled(**SMALL)
    commands = [
        dataclasses.replace(command, words=words)
        if isinstance(command, cdo.DmaWrite) and command.address & 0xFFFFF == 0x20000
        else command
        for command in pdi.read_pdi(kernel.stage("pdi")).commands
    ]
    path = tmp_path / "k.xclbin"
    path.write_bytes(resealed(kernel.xclbin, image=pdi.write_pdi(commands)))
    with deadline(LONGEST):
        code, _, err = npuc("run", path, "--backend", "emulator", "--max-cycles", "200000")
    assert code == 4 and ("not finished after 200000 cycles" in err or "nothing releases it" in err)


# metadata that is well formed and wrong


def with_metadata(**changes: object) -> bytes:
    kernel = compiled(**SMALL)
    metadata = npua.read_npua(xclbin.read_xclbin(kernel.xclbin).kernels[0].npua).metadata
    return resealed(kernel.xclbin, metadata={**metadata, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kernel": "a\x1b[2J"}, "name is not printable"),
        ({"columns": 3}, "metadata says 3 columns, the xclbin 1"),
        ({"arguments": []}, "arguments are not those of its attention"),
        ({"attention": {}}, "not a description of an attention"),
    ],
)
def test_wrong_metadata_is_told(npuc, tmp_path, changes, says):
    path = tmp_path / "k.xclbin"
    path.write_bytes(with_metadata(**changes))
    code, _, err = npuc("run", path, "--backend", "emulator")
    assert code == 3 and err.startswith(f"error: {path}: ") and says in err


def test_metadata_cannot_ask_for_arrays_or_columns_without_bound(npuc, tmp_path):
    kernel = compiled(**SMALL)
    file = npua.read_npua(kernel.stage("npua"))
    path = tmp_path / "k.npua"
    path.write_bytes(npua.write_npua(dataclasses.replace(file, metadata={**file.metadata, "columns": 1 << 30})))
    code, _, err = npuc("run", path, "--backend", "emulator")
    assert code == 3 and "1073741824 columns, npu1 has 5" in err
    attention = json.loads(json.dumps(file.metadata["attention"]))
    attention.update(query_length=1 << 40)
    arguments = json.loads(json.dumps(file.metadata["arguments"]))
    for entry in (*attention["arguments"], *arguments):
        if entry["role"] in ("q", "out"):
            entry["shape"][2] = 1 << 40
    changed = {**file.metadata, "attention": attention, "arguments": arguments}
    path.write_bytes(npua.write_npua(dataclasses.replace(file, metadata=changed)))
    code, _, err = npuc("run", path, "--backend", "reference")
    assert code == 3 and "argument q has 140,737,488,355,328 bytes" in err


def test_nothing_can_ask_for_buffers_without_bound(npuc, tmp_path):
    path = tmp_path / "k.xclbin"
    arguments = npua.read_npua(compiled(**SMALL).stage("npua")).metadata["arguments"]
    path.write_bytes(with_metadata(arguments=[{**a, "buffer": 1 << 40 if a["name"] == "k" else 0} for a in arguments]))
    code, _, err = npuc("run", path, "--backend", "emulator")
    assert code == 3 and "argument k is buffer 1099511627776 of 4" in err
    path.write_bytes(compiled(**SMALL).xclbin)
    (tmp_path / "a.txn").write_bytes(txn.write_txn([txn.DdrPatch(0x1D004, 0xFFFFFFFF, 0)], 2))
    with deadline(LONGEST):
        code, _, err = npuc("run", path, "--insts", tmp_path / "a.txn")
    assert code == 3 and "names buffer argument 4294967295" in err


def test_a_name_in_an_error_cannot_move_the_cursor(npuc, tmp_path):
    code, _, err = npuc("inspect", tmp_path / "a\x1b[2Jb")
    assert code == 3 and "\x1b" not in err and "a\\x1b[2Jb" in err


def test_files_of_another_kind_are_told_apart(npuc, tmp_path):
    for suffix, data in stages().items():
        path = tmp_path / f"k{suffix}"
        path.write_bytes(data)
        code, _, err = npuc("compile", path, "-o", tmp_path / "out.xclbin")
        assert code == 3 and err.startswith(f"error: {path}") and not (tmp_path / "out.xclbin").exists()
        if suffix not in (".xclbin", ".npua"):
            assert npuc("run", path)[0] == 3


def test_an_unreadable_file_is_bad_input(npuc):
    unreadable = Path("/proc/self/mem")  # reading its start fails, for every user
    if not unreadable.exists():
        pytest.skip("no /proc")
    for command in ("inspect", "run", "compile"):
        code, _, err = npuc(command, unreadable)
        assert code == 3 and err.startswith("error: /proc/self/mem: cannot read: ")
