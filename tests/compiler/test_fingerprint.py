"""The hash of npuc's sources: kept, but never that of other sources."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from npuc.compiler import fingerprint


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package behind a link and a cache beside it, seen a minute later."""
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    root = tmp_path / "root"
    (root / "part" / "__pycache__").mkdir(parents=True)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    for place in ("root/a.py", "root/part/b.json", "elsewhere/c.py"):
        (tmp_path / place).write_text(f"{place}\n")
    for place in ("root/notes.txt", "root/part/__pycache__/b.py"):
        (tmp_path / place).write_text("not a source\n")
    later = time.time_ns() + 60 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    return root


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item for each time that contents were hashed."""
    found: list[str] = []
    digest = fingerprint.sources_digest
    monkeypatch.setattr(
        fingerprint, "sources_digest", lambda files, root: found.append(digest(files, root)) or found[-1]
    )
    return found


def by_the_rule(root: Path) -> str:
    """Names and contents, in order of names."""
    whole = b"".join(
        f"{name} {len(data)}\n".encode() + data
        for name in ("a.py", "linked/c.py", "part/b.json")
        for data in [(root / name).read_bytes()]
    )
    return hashlib.sha256(whole).hexdigest()


def test_contents_are_hashed_once(sources: Path, hashed: list[str]) -> None:
    for _ in range(3):
        assert fingerprint.kept_digest(str(sources)) == by_the_rule(sources)
    assert len(hashed) == 1


@pytest.mark.parametrize("name", ["a.py", "part/b.json", "linked/c.py"])
def test_a_changed_file_of_the_same_size_and_time_is_another(sources: Path, hashed: list[str], name: str) -> None:
    first, before = fingerprint.kept_digest(str(sources)), (sources / name).stat()
    while (sources / name).stat().st_ctime_ns == before.st_ctime_ns:  # the clock of files has steps
        (sources / name).write_text("x" * before.st_size)
        os.utime(sources / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fingerprint.kept_digest(str(sources)) == by_the_rule(sources) != first
    assert len(hashed) == 2


@pytest.mark.parametrize("change", ["new", "gone", "renamed"])
def test_other_files_are_another(sources: Path, hashed: list[str], change: str) -> None:
    first = fingerprint.kept_digest(str(sources))
    if change == "new":
        (sources / "part" / "d.py").write_text("")
    elif change == "gone":
        (sources / "a.py").unlink()
    else:
        (sources / "a.py").rename(sources / "part" / "a.py")
    assert fingerprint.kept_digest(str(sources)) != first
    assert len(hashed) == 2


def test_the_hash_of_young_files_is_not_kept(sources: Path, hashed: list[str], monkeypatch, tmp_path: Path) -> None:
    now = (sources / "a.py").stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: now)
    assert fingerprint.kept_digest(str(sources)) == fingerprint.kept_digest(str(sources))
    assert len(hashed) == 2 and not (tmp_path / "cache").exists()


@pytest.mark.parametrize("damage", [b"", b"no hash", b"0" * 63])
def test_a_damaged_hash_is_made_anew(sources: Path, hashed: list[str], damage: bytes, tmp_path: Path) -> None:
    fingerprint.kept_digest(str(sources))
    (entry,) = (tmp_path / "cache" / "sources").iterdir()
    fingerprint.STORE.write(entry.name, damage, fingerprint.SIZE_LIMIT)
    assert fingerprint.kept_digest(str(sources)) == by_the_rule(sources)
    assert len(hashed) == 2
