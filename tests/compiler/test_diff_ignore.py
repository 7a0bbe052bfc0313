"""npuc diff --ignore: identities and times are told and do not count; anything else does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from foreign_files import container

from npuc.compiler.emit import cdo, pdi, xclbin

Npuc = Callable[..., tuple[int, str, str]]
BUILD_METADATA = 14


def kernel(value: int = 1) -> bytes:
    image = pdi.write_pdi([cdo.Write(0x1A0000, value)])
    return xclbin.write_xclbin(xclbin.Xclbin((xclbin.KernelEntry("k", "I", 1, ()),), 1, image))


def patched(data: bytes, **fields: int | bytes) -> bytes:
    values = {**xclbin.HEADER.unpack(data), **fields}
    return xclbin.HEADER.pack(**values) + data[xclbin.HEADER.size :]


@pytest.fixture
def files(tmp_path: Path) -> Callable[[bytes, bytes], tuple[Path, Path]]:
    def write(a: bytes, b: bytes) -> tuple[Path, Path]:
        (tmp_path / "a").write_bytes(a)
        (tmp_path / "b").write_bytes(b)
        return tmp_path / "a", tmp_path / "b"

    return write


def told(npuc: Npuc, paths: tuple[Path, Path], ignore: str) -> tuple[int, dict]:
    code, out, _ = npuc("diff", *paths, "--ignore", ignore, "--json")
    return code, json.loads(out)


@pytest.mark.parametrize(
    ("fields", "kind", "other"),
    [({"uuid": bytes(range(16))}, "uuid", "time"), ({"time_stamp": 77, "unique_id": 78}, "time", "uuid")],
)
def test_what_is_ignored_does_not_count_and_is_told(npuc: Npuc, files, fields, kind: str, other: str) -> None:
    paths = files(kernel(), patched(kernel(), **fields))
    assert npuc("diff", *paths)[0] == 1 and told(npuc, paths, other)[0] == 1
    for ignore in (kind, f"{other},{kind}", "uuid,time"):
        code, found = told(npuc, paths, ignore)
        assert (code, found["identical"], found["differences"]) == (0, True, 0)
        assert set(found["ignored"]["kinds"]) == set(ignore.split(","))
        assert found["ignored"]["differences"] == len(fields)
        (header,) = [section for section in found["sections"] if section["name"] == "header"]
        assert header["status"] == "ignored"
        assert {d["place"] for d in header["differences"] if d.get("ignored")} == set(fields)
    code, text, _ = npuc("diff", *paths, "--ignore", kind)
    assert code == 0 and f"identical but for what is ignored ({kind} ignored: {len(fields)} difference" in text
    assert all(f"header: {name}" in text for name in fields)


def test_another_difference_counts_beside_what_is_ignored(npuc: Npuc, files) -> None:
    paths = files(kernel(1), patched(kernel(2), time_stamp=77))
    code, found = told(npuc, paths, "uuid,time")
    assert code == 1 and not found["identical"] and found["differences"] == 1 and found["ignored"]["differences"] >= 1
    code, text, _ = npuc("diff", *paths, "--ignore", "uuid,time")
    assert code == 1 and "uuid and time ignored: " in text and "memtile(0,1)" in text


def test_times_in_the_metadata_of_other_packers_are_times(npuc: Npuc, files) -> None:
    def build(stamp: str, version: str) -> bytes:
        about = {"xclbin": {"generated_by": {"name": "packer", "version": version, "time_stamp": stamp}}}
        return container((BUILD_METADATA, json.dumps({"build_metadata": about}).encode()))

    paths = files(build("Mon May 17 13:47:04 2021", "1"), build("Tue May 18 13:47:04 2021", "1"))
    assert npuc("diff", *paths)[0] == 1 and told(npuc, paths, "time")[0] == 0
    paths = files(build("Mon May 17 13:47:04 2021", "1"), build("Tue May 18 13:47:04 2021", "2"))
    assert told(npuc, paths, "time")[0] == 1


def test_names_that_only_sound_like_times_count(npuc: Npuc, files) -> None:
    timers = [pdi.write_pdi([cdo.Write(0x234000, value)]) for value in (1, 2)]  # Timer_Control of a core
    assert told(npuc, files(*timers), "uuid,time")[0] == 1


def test_an_unknown_kind_is_wrong_usage(npuc: Npuc, files) -> None:
    paths = files(kernel(), kernel())
    code, out, err = npuc("diff", *paths, "--ignore", "uuid,names")
    assert (code, out) == (2, "") and "'names' is none of uuid, time" in err
    assert npuc("diff", *paths, "--ignore", "uuid")[0] == 0
