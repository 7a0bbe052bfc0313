"""npuc golden: record, check and update; npuc's own goldens are as recorded."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from conftest import REPOSITORY

from npuc import __version__
from npuc.compiler import golden
from npuc.compiler.diagnostics import InputError
from npuc.compiler.driver import compile_file
from npuc.compiler.files import read_bytes
from npuc.passes.machine import list_schedule

GOLDENS = REPOSITORY / "tests" / "golden"
LISTED = '[[case]]\nname = "small"\nsource = "small.mlir"\n'


@pytest.fixture
def folder(tmp_path):
    """A folder with one case, not recorded yet."""
    shutil.copy(GOLDENS / "s64-d64-h1.mlir", tmp_path / "small.mlir")
    (tmp_path / "golden.toml").write_text(LISTED)
    return tmp_path


@pytest.fixture(scope="module")
def small_golden(tmp_path_factory):
    """The recorded file of that case, made once."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(GOLDENS / "s64-d64-h1.mlir", folder / "small.mlir")
    (folder / "golden.toml").write_text(LISTED)
    case = golden.read_cases(str(folder))[0]
    golden.write_results(str(folder), golden.check_case(str(folder), case), replace=False)
    return folder / "small.xclbin"


@pytest.fixture
def recorded(folder, small_golden):
    shutil.copy(small_golden, folder)
    return folder


@pytest.fixture
def compiled_once(monkeypatch):
    """What is about files, not about compiling, compiles a text with the same settings once a session."""
    monkeypatch.setattr(golden.driver, "compile_file", kept)


COMPILED = {}


def kept(path, settings):
    key = (read_bytes(path), repr(settings))
    if key not in COMPILED:
        COMPILED[key] = compile_file(path, settings)
    return COMPILED[key]


def other_schedule(monkeypatch):
    """One decision of the list scheduler made otherwise: of two ready operations, not the one on the longer path."""
    heights = list_schedule.heights
    monkeypatch.setattr(list_schedule, "heights", lambda graph, weights: [-h for h in heights(graph, weights)])


