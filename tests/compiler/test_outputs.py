"""Outputs: no command overwrites its input, writes one file twice, or touches what others put into a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from fake_pipeline import FakePipeline
from kernel_files import xclbin_of

from npuc.compiler import cli, outputs
from npuc.compiler.commands.compile import CORE_ELF
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.outputs import check_outputs, write_folder

CONTENT = b"what the user has"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# every command and option

Words = list[str]
# What takes free text, by command: the words of a call in which IN is an input and OUT the output, or DIR the output's
# folder where IN has the name of a file that is written there; None where the option names no output.
OPTIONS: dict[tuple[str, str], Words | None] = {
    ("bench", "--option"): None,
    ("bench", "--scheduler"): None,
    ("compile", "--kernel"): None,
    ("doctor", "--capture"): None,  # a folder that is new or empty
    ("doctor", "--root"): None,
    ("doctor", "-o"): None,  # which has no input file
    ("golden", "--scheduler"): None,
    ("report", "-o"): ["report", "IN", "-o", "OUT"],
    ("report", "--dim"): None,
    ("report", "--kernel"): None,
    ("run", "--report"): ["run", "IN", "--report", "OUT"],
    ("tune", "--dim"): None,
    ("tune", "--func"): None,
    ("tune", "--scheduler"): None,
    ("asm", "-o"): ["asm", "IN", "-o", "OUT", "--format", "o"],
    ("compile", "-o"): ["compile", "IN", "-o", "OUT", "--emit", "attn"],
    ("compile", "--dump-dir"): ["compile", "IN", "--emit", "plan", "--dump-dir", "DIR"],
    ("compile", "--func"): None,
    ("compile", "--option"): None,
    ("compile", "--print-ir-after"): None,
    ("diff", "--html"): ["diff", "IN", "other", "--html", "OUT"],
    ("diff", "--ignore"): None,
    ("disasm", "-o"): ["disasm", "IN", "-o", "OUT"],
    ("golden", "--artifacts"): ["golden", "check", ".", "--artifacts", "DIR"],
    ("run", "--output"): ["run", "k.xclbin", "--input", "q=IN", "--output", "o=OUT"],
    ("run", "--trace"): ["run", "k.xclbin", "--insts", "IN", "--trace", "OUT"],
    ("run", "--kernel"): None,
    ("run", "--input"): None,
    ("run", "--alloc"): None,
    ("run", "--insts"): None,
    ("run", "--dim"): None,
    ("sequence", "-o"): ["sequence", "IN", "-o", "OUT"],
    ("sequence", "--kernel"): None,
    ("sequence", "--dim"): None,
}
MORE: list[Words] = [
    ["compile", "IN", "--emit", "elf", "-o", "DIR"],
    ["diff", "other", "IN", "--html", "OUT"],
    ["run", "IN", "--output", "o=OUT"],
    ["run", "IN", "--trace", "OUT"],
    ["run", "k.xclbin", "--input", "IN", "--output", "o=OUT"],
    ["run", "k.xclbin", "--insts", "other", "--input", "bo0=IN", "--output", "bo1=OUT"],
]
CALLS = [*(words for words in OPTIONS.values() if words), *MORE]
WRITTEN = {"compile --dump-dir": "attn.mlir", "compile -o": "core_0_2.elf", "golden --artifacts": "case.xclbin"}


def free_text_options() -> Iterator[tuple[str, str]]:
    """Options of all commands that take any text, a file's name perhaps."""
    group = cli.LazyGroup("npuc")
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        for option in command.params:
            if isinstance(option, click.Option) and option.type.name == "text" and not option.is_flag:
                yield name, option.opts[0]


def test_all_options_that_may_name_an_output_are_gone_through_here() -> None:
    assert set(free_text_options()) - OPTIONS.keys() == set(), "add them to OPTIONS, with a call where they are outputs"


def in_another_folder(path: Path, act: Callable[[Path, Path], None]) -> str:
    other = path.parent / "other.folder"
    other.mkdir()
    act(path, other / path.name)
    return os.path.join(other.name, path.name)


