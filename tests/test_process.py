"""npuc as a process: bytes that depend on the source alone, a shared cache, pipes, full disks, interrupts, time."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_kernels import compiled

from npuc.compiler import cli, files, interrupts
from npuc.compiler.cli import INTERRUPTED
from npuc.compiler.diagnostics import InputError
from npuc.compiler.driver import STAGES, TEXT_STAGES
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

REPOSITORY = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-m", "npuc.compiler.cli"]
SOURCE = to_attn_module(Attention.make(heads=2, query_length=64, head_dim=64))


def start(*words: object, **settings) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    return subprocess.Popen([*COMMAND, *map(str, words)], **pipes)


def run(*words: object, **settings) -> tuple[int, bytes, bytes]:
    child = start(*words, **settings)
    out, err = child.communicate(timeout=600)
    return child.returncode, out, err


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "a.mlir"
    path.write_text(SOURCE)
    return path


@pytest.fixture(scope="module")
def kernel(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kernel") / "k.xclbin"
    path.write_bytes(compiled().xclbin)
    return path


# bytes


def test_every_stage_has_the_same_bytes_in_any_folder_under_any_hash_seed(tmp_path):
    results = []
    for name, hash_seed in (("here", "0"), ("elsewhere/deeper", "4242")):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / f"{folder.name}.mlir").write_text(SOURCE)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": "UTC" if hash_seed == "0" else "Asia/Tokyo"}
        words = ["compile", f"{folder.name}.mlir", "--no-cache", "--dump-dir", "dump", "-o", "k.xclbin", "--json"]
        code, out, err = run(*words, cwd=folder, env=environment)
        assert (code, err) == (0, b"")
        report = json.loads(out)
        del report["seconds"]
        results.append(({p.name: p.read_bytes() for p in (folder / "dump").iterdir()}, report))
        assert (folder / "k.xclbin").read_bytes() == results[-1][0]["kernel.xclbin"]
    (files, report), (other_files, other_report) = results
    assert files.keys() == other_files.keys() and report == other_report
    assert {name: files[name] == other_files[name] for name in files} == dict.fromkeys(files, True)
    suffixes = {Path(name).suffix for name in files}
    assert suffixes >= {f".{stage}" for stage in STAGES if stage not in TEXT_STAGES} | {".mlir", ".json", ".s", ".cdo"}


# the cache


def test_two_processes_compile_into_one_cache_at_once(source, tmp_path):
    environment = {**os.environ, "NPUC_CACHE_DIR": str(tmp_path / "cache")}
    children = [start("compile", source, "-o", tmp_path / f"{i}.xclbin", "--json", env=environment) for i in range(2)]
    reports = [json.loads(child.communicate(timeout=600)[0]) for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert reports[0]["sha256"] == reports[1]["sha256"]
    assert (tmp_path / "0.xclbin").read_bytes() == (tmp_path / "1.xclbin").read_bytes()
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.is_file())
    entry.write_bytes(entry.read_bytes()[:-1])
    code, out, err = run("compile", source, "-o", tmp_path / "2.xclbin", "--json", env=environment)
    assert code == 0 and not json.loads(out)["cached"] and b"Traceback" not in err
    assert (tmp_path / "2.xclbin").read_bytes() == (tmp_path / "0.xclbin").read_bytes()
    code, out, _ = run("compile", source, "-o", tmp_path / "2.xclbin", "--json", env=environment)
    assert code == 0 and json.loads(out)["cached"]


def test_a_compiled_file_is_found_without_the_compiler(source, tmp_path):
    """Each of these modules takes longer to import than all else that the command does then."""
    environment = {**os.environ, "NPUC_CACHE_DIR": str(tmp_path / "cache")}
    words = ["compile", str(source), "-o", str(tmp_path / "k.xclbin")]
    assert run(*words, env=environment)[0] == 0
    text = f"""
import sys
from npuc.compiler import cli

try:
    cli.main({words!r})