# --- npuc's own ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", golden.read_cases(str(GOLDENS)), ids=lambda case: case.name)
def test_npuc_compiles_its_cases_to_the_recorded_bytes(case, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # which goldens do not depend on
    result = golden.check_case(str(GOLDENS), case)
    assert result.status == golden.SAME, f"npuc golden check {GOLDENS} shows the difference"


def test_no_recorded_file_is_without_a_case():
    assert golden.stale_files(str(GOLDENS), golden.read_cases(str(GOLDENS))) == []


# --- record and check ---------------------------------------------------------------------------------------------
def test_what_was_recorded_is_what_compile_writes_and_checks_from_anywhere(recorded, npuc, tmp_path, monkeypatch):
    monkeypatch.chdir(recorded.parent)
    assert npuc("golden", "check", recorded.name)[0] == 0
    npuc("compile", recorded / "small.mlir", "-o", tmp_path / "again" / ".." / "k.xclbin")
    assert (tmp_path / "k.xclbin").read_bytes() == (recorded / "small.xclbin").read_bytes()
    (tmp_path / "k.xclbin").unlink()
    code, out, _ = npuc("golden", "check", recorded, "--json")
    report = json.loads(out)
    assert code == 0 and report["passed"] and [c["status"] for c in report["cases"]] == ["same"]


def test_another_scheduling_decision_fails_the_check_and_names_core_address_and_instruction(
    recorded, npuc, monkeypatch
):
    before = (recorded / "small.xclbin").read_bytes()
    other_schedule(monkeypatch)
    code, out, err = npuc("golden", "check", recorded, "--artifacts", recorded / "new")
    assert code == 1 and "case small differs" in err and "--update" in err
    (cores,) = re.findall(r"^ *PDI 0 program (core\(\S+\)) ", out, re.M)
    place = next(line for line in out.splitlines() if line.strip().startswith(f"{cores} 0x"))
    assert " -> " in place or "added" in place or "removed" in place
    marks = [line.strip()[0] for line in out.splitlines() if line.strip()[:1] in ("-", "+")]
    assert {"-", "+"} <= set(marks)
    assert (recorded / "small.xclbin").read_bytes() == before
    assert (recorded / "new" / "small.xclbin").read_bytes() != before
    assert cores in (recorded / "new" / "small.xclbin.html").read_text()


def test_record_leaves_a_golden_that_differs_alone_and_update_rewrites_it(recorded, npuc, monkeypatch):
    before = (recorded / "small.xclbin").read_bytes()
    other_schedule(monkeypatch)
    assert npuc("golden", "record", recorded)[0] == 1
    assert (recorded / "small.xclbin").read_bytes() == before
    code, out, _ = npuc("golden", "check", recorded, "--update")
    assert code == 0 and "small: updated" in out and re.search(r"core\(\S+\) 0x", out)
    assert (recorded / "small.xclbin").read_bytes() != before
    assert npuc("golden", "check", recorded)[0] == 0


def test_update_rewrites_only_what_changed(recorded, npuc, compiled_once):
    (recorded / "golden.toml").write_text(LISTED + LISTED.replace("small", "other").replace("other.mlir", "small.mlir"))
    before = (recorded / "small.xclbin").stat().st_mtime_ns
    code, out, _ = npuc("golden", "check", recorded, "--update")
    assert code == 0 and "small: same" in out and "other: recorded" in out
    assert (recorded / "small.xclbin").stat().st_mtime_ns == before


def test_a_missing_golden_fails_the_check_with_its_remedy(folder, npuc, compiled_once):
    code, out, err = npuc("golden", "check", folder)
    assert code == 1 and "small: missing" in out and f"npuc golden record {folder}" in err
    assert not (folder / "small.xclbin").exists()


def test_a_golden_without_a_case_fails_the_check_and_update_deletes_it(recorded, npuc, compiled_once):
    shutil.copy(recorded / "small.xclbin", recorded / "old.xclbin")
    code, out, err = npuc("golden", "check", recorded)
    assert code == 1 and "old.xclbin belongs to no case" in err
    assert npuc("golden", "check", recorded, "--update")[0] == 0
    assert not (recorded / "old.xclbin").exists() and (recorded / "small.mlir").exists()


def test_texts_that_are_kept_differ_line_by_line(folder, npuc, compiled_once):
    (folder / "golden.toml").write_text(LISTED + 'keep = ["plan", "attn", "txn"]\n')
    assert npuc("golden", "record", folder)[0] == 0
    plan = folder / "small.plan.txt"
    plan.write_text("other line\n" + plan.read_text())
    code, out, _ = npuc("golden", "check", folder)
    assert code == 1 and "-other line" in out and "small.attn.mlir" in out


def test_a_case_that_no_longer_compiles_fails_the_check_and_the_others_are_still_checked(recorded, npuc, compiled_once):
    (recorded / "golden.toml").write_text('[[case]]\nname = "gone"\nsource = "gone.mlir"\n' + LISTED)
    code, out, err = npuc("golden", "check", recorded)
    assert code == 1 and "gone: failed" in out and "cannot read" in out and "small: same" in out


# --- golden.toml --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[case]\nname = "a"', "golden.toml:1:"),
        ("[[cases]]\n", "key 'cases' is unknown"),
        ("", "lists no case"),
        (f"a = {'[' * 5000}{']' * 5000}", "golden.toml: values are nested too deep"),
        ("case = 3", "cases are not tables"),
        ('[[case]]\nsource = "a.mlir"', "case number 1: has no name"),
        ('[[case]]\nname = "a"', "case a: has no source"),
        (LISTED + LISTED, "two cases are named small"),
        (LISTED + LISTED.replace('"small"', '"SMALL"'), "two cases are named small"),
        (LISTED + "colums = 1", "key 'colums' is unknown"),
        (LISTED + "columns = true", "columns is no int"),
        (LISTED + 'keep = ["elf"]', "stage 'elf' cannot be kept"),
        (LISTED + "keep = []", "keep names no stage"),
        (LISTED + "options = { a = [1] }", "option value [1]"),
        (LISTED.replace('"small"', '"../small"'), "part of file names"),
    ],
)
def test_a_wrong_list_is_an_error_that_names_the_case(tmp_path, text, message):
    (tmp_path / "golden.toml").write_text(text)
    with pytest.raises(InputError) as error:
        golden.read_cases(str(tmp_path))
    assert message in str(error.value)


def test_a_folder_without_a_list_and_a_wrong_action_are_errors(tmp_path, npuc):
    assert npuc("golden", "check", tmp_path)[0] == 3
    assert npuc("golden", "compare", tmp_path)[0] == 2


# --- the example for users ----------------------------------------------------------------------------------------
def test_the_example_for_ci_records_and_checks_and_pins_this_version(tmp_path, npuc, compiled_once):
    example = REPOSITORY / "examples" / "ci"
    shutil.copytree(example / "golden", tmp_path / "golden")
    assert npuc("golden", "record", tmp_path / "golden")[0] == 0
    assert npuc("golden", "check", tmp_path / "golden")[0] == 0
    workflow = (example / "npuc-golden.yml").read_text()
    assert f'"npuc=={__version__}"' in workflow and "npuc golden check golden --artifacts" in workflow
