"""Systems other than Linux: every module imports without what only POSIX has, and files are written as they are."""

from __future__ import annotations

import subprocess
import sys

from npuc.compiler.files import write_bytes

# Libraries come first: what they need of their system is theirs.
SCRIPT = """
import asyncio, ctypes, multiprocessing, subprocess, tempfile
import click, lief, llvmlite.binding, ml_dtypes, numpy, platformdirs, rapidfuzz, rich.console, torch_mlir.passmanager
import contextlib, importlib, os, pkgutil, select, signal, sys

FRAMEWORKS = ("jax", "torch", "transformers")
for module in (*FRAMEWORKS, "torch._dynamo"):
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module(module)
for module in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[module] = None
missing = {
    os: "O_CLOEXEC fork getegid geteuid getgid getuid killpg register_at_fork setsid sysconf uname wait3 wait4",
    select: "epoll poll",
    signal: "SIGALRM SIGCHLD SIGHUP SIGKILL SIGPIPE SIGXCPU alarm pthread_sigmask setitimer sigtimedwait",
}
for module, names in missing.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "win32"
import npuc

for module in pkgutil.walk_packages(npuc.__path__, "npuc."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        if error.name not in FRAMEWORKS:
            raise
print("imported")
sys.stdout.flush()
os._exit(0)
"""


def test_every_module_imports_where_posix_is_not():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600)
    assert done.stdout == "imported\n", done.stderr


def test_outputs_are_opened_in_binary_mode(tmp_path, monkeypatch):
    """A descriptor of os.open translates line ends on Windows."""
    monkeypatch.setattr("os.open", None)
    write_bytes(str(tmp_path / "out"), b"a\nb\r\n")
    assert (tmp_path / "out").read_bytes() == b"a\nb\r\n"