finally:
    print(*(name for name in ("numpy", "npuc.compiler.frontend", "npuc.passes.pipeline") if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and done.stdout.endswith("(cached)\n\n")


# standard output


def test_a_reader_that_leaves_early_is_no_error(kernel):
    for words in (["inspect", kernel], ["inspect", kernel, "--json"], ["inspect", REPOSITORY / "LICENSE", "--json"]):
        child = start(*words)
        child.stdout.close()
        err = child.stderr.read()
        code = child.wait(60)
        child.stderr.close()
        assert (code, err) == (0, b"") if words[1] == kernel else code == 3 and err.count(b"\n") == 1


def test_a_full_disk_behind_standard_output_is_told(kernel, source):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    for words in (["inspect", kernel], ["compile", source, "-o", "-"], ["--help"]):
        with open("/dev/full", "wb") as full:
            code, _, err = run(*words, stdout=full)
        assert code == 3 and err == b"error: cannot write standard output: No space left on device\n"
    code, _, err = run("compile", source, "-o", "/dev/full")
    assert code == 3 and err == b"error: /dev/full: cannot write: No space left on device\n"


@pytest.mark.skipif(sys.platform != "linux", reason="closes descriptors by number")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_streams_are_as_in_other_commands(closed, kernel, tmp_path):
    def close() -> None:
        for number in closed:
            os.close(number)

    code, out, err = run("inspect", kernel, preexec_fn=close)
    said = b"error: cannot write standard output: Bad file descriptor\n"
    assert (code, err) == ((3, b"" if 2 in closed else said) if 1 in closed else (0, b"")) and bool(out) == (code == 0)
    written = tmp_path / "k.s"
    assert run("disasm", kernel, "-o", written, preexec_fn=close)[0] == 0 and written.stat().st_size > 10_000
    assert run("diff", kernel, written, preexec_fn=close)[0] == 1
    code, _, err = run("inspect", "-", preexec_fn=close)
    assert code == 3 and (0 not in closed or 2 in closed or b"<stdin>: cannot read: Bad file descriptor" in err)


def test_what_standard_error_does_not_take_changes_nothing_else(kernel, source, tmp_path):
    """Neither the exit code nor what is written, with a full disk behind it or a reader that left."""
    made = tmp_path / "a.xclbin"
    for arguments in (
        ("compile", source, "-o", made, "--no-cache", "--print-ir-after", "all"),
        ("run", kernel, "--output", f"o={made}"),
    ):
        child = start(*arguments)
        child.stderr.close()
        assert child.stdout.read() and child.wait(600) == 0 and made.exists()
        child.stdout.close()
        made.unlink()
    if os.path.exists("/dev/full"):
        with open("/dev/full", "wb") as full:
            assert run("inspect", tmp_path / "none", stderr=full)[0] == 3
            assert run("diff", kernel, kernel, "--limit", "-1", stderr=full)[0] == 2


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="no pipes that do not wait")
def test_pipes_that_do_not_wait_lose_nothing(kernel):
    whole = run("disasm", kernel)[1]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    child = start("disasm", kernel, stdout=writing)
    os.close(writing)
    with open(reading, "rb") as stream:
        assert stream.read() == whole and len(whole) > 1 << 17
    assert child.wait(60) == 0
    child.stderr.close()
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    assert run("version", stdin=reading)[0] == 0 and os.get_blocking(reading), "what waits reads all that comes"
    child = start("inspect", "-", stdin=reading)
    os.close(reading)
    with open(writing, "wb") as stream:
        stream.write(kernel.read_bytes())
    assert child.communicate(timeout=60)[1] == b"" and child.returncode == 0


def test_file_names_need_not_be_text(source, tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"\xff.xclbin")
    code, out, err = run("compile", source, "-o", os.fsdecode(name))
    assert (code, err) == (0, b"") and b"\\udcff.xclbin: " in out and os.path.exists(name)
    assert run("inspect", os.fsdecode(name))[0] == 0
    code, out, err = run("inspect", os.fsdecode(name) + "-", "--json")
    assert code == 3 and err.count(b"\n") == 1 and json.loads(out)["error"]["exit_code"] == 3


def test_an_array_goes_to_standard_output_alone(kernel, tmp_path):
    code, out, err = run("run", kernel, "--backend", "reference", "--output", "o=-")
    assert code == 0 and out.startswith(b"\x93NUMPY") and b"kernel       attention" in err
    code, out, err = run("run", kernel, "--backend", "reference", "--output", "o=-", "--json")
    assert code == 2 and "error" in json.loads(out)


def test_a_kernel_and_an_array_come_from_standard_input(kernel, tmp_path):
    with open(kernel, "rb") as stream:
        assert run("run", "-", "--backend", "reference", stdin=stream)[0] == 0
    (tmp_path / "q.npy").write_bytes(run("run", kernel, "--backend", "reference", "--output", "o=-")[1])
    with open(tmp_path / "q.npy", "rb") as stream:
        words = ["--input", "q=-", "--random", "3"]
        assert run("run", kernel, "--backend", "reference", *words, stdin=stream)[0] == 0


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no /dev/zero")
def test_a_file_without_an_end_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr(files, "LONGEST_STREAM", 3 << 20)
    with pytest.raises(InputError, match=r"^/dev/zero: has no end within 3,145,728 bytes \(give a regular file\)$"):
        files.read_bytes("/dev/zero")
    with open("/dev/zero", "rb") as endless:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=endless))
        with pytest.raises(InputError, match="^<stdin>: has no end"):
            files.read_bytes("-")


