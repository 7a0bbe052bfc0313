"""The folder of the caches: whose it is, what it takes for an entry, what it leaves alone."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npuc.compiler import store
from npuc.compiler.store import Store, opened, sealed

KEY, OTHER = (hashlib.sha256(name).hexdigest() for name in (b"one", b"two"))
PLENTY = 1 << 20
posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no owners and modes here")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "_said", set())
    return tmp_path / "cache"


@pytest.fixture(params=["", "native"])
def kept(request: pytest.FixtureRequest, folder: Path) -> tuple[Store, Path]:
    """A store and the folder its entries are in."""
    return Store(request.param), folder / request.param if request.param else folder


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "working without cache" in record.message]


def unused(kept: Store, caplog: pytest.LogCaptureFixture) -> str:
    """What is said, once, of a store that is not used."""
    for _ in range(2):
        kept.write(KEY, b"content", PLENTY)
        assert kept.read(KEY) is None
    (text,) = said(caplog)
    return text


# whose folder it is


@posix
def test_folders_and_entries_are_made_for_their_owner_only(kept: tuple[Store, Path]) -> None:
    before = os.umask(0)
    try:
        kept[0].write(KEY, b"content", PLENTY)
    finally:
        os.umask(before)
    assert kept[0].read(KEY) == b"content"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (kept[1], kept[1] / KEY)}
    assert set(modes.values()) == {0o700, 0o600}


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(kept: tuple[Store, Path], mode: int, caplog) -> None:
    kept[0].write(KEY, b"poison", PLENTY)
    kept[1].chmod(mode)
    assert "others may write" in unused(kept[0], caplog) and str(kept[1]) in said(caplog)[0]
    assert opened(KEY, (kept[1] / KEY).read_bytes()) == b"poison", "it is left as it is"


@posix
def test_a_writable_home_of_the_cache_spoils_what_is_in_it(folder: Path, caplog) -> None:
    Store("native").write(KEY, b"poison", PLENTY)
    folder.chmod(0o777)
    assert "others may write" in unused(Store("native"), caplog)


@posix
def test_a_folder_of_somebody_else_is_not_used(kept: tuple[Store, Path], monkeypatch, caplog) -> None:
    kept[0].write(KEY, b"poison", PLENTY)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert "belongs to another user" in unused(kept[0], caplog)


@posix
def test_a_folder_behind_a_link_is_not_used(folder: Path, tmp_path: Path, caplog) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")
    assert "is a link" in unused(Store(), caplog)
    assert os.listdir(tmp_path / "elsewhere") == []


def homeless(*_: object, **__: object) -> str:
    raise RuntimeError("no home")


@pytest.mark.parametrize("answer", [lambda *_, **__: "~/.cache/npuc", homeless])
def test_where_there_is_no_place_for_it_there_is_no_cache(answer, tmp_path: Path, monkeypatch, caplog) -> None:
    import platformdirs

    monkeypatch.setattr(store, "_said", set())
    for name in ("NPUC_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platformdirs, "user_cache_dir", answer)
    assert "has no home folder" in unused(Store(), caplog)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("chosen", [None, "", "/var/tmp/caches", "relative/caches"])
@pytest.mark.parametrize("home", [None, "/home/somebody"])
def test_its_place_is_the_one_that_platformdirs_names(chosen: str | None, home: str | None, monkeypatch) -> None:
    import platformdirs

    for name, value in (("NPUC_CACHE_DIR", None), ("XDG_CACHE_HOME", chosen), ("HOME", home)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert store.cache_folder() == platformdirs.user_cache_dir("npuc", appauthor=False)


@pytest.mark.parametrize("place", ["file", "file/deeper"])
def test_a_place_that_is_no_folder_is_no_fault(tmp_path: Path, place: str, monkeypatch, caplog) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(store, "_said", set())
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / place))
    unused(Store(), caplog)
    assert (tmp_path / "file").read_text() == "kept"


def test_a_command_without_a_home_works_and_says_so_once(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no folder")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("NPUC_", "XDG_"))}
    environment["HOME"] = str(tmp_path / "home")
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    source = Path(__file__).resolve().parents[2] / "examples" / "attention.mlir"
    command = [sys.executable, "-m", "npuc.compiler.cli", "compile", str(source), "-o", "k.xclbin"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and (tmp_path / "k.xclbin").stat().st_size > 10_000
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("working without cache: ")


# what is an entry


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another key", "no magic"])
def test_what_does_not_answer_to_its_key_is_made_anew(kept: tuple[Store, Path], damage: str, caplog) -> None:
    kept[0].write(KEY, b"content", PLENTY)
    good = (kept[1] / KEY).read_bytes()
    (kept[1] / KEY).write_bytes(
        {
            "cut": good[:-1],
            "flipped": good[:-1] + bytes([good[-1] ^ 1]),
            "empty": b"",
            "another key": sealed(OTHER, b"content"),
            "no magic": bytes(8) + good[8:],
        }[damage]
    )
    assert kept[0].read(KEY) is None and "is damaged" in caplog.text
    kept[0].write(KEY, b"anew", PLENTY)
    assert kept[0].read(KEY) == b"anew"


@posix
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "writable"])
def test_only_regular_files_of_the_owner_are_entries(kept: tuple[Store, Path], kind: str, tmp_path: Path) -> None:
    kept[0].write(OTHER, b"other", PLENTY)
    outside, place = tmp_path / "outside", kept[1] / KEY
    outside.write_bytes(sealed(KEY, b"poison"))
    if kind == "link":
        place.symlink_to(outside)
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.write_bytes(sealed(KEY, b"poison"))
        place.chmod(0o666)
    assert kept[0].read(KEY) is None
    kept[0].write(KEY, b"anew", PLENTY)
    assert kept[0].read(KEY) == (None if kind == "folder" else b"anew")
    assert outside.read_bytes() == sealed(KEY, b"poison") and kept[0].read(OTHER) == b"other"


def test_systems_without_owners_and_open_folders_have_a_cache_too(kept: tuple[Store, Path], monkeypatch) -> None:
    """As on Windows."""
    monkeypatch.delattr(os, "geteuid", raising=False)
    monkeypatch.setattr(os, "supports_dir_fd", set())
    monkeypatch.setattr(os, "supports_fd", set())
    assert kept[0].read(KEY) is None
    for number in range(5):
        kept[0].write(KEY, b"%d" % number, PLENTY)
        assert kept[0].read(KEY) == b"%d" % number
    kept[0].write(OTHER, b"other", 1)
    assert len(os.listdir(kept[1])) <= 1


# what it removes


def test_trimming_touches_its_own_names_only(kept: tuple[Store, Path]) -> None:
    kept[0].write(KEY, bytes(3000), PLENTY)
    left_behind = f".{KEY}.4242.0123abcd.tmp"
    foreign = ["thesis.tex", "a" * 63, "A" * 64, f"{KEY}.bak", f".{KEY}.tmp", ".hidden"]
    for name in (left_behind, *foreign):
        (kept[1] / name).write_bytes(bytes(3000))
        os.utime(kept[1] / name, (1, 1))
    in_the_making = f".{OTHER}.4242.0123abcd.tmp"
    (kept[1] / in_the_making).write_bytes(bytes(3000))
    (kept[1] / ("b" * 64)).mkdir()
    for number in range(4):
        kept[0].write(hashlib.sha256(b"%d" % number).hexdigest(), bytes(3000), 7000)
    left = {path.name for path in kept[1].iterdir()}
    assert left >= {*foreign, in_the_making, "b" * 64} and left_behind not in left and KEY not in left
    assert sum((kept[1] / name).stat().st_size for name in left if len(name) == 64 and name < "a") <= 7000


def test_a_full_folder_is_not_looked_through_at_each_write(kept: tuple[Store, Path], monkeypatch) -> None:
    """With 15,000 entries each look takes 50 ms to a second, and a new kernel writes a hundred objects."""
    looks = []
    trim = store._Folder.trim
    monkeypatch.setattr(store._Folder, "trim", lambda folder, limit: looks.append(limit) or trim(folder, limit))
    limit = 200 * len(sealed(KEY, bytes(1000)))
    for number in range(1000):
        kept[0].write(hashlib.sha256(b"%d" % number).hexdigest(), bytes(1000), limit)
        if number % 50 == 0:
            assert sum(path.stat().st_size for path in kept[1].iterdir()) <= limit
    assert len(os.listdir(kept[1])) > 180
    assert 1 < len(looks) <= 1 + 1000 // 12


def test_what_was_read_last_stays_longest(kept: tuple[Store, Path]) -> None:
    keys = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(3)]
    for age, key in enumerate(keys):
        kept[0].write(key, bytes(1000), PLENTY)
        os.utime(kept[1] / key, (time.time() - 100 + age,) * 2)
    assert kept[0].read(keys[0]) is not None
    kept[0].write(OTHER, bytes(1000), 2500)
    assert kept[0].read(keys[0]) is not None and kept[0].read(keys[1]) is None


WRITER = """
import hashlib, os, sys
from npuc.compiler.store import Store
key = hashlib.sha256(b"one").hexdigest()
print("writing", flush=True)
while True:
    Store().write(key, os.urandom(200_000), 1 << 30)
"""


@posix
def test_a_kill_at_any_moment_leaves_a_whole_entry_or_none(folder: Path, seed: int, monkeypatch) -> None:
    import random

    moments = random.Random(seed)
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE)
        assert writer.stdout is not None and writer.stdout.readline()
        for _ in range(moments.randrange(400)):
            Store().read(KEY)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert not (folder / KEY).exists() or opened(KEY, (folder / KEY).read_bytes()) is not None
    monkeypatch.setattr(store, "GIVEN_UP", -1)
    Store().write(OTHER, b"", PLENTY)
    assert set(os.listdir(folder)) <= {KEY, OTHER}


def test_a_fault_of_the_cache_is_logged_where_users_look(folder: Path, caplog) -> None:
    folder.write_text("")
    with caplog.at_level(logging.WARNING, "npuc"):
        Store().write(KEY, b"", PLENTY)
    assert [record.name for record in caplog.records] == ["npuc.cache"]