def behind_a_linked_folder(path: Path) -> str:
    link = path.parent.with_name(f"{path.parent.name}.link")
    link.symlink_to(path.parent)
    return str(link / path.name)


# Another name of a file, with the same last part.
WAYS: dict[str, Callable[[Path], str]] = {
    "same name": lambda path: path.name,
    "other spelling": lambda path: os.path.join(path.parent, "nowhere", "..", path.name),
    "symbolic link": lambda path: in_another_folder(path, os.symlink),
    "hard link": lambda path: in_another_folder(path, os.link),
    "linked folder": behind_a_linked_folder,
}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_no_command_overwrites_its_input(npuc, here: Path, words: Words, way: str, monkeypatch) -> None:
    FakePipeline().install(monkeypatch)
    (here / "other").write_bytes(b"other")
    (here / "nowhere").mkdir()
    (here / "k.xclbin").write_bytes(xclbin_of(Attention.make(heads=1, query_length=8, head_dim=4)))
    (here / "golden.toml").write_text('[[case]]\nname = "case"\nsource = "case.mlir"\n')
    (here / "case.mlir").write_text("text")
    option = f"{words[0]} {words[words.index('DIR') - 1]}" if "DIR" in words else ""
    source = here / WRITTEN.get(option, "input.mlir")
    source.write_bytes(CONTENT)
    out = WAYS[way](source)
    places = {"IN": source.name, "OUT": out, "DIR": os.path.dirname(out) or "."}
    filled = [words[0], *(replaced(word, places) for word in words[1:])]
    before = tree(here)
    code, text, error = npuc(*filled)
    assert code == 2 and "would overwrite its input" in error and error.count("\n") == 1 and not text, error
    assert tree(here) == before and source.read_bytes() == CONTENT


def replaced(word: str, places: dict[str, str]) -> str:
    name, equals, value = word.rpartition("=")
    return name + equals + places.get(value, value)


def test_an_output_that_is_chosen_by_itself_is_no_input_either(npuc, here: Path) -> None:
    for name, words in {"a.o": ["asm", "a.o"], "a.npua": ["compile", "a.npua", "--emit", "npua"]}.items():
        (here / name).write_bytes(CONTENT)
        code, _, error = npuc(*words)
        assert code == 2 and f"-o {name} would overwrite its input" in error
        assert (here / name).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "words",
    [
        ["run", "k.xclbin", "--trace", "-", "--json"],
        ["run", "k.xclbin", "--output", "o=-", "--json"],
        ["run", "k.xclbin", "--output", "o=-", "--trace", "-"],
        ["run", "k.xclbin", "--output", "o=x", "--trace", "./x"],
        ["diff", "k.xclbin", "k.xclbin", "--html", "-", "--json"],
        ["compile", "k.xclbin", "-o", "-", "--json"],
    ],
    ids=" ".join,
)
def test_no_place_is_written_twice(npuc, here: Path, words: Words) -> None:
    (here / "k.xclbin").write_bytes(xclbin_of(Attention.make(heads=1, query_length=8, head_dim=4)))
    code, out, error = npuc(*words)
    assert code == 2 and "would both write" in error and os.listdir(here) == ["k.xclbin"]
    assert out == "" or "error" in json.loads(out)


@pytest.mark.parametrize("words", [["run", "-", "--input", "q=-"], ["diff", "-", "-"], ["run", "-", "--insts", "-"]])
def test_standard_input_is_read_once(npuc, words: Words) -> None:
    code, _, error = npuc(*words)
    assert code == 2 and "standard input can be one input only" in error


def test_a_trace_on_standard_output_is_a_document_of_its_own(npuc, here: Path) -> None:
    (here / "k.xclbin").write_bytes(xclbin_of(Attention.make(heads=1, query_length=8, head_dim=4)))
    code, out, error = npuc("run", "k.xclbin", "--backend", "emulator", "--trace", "-")
    assert code == 0 and "traceEvents" in json.loads(out) and "backend      emulator" in error


def test_a_redirected_standard_input_is_an_input_by_its_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a").write_bytes(CONTENT)
    with open("a") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(UsageError, match="would overwrite its input standard input"):
            check_outputs(["-"], {"-o": "./a"})