# interrupts


def test_an_interrupted_run_leaves_no_output_and_no_traceback(tmp_path):
    """A run that would take long is interrupted once its kernel is compiled and the emulation begins."""
    source = tmp_path / "long.mlir"
    source.write_text(to_attn_module(Attention.make(heads=8, query_length=1024, head_dim=128)))
    # A shell may have started the tests with interrupts ignored, which children inherit.
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    child = start("run", source, "--output", f"o={tmp_path / 'o.npy'}", preexec_fn=heard)
    try:
        assert child.stderr.readline().startswith(b"note: no NPU to run on")
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=600) == (b"", b"interrupted\n")
        assert child.returncode in (INTERRUPTED, -signal.SIGINT)
    finally:
        child.kill()
        child.wait()
    assert os.listdir(tmp_path) == ["long.mlir"]


def test_interrupts_write_no_line_of_standard_error_twice():
    text = """
import signal, sys
from npuc.compiler import standard_streams

class Interrupted(Exception):
    pass

armed = False

def interrupt(*_):
    if armed:
        raise Interrupted

standard_streams.prepare()
signal.signal(signal.SIGALRM, interrupt)
for number in range(3000):
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 60))
        print("line", number, file=sys.stderr)
        for _ in range(2000):
            pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        armed = False
    except Interrupted:
        pass
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60)
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and 1000 < len(lines) == len(set(lines))


def test_an_interrupt_while_npuc_is_imported_says_nothing():
    """Nothing of it is told by Python's own handler."""
    text = """
import importlib.abc, os, runpy, signal, sys

class Interrupted(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "npuc.compiler.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupted())
sys.argv[1:] = ["--help"]
runpy.run_module("npuc", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_an_interrupt_while_the_bindings_are_imported_ends_no_process():
    """Their initialisation calls Python, and what that raises aborts."""
    text = """
import enum, os, signal, sys
from npuc.compiler import interrupts
from npuc.compiler.frontend.guarded import forked

signal.signal(signal.SIGINT, signal.default_int_handler)
made = enum.EnumMeta.__call__
def interrupted(*words, **named):
    if len(words) > 2:  # a class is made of names
        os.kill(os.getpid(), signal.SIGINT)
    return made(*words, **named)
enum.EnumMeta.__call__ = interrupted
try:
    forked.import_bindings()
except KeyboardInterrupt:
    print("interrupted", "torch_mlir.passmanager" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"interrupted True\n", b"")


def test_an_interrupt_that_other_code_made_an_error_of_its_own_is_an_interrupt(monkeypatch, capsys):
    """As the body of a class does in some versions of Python, with what a member's __set_name__ raised."""

    def fails(*_: object) -> None:
        interrupts.note()
        raise RuntimeError("Error calling __set_name__")

    monkeypatch.setattr(cli.group, "invoke", fails)
    with pytest.raises(SystemExit) as end:
        cli.main(["inspect", "a.xclbin"])
    assert end.value.code == INTERRUPTED and capsys.readouterr() == ("", "interrupted\n")
    assert not interrupts.noted()


# time


def takes_less(limit: float, *words: object) -> bool:
    """Whether one of three runs stays below; even processor time grows where others use the same caches."""
    return any(processor_seconds(*words) < limit for _ in range(3))


def processor_seconds(*words: object) -> float:
    """What the command takes of a processor: its wall time on an idle machine, whatever else runs here."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    code, _, err = run(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert code == 0, err
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def test_help_takes_less_than_0_3_seconds():
    assert takes_less(0.3, "--help")


def test_the_example_compiles_in_less_than_5_seconds_without_a_cache(tmp_path):
    example = REPOSITORY / "examples" / "attention.mlir"
    assert takes_less(5, "compile", example, "-o", tmp_path / "k.xclbin", "--no-cache")
