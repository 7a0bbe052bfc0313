"""The translator's objects on disk: damaged, shared by processes, impossible to write; and which engine runs."""

from __future__ import annotations

import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from core_programs import machine_code

from npuc.compiler.diagnostics import UsageError
from npuc.compiler.store import opened, sealed
from npuc.runtime.emulator import engines
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.native import modules, objects, program
from npuc.runtime.emulator.native.engine import NativeCore

PROGRAM = "vmac cm0, cm0, x0, x1, r0\nlda r2, [p0, #0]\n" + "add r3, r3, r2\n" * 12 + "done"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a process that has loaded nothing from it yet."""
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path))
    forget(monkeypatch)
    return tmp_path / "native"


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process: no machine code is loaded (what is keeps its place, in case something refers to it)."""
    _loaded.append((modules._functions, list(program._programs.values())))
    monkeypatch.setattr(modules, "_functions", {})
    monkeypatch.setattr(program, "_programs", weakref.WeakValueDictionary())


_loaded: list[object] = []


def executed() -> tuple[int, int]:
    """What a new core computes with the program; checks that native code did it."""
    core = NativeCore(machine_code(PROGRAM), DataMemory())
    core.data_memory.write(0, (7).to_bytes(4, "little"))
    for name, value in {"p0": OWN_MEMORY, "r0": 0x308, "x0": bytes([2] * 64), "x1": bytes([3] * 64)}.items():
        core.registers.write(name, value)
    core.run(0, 1000)
    assert core.native_bundles == core.bundles - 1
    return core.registers.read("r3"), int.from_bytes(core.registers.read("cm0")[:4].tobytes(), "little")


RESULT = (7 * 6, 48)  # the first six adds read what the load has not yet brought


def compiled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with every text that is compiled."""
    calls: list[int] = []
    compile_text = objects.compile_text

    def counted(text: str, level: int) -> bytes:
        calls.append(level)
        return compile_text(text, level)

    monkeypatch.setattr(objects, "compile_text", counted)
    return calls


def test_a_second_process_compiles_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = compiled(monkeypatch)
    assert executed() == RESULT and len(calls) >= 2
    calls.clear()
    forget(monkeypatch)
    assert executed() == RESULT and not calls


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_object_is_compiled_again(folder: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert executed() == RESULT
    files = list(folder.iterdir())
    good = {file: file.read_bytes() for file in files}
    for file, content in good.items():
        middle = len(content) // 2
        file.write_bytes(
            {
                "cut": content[:middle],
                "empty": b"",
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            }[damage]
        )
    calls = compiled(monkeypatch)
    forget(monkeypatch)
    assert executed() == RESULT and len(calls) == len(files)
    assert all(opened(file.name, file.read_bytes()) is not None for file in files)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")
def test_poisoned_objects_in_a_folder_that_others_may_write_are_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executed() == RESULT
    calls = compiled(monkeypatch)
    forget(monkeypatch)
    for file in folder.iterdir():
        file.write_bytes(sealed(file.name, b"\x7fELF, which would be run"))
    folder.chmod(0o777)
    assert executed() == RESULT and len(calls) == len(list(folder.iterdir()))


def test_an_object_that_answers_to_its_key_and_is_none_is_made_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"", b"[]\n", b"[[], []]\n", b"[[[1]], [], []]\n", b"no JSON\n"):
        monkeypatch.setattr(objects, "read", lambda kind, name: content if kind == "blocks" else None)  # noqa: B023
        forget(monkeypatch)
        assert executed() == RESULT


def test_an_object_of_another_translator_or_processor_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert executed() == RESULT
    monkeypatch.setattr(objects, "_identity", lambda: "another")
    forget(monkeypatch)
    calls = compiled(monkeypatch)
    assert executed() == RESULT and calls


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "file"))
    forget(monkeypatch)
    assert executed() == RESULT


def test_the_folder_stays_below_its_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "SIZE_LIMIT", 10_000)
    for number in range(8):
        objects.write("blocks", str(number), bytes(3000))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 10_000
    assert objects.read("blocks", "7") == bytes(3000)


def test_processes_at_once_share_one_cache(tmp_path: Path) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_native_cache as t\nprint(t.executed() == t.RESULT)"
    )
    environment = os.environ | {"NPUC_CACHE_DIR": str(tmp_path)}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["True"] * 4
    assert all(opened(file.name, file.read_bytes()) is not None for file in (tmp_path / "native").iterdir())


def test_the_engine_is_chosen_by_name_then_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(engines.VARIABLE, raising=False)
    assert engines.core_class(None) is NativeCore
    monkeypatch.setenv(engines.VARIABLE, "interpreter")
    assert engines.core_class(None) is Core
    assert engines.core_class("native") is NativeCore
    monkeypatch.setenv(engines.VARIABLE, "turbo")
    with pytest.raises(UsageError, match="'turbo' is unknown"):
        engines.core_class(None)


@pytest.mark.parametrize("translations", [0, 1, 2])
def test_where_translation_fails_the_interpreter_goes_on(
    folder: Path, translations: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """LLVM may fail at the first module or at a later one, behind a link, a computed jump or a lock request."""
    text = (
        "add r3, r3, #1\nacq #48, r2\nmovxm p1, #0x100\n"
        + "add r3, r3, #2\n" * 3
        + "j p1\n"
        + "\n" * 9
        + "add r3, r3, #3\n" * 3
        + "add r4, r4, #-1\njnz r4, #0x100\n"
        + "\n" * 5
        + "done"
    )
    outcomes = []
    for engine in ("interpreter", "native"):
        if engine == "native":
            translate, left = modules.translate, [translations]

            def failing(*arguments: object, translate: object = translate, left: list[int] = left) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise RuntimeError("no code today")
                return translate(*arguments)  # type: ignore[operator]

            monkeypatch.setattr(modules, "translate", failing)
        core = engines.core_class(engine)(machine_code(text), DataMemory())
        core.registers.write("r4", 3)
        first = core.run(0, 1000)
        last = core.run(first.cycle + 2, 1000)
        outcomes.append((first, last, core.bundles, core.registers.scalar))
    assert outcomes[0] == outcomes[1]
    assert translations == 2 or "translation fails" in caplog.text