def test_devices_and_files_of_their_own_may_be_used_freely(here: Path) -> None:
    (here / "a").write_bytes(CONTENT)
    (here / "b").write_bytes(CONTENT)
    check_outputs(["a", "a", os.devnull], {"-o": "b", "--trace": os.devnull, "--html": os.devnull, "--json": None})
    check_outputs(["a", "-"], {"-o": "-", "--html": "nowhere/c"})


# folders


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_folder_keeps_what_is_not_written(here: Path) -> None:
    write_folder("out", {"core_0_2.elf": b"1", "core_0_3.elf": b"2"}, (), CORE_ELF)
    (here / "out" / "firmware.elf").write_bytes(CONTENT)
    (here / "out" / "thesis.tex").write_bytes(CONTENT)
    write_folder("out", {"core_0_2.elf": b"3", "core_0_3.elf": b"4", "core_0_4.elf": b"5"}, (), CORE_ELF)
    assert contents(here / "out") == {
        "core_0_2.elf": b"3", "core_0_3.elf": b"4", "core_0_4.elf": b"5", "firmware.elf": CONTENT,
        "thesis.tex": CONTENT,
    }  # fmt: skip
    assert os.listdir(here) == ["out"]


def test_a_set_of_files_is_not_mixed_with_what_is_left_of_another(here: Path) -> None:
    write_folder("out", {"core_0_2.elf": b"1", "core_3_5.elf": b"2"}, (), CORE_ELF)
    before = contents(here / "out")
    with pytest.raises(InputError, match=r"core_3_5\.elf, which would be taken for a part"):
        write_folder("out", {"core_0_2.elf": b"3"}, (), CORE_ELF)
    assert contents(here / "out") == before


def test_a_file_is_no_folder(here: Path) -> None:
    (here / "out").write_bytes(CONTENT)
    with pytest.raises(InputError, match="is a file"):
        write_folder("out", {"a": b"1"})
    with pytest.raises(InputError, match="cannot write"):
        write_folder("nowhere/out", {"a": b"1"})
    assert contents(here) == {"out": CONTENT}


class Failing:
    """In place of a function of the system: does what it did, and fails the n-th time, before or after that."""

    def __init__(self, act: Callable[..., Any], failing: int, error: BaseException, after: bool) -> None:
        self.act, self.left, self.error, self.after = act, failing, error, after

    def __call__(self, *places: Any) -> Any:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise self.error
        result = self.act(*places)
        if self.left == 0:
            raise self.error
        return result


FAILURES = [("rename", 1, False)]  # of a new folder, which is there once that is done
FAILURES += [(step, number, after) for step in ("_write", "_copy", "replace") for number in (1, 2) for after in (0, 1)]


@pytest.mark.parametrize(("step", "failing", "after"), FAILURES)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["stop", "full"])
def test_a_folder_that_cannot_be_written_stays_as_it_was(
    here: Path, step: str, failing: int, after: bool, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = {"core_0_2.elf": b"old", "core_0_3.elf": b"older", "thesis.tex": CONTENT}
    write_folder("out", old)
    place = outputs if step.startswith("_") else os
    target = "new" if step == "rename" else "out"
    monkeypatch.setattr(place, step, Failing(getattr(place, step), failing, error, after))
    with pytest.raises((KeyboardInterrupt, InputError)):
        write_folder(target, {"core_0_2.elf": b"new", "core_0_3.elf": b"newer", "core_0_4.elf": b"newest"})
    assert os.listdir(here) == ["out"] and contents(here / "out") == old


def test_arrays_are_written_whole_or_not_at_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from npuc.runtime.array_files import write_array

    (here / "o.npy").write_bytes(CONTENT)
    monkeypatch.setattr(os, "replace", Failing(os.replace, 1, OSError(28, "No space left on device"), False))
    with pytest.raises(InputError, match="o.npy: cannot write: No space left"):
        write_array("o.npy", np.zeros(4))
    assert contents(here) == {"o.npy": CONTENT}
