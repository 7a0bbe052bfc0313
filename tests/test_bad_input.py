"""Damaged files through the command line: the exit codes of the contract, one line, nothing half-written, no hang."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from damage import CHANGES, changed_metadata, changed_program, flipped, resealed, truncated
from small_kernels import compiled

from npuc.compiler.emit import cdo, layout, npua, pdi, txn, xclbin

LONGEST = 30  # seconds of processor time one command may take; most take milliseconds
MOST_MEMORY = 1 << 20  # KiB by which this process may grow
SMALL = {"heads": 1, "query_length": 64, "head_dim": 64}
MAX_CYCLES = 30_000  # the undamaged kernel takes about two thirds


@pytest.fixture(scope="module", autouse=True)
def bounded_memory() -> Iterator[None]:
    """No input makes the process grow without bound."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


@pytest.fixture(autouse=True)
def interpreted(monkeypatch) -> None:
    """A program that runs once is sooner interpreted than translated."""
    monkeypatch.setenv("NPUC_ENGINE", "interpreter")


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Ends a hang: the command then fails with npuc's own fault."""

    def expired(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@pytest.fixture
def ends_well(npuc, tmp_path) -> Callable[..., int]:
    """Runs a command on a file of these bytes and judges all but what it says; returns the exit code."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(data: bytes, suffix: str, *words: str, allowed: tuple[int, ...] = (0, 3)) -> int:
        path = folder / f"k{suffix}"
        path.write_bytes(data)
        command, *options = words
        written = folder / "o.npy"
        output = ["--output", f"o={written}"] if command == "run" else []
        with deadline(LONGEST):
            code, out, err = npuc(command, path, *options, *output)
        errors = [line for line in err.splitlines() if not line.startswith("warning: ")]
        assert code in allowed, (code, err)
        assert len(errors) == (code != 0) and all(line.startswith("error: ") for line in errors), err
        if "--json" in options:
            assert ("error" in json.loads(out)) == (code != 0)
        elif code:
            assert out == ""
        assert "Traceback" not in out + err and err.replace("\n", "").isprintable()
        left = {p.name for p in folder.iterdir()} - {path.name}
        assert left == ({"o.npy"} if code == 0 and command == "run" else set())
        written.unlink(missing_ok=True)
        return code

    return run


RUN = ("run", "--backend", "emulator", "--max-cycles", str(MAX_CYCLES))
CHANGES_TESTED = [
    pytest.param(change, 8 if change is changed_metadata else 2, id=change.__name__) for change in CHANGES
]


def stages() -> dict[str, bytes]:
    """Every binary the compiler makes of a small kernel, by suffix."""
    kernel = compiled(**SMALL)
    files = {f".{stage}": kernel.stage(stage) for stage in ("txn", "npua", "pdi", "xclbin")}
    return {**files, ".cdo": kernel.files["kernel.cdo"], ".elf": kernel.elfs()["core_0_2.elf"]}


# How many of each kind; an xclbin's alternate between inspect and run.
COUNT = {".xclbin": 120, ".npua": 60}
SUFFIXES = (".txn", ".npua", ".pdi", ".xclbin", ".cdo", ".elf")


def commands_for(suffix: str) -> list[tuple[str, ...]]:
    begun = ("run", "--backend", "emulator", "--max-cycles", "1000")  # most damage is found before the first cycle
    return (
        [("inspect",), begun, ("inspect", "--json"), begun]
        if suffix in COUNT
        else [("inspect",), ("inspect", "--json")]
    )


def check_cut(ends_well, suffix: str, generator: random.Random, count: int) -> None:
    """A proper prefix of a file is no such file."""
    for number, data in enumerate(truncated(stages()[suffix], generator, count)):
        choices = commands_for(suffix)
        ends_well(data, suffix, *choices[number % len(choices)], allowed=(3,))


def check_flipped(ends_well, suffix: str, generator: random.Random, count: int) -> None:
    for number, data in enumerate(flipped(stages()[suffix], generator, count)):
        choices = commands_for(suffix)
        words = choices[number % len(choices)]
        ends_well(data, suffix, *words, allowed=(0, 3, 4) if words[0] == "run" else (0, 3))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_cut_anywhere_is_bad_input(ends_well, suffix, seed):
    check_cut(ends_well, suffix, random.Random(seed), COUNT.get(suffix, 30))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits_are_found_or_harmless(ends_well, suffix, seed):
    check_flipped(ends_well, suffix, random.Random(seed), COUNT.get(suffix, 30))


@pytest.mark.parametrize(("change", "count"), CHANGES_TESTED)
def test_a_changed_kernel_with_right_checksums_ends_in_a_result_or_a_named_error(ends_well, change, count, seed):
    generator = random.Random(seed)
    cycles = "1000" if change is changed_metadata else str(MAX_CYCLES)  # nothing of it reaches the array
    for _ in range(count):
        data = change(compiled(**SMALL).xclbin, generator)
        ends_well(data, ".xclbin", "inspect")
        ends_well(data, ".xclbin", "run", "--backend", "emulator", "--max-cycles", cycles, allowed=(0, 3, 4))


def test_a_cut_xclbin_that_announces_its_length_is_bad_input_or_lost_only_text(ends_well, seed):
    whole = compiled(**SMALL).xclbin
    end = whole.index(b"XCLBIN_MIRROR_DATA_START")
    for data in truncated(whole, random.Random(seed), 60):
        told = data[:0x130] + len(data).to_bytes(8, "little") + data[0x138:] if len(data) >= 0x138 else data
        ends_well(told, ".xclbin", "inspect", allowed=(0,) if len(data) >= end else (3,))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_thousands_of_damaged_files(ends_well, suffix, seed):
    generator = random.Random(seed + 1)
    check_cut(ends_well, suffix, generator, 3000)
    check_flipped(ends_well, suffix, generator, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_hundreds_of_changed_kernels(ends_well, change, seed):
    generator = random.Random(seed + 1)
    for number in range(600):
        data = change(compiled(**SMALL).xclbin, generator)
        ends_well(data, ".xclbin", *RUN, *(["--strict"] if number % 2 else []), allowed=(0, 3, 4))


# changed programs


def check_engines(npuc, folder: Path, generator: random.Random, count: int) -> None:
    """A changed program ends alike, interpreted and in native code: same exit code, cycles and output.

    Of two errors within a few cycles each engine may meet another first.
    """
    path = folder / "k.xclbin"
    for _ in range(count):
        path.write_bytes(changed_program(compiled(**SMALL).xclbin, generator))
        ends = []
        for engine in ("interpreter", "native"):
            output = folder / f"{engine}.npy"
            words = ["--engine", engine, "--max-cycles", str(MAX_CYCLES), "--json", "--output", f"o={output}"]
            code, out, err = npuc("run", path, "--backend", "emulator", *words)
            report = json.loads(out)
            if code == 0:
                report["outputs"]["o"].pop("file")
                ends.append((code, err, report, output.read_bytes()))
                output.unlink()
            else:
                assert code == 4 and err.count("\n") == 1
                ends.append((code,))
        assert ends[0] == ends[1]


@pytest.mark.slow
def test_both_engines_end_a_changed_program_alike(npuc, tmp_path, seed):
    check_engines(npuc, tmp_path, random.Random(seed + 2), 30)


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
