"""The driver and its cache around a stand-in pipeline."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os

import pytest
from fake_pipeline import FakePipeline

from npuc.compiler import cache, driver, fingerprint
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.driver import Settings
from npuc.compiler.files import write_bytes
from npuc.compiler.frontend.attention import Attention


@pytest.fixture
def pipeline(monkeypatch, tmp_path):
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    fake = FakePipeline()
    fake.install(monkeypatch)
    return fake


def test_every_stage_has_bytes(pipeline):
    compiled = driver.compile_source("text")
    assert set(compiled.elfs()) == {"core_0_2.elf", "core_0_3.elf"}
    for stage in driver.STAGES:
        made = driver.compile_source("text", settings=Settings(stage=stage)) if stage == "host" else compiled
        assert stage == "elf" or made.stage(stage)
    assert b'"attn.sdpa"' in compiled.stage("attn")
    assert b".core 0, 2\n.text\nnop at (0, 2)\n" in compiled.stage("asm")


def test_a_second_compilation_comes_from_the_cache(pipeline):
    first, second = driver.compile_source("text"), driver.compile_source("text")
    assert (first.cached, second.cached, pipeline.compilations) == (False, True, 1)
    assert (dict(first.files), first.summary) == (dict(second.files), second.summary)


@pytest.mark.parametrize(
    "change", [{"columns": 2}, {"function": "other"}, {"precision": "bf16"}, {"options": {"key": "value"}}]
)
def test_other_options_compile_again(pipeline, change):
    driver.compile_source("text")
    assert not driver.compile_source("text", settings=Settings(**change)).cached


def test_other_source_or_compiler_compiles_again(pipeline, monkeypatch):
    driver.compile_source("text")
    assert not driver.compile_source("other text").cached
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert driver.compile_source("text").cached, "empty is as good as unset"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "5")
    assert not driver.compile_source("text").cached
    monkeypatch.setattr(fingerprint, "code_fingerprint", lambda: "edited")
    assert not driver.compile_source("text").cached


def test_no_cache_neither_reads_nor_writes(pipeline, tmp_path):
    driver.compile_source("text", settings=Settings(use_cache=False))
    assert not (tmp_path / "cache").exists()
    assert not driver.compile_source("text").cached


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_cache_entry_is_compiled_again(pipeline, tmp_path, damage):
    driver.compile_source("text")
    (entry,) = (tmp_path / "cache").iterdir()
    data = entry.read_bytes()
    entry.write_bytes({"truncate": data[:-3], "flip": data[:-3] + b"abc", "empty": b""}[damage])
    assert not driver.compile_source("text").cached
    assert driver.compile_source("text").cached


def test_a_cache_that_cannot_be_written_costs_only_time(pipeline, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert driver.compile_source("text").xclbin


def test_the_cache_stays_within_its_limit_and_spares_foreign_files(pipeline, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "SIZE_LIMIT", 5000)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "notes.txt").write_bytes(bytes(9000))
    for number in range(12):
        driver.compile_source(f"text {number}")
    kept = [path for path in (tmp_path / "cache").iterdir() if path.name != "notes.txt"]
    assert 1 <= len(kept) < 12 and sum(path.stat().st_size for path in kept) <= 5000
    assert (tmp_path / "cache" / "notes.txt").exists()
    assert driver.compile_source("text 11").cached


def _write_and_read(key):
    entry = cache.Entry({"a": os.urandom(20_000)}, {"pid": os.getpid()})
    for _ in range(30):
        cache.write(key, entry)
        if cache.read(key) is None:
            return False
    return True


def test_concurrent_processes_always_read_a_whole_entry(monkeypatch, tmp_path):
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path))
    key = hashlib.sha256(b"").hexdigest()
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        assert all(pool.map(_write_and_read, [key] * 3))
    assert [path.name for path in tmp_path.iterdir()] == [key]


def test_passes_are_shown_and_dumped_even_when_cached(pipeline, tmp_path):
    driver.compile_source("text")
    shown = []
    settings = Settings(print_ir_after="kernel", show_ir=lambda *pass_: shown.append(pass_), dump_folder=str(tmp_path))
    driver.compile_source("text", settings=settings)
    assert shown == [("kernel", "the kernel")]
    assert (tmp_path / "00_plan.txt").read_text() == "the plan"
    assert json.loads((tmp_path / "plan.json").read_text()) == {"columns": 1}
    assert {"attn.mlir", "kernel.s", "core_0_2.elf", "kernel.cdo", "kernel.xclbin"} <= set(os.listdir(tmp_path))


def test_an_unknown_pass_is_named_with_those_there_are(pipeline):
    with pytest.raises(UsageError, match="one of all, legalise, raise, plan, kernel"):
        driver.compile_source("text", settings=Settings(print_ir_after="nothing", show_ir=print))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"precision": "int8", "options": {"query_block": "9"}}, "query_block=9: possible are"),
        ({"options": {"speed": "high"}}, "option 'speed' is unknown"),
        ({"columns": 5}, "5 columns"),
    ],
)
def test_what_the_pipeline_does_not_know_is_refused_not_ignored(change, says):
    with pytest.raises((InputError, UsageError), match=says):
        driver.compile_description(
            Attention.make(heads=2, query_length=64, head_dim=64), Settings(**change, use_cache=False)
        )


def test_a_source_that_is_not_text_says_where():
    with pytest.raises(InputError, match=r"k\.mlir:2: is not text"):
        driver.compile_bytes(b"module {\n\xff", "k.mlir")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path, monkeypatch):
    target = tmp_path / "k.xclbin"
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="cannot write: No space left"):
        write_bytes(str(target), b"new")
    assert target.read_bytes() == b"old" and os.listdir(tmp_path) == ["k.xclbin"]


def test_writing_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_bytes(str(tmp_path / "link"), b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
