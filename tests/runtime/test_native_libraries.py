"""Machine code in the process: who unloads it, and when."""

from __future__ import annotations

import gc

from npuc.runtime.emulator.native import machine
from npuc.runtime.emulator.native.machine import Library, compile_text

CODE = "define i64 @seven() {\n  ret i64 7\n}\n"


def test_code_in_a_cycle_is_unloaded_once_and_by_who_uses_llvm_next(monkeypatch) -> None:
    code = compile_text(CODE, 0)
    library = Library(code, ["seven"])
    number = library._number
    tracker = machine._loaded[number]
    closed = []
    dispose = tracker._dispose
    monkeypatch.setattr(tracker, "_dispose", lambda: (closed.append(machine.lock._is_owned()), dispose()))
    library.cycle = library  # type: ignore[attr-defined]  # as a program's blocks and links are
    del library, tracker
    gc.collect()
    assert closed == [] and number in machine._loaded  # a finaliser runs on any thread: it leaves LLVM alone
    following = Library(code, ["seven"])
    assert closed == [True] and number not in machine._loaded and following._number in machine._loaded
