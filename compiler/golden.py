"""Golden binaries: what cases listed in golden.toml compiled to when they were recorded, and whether they still do.

A folder of goldens holds golden.toml, the sources it names and one recorded file for every case and stage:

    [[case]]
    name = "s64-d64"              # the recorded files' name: letters, digits, . _ -
    source = "s64-d64.mlir"       # relative to the folder
    keep = ["xclbin", "plan"]     # stages to record; default ["xclbin"]
    function = "attention"        # these four as the options of npuc compile, each may be left out
    columns = 2
    precision = "bf16"
    options = { recipe = "fast" }

Cases are compiled without the cache and with SOURCE_DATE_EPOCH taken out of the environment, so the same compiler gives
the same bytes on any machine.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npuc.compiler import driver
from npuc.compiler.diagnostics import InputError, NpucError, Place
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.inspect.diff.report import Report

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = "golden.toml"
SUFFIXES = {
    "xclbin": ".xclbin", "npua": ".npua", "pdi": ".pdi", "txn": ".txn", "plan": ".plan.txt", "asm": ".s",
    "attn": ".attn.mlir",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_KEYS = {"name": str, "source": str, "keep": list, "function": str, "columns": int, "precision": str, "options": dict}
SAME, MISSING, DIFFERS, RECORDED, UPDATED, FAILED = "same", "missing", "differs", "recorded", "updated", "failed"


@dataclass(frozen=True)
class Case:
    """One line of golden.toml: a source with options, and the stages that are kept of it."""

    name: str
    source: str
    keep: tuple[str, ...] = ("xclbin",)
    function: str | None = None
    columns: int | None = None
    precision: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """Stage -> name of its recorded file."""
        return {stage: self.name + SUFFIXES[stage] for stage in self.keep}


@dataclass(frozen=True)
class FileResult:
    """One recorded file against what its case compiles to now.

    report: of binaries that differ; text: of texts that differ, a unified diff; new: the bytes of now.
    """

    file: str
    status: str
    new: bytes = b""
    report: Report | None = None
    text: str = ""

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = {"file": self.file, "status": self.status, "bytes": len(self.new)}
        return {**told, "diff": self.report.to_json() if self.report else self.text or None}


@dataclass(frozen=True)
class CaseResult:
    """A case with its files; error: why it does not compile."""

    case: Case
    files: tuple[FileResult, ...] = ()
    error: str = ""

    @property
    def status(self) -> str:
        """The worst of the files', or 'failed'."""
        found = {result.status for result in self.files}
        order = (DIFFERS, MISSING, UPDATED, RECORDED)
        return FAILED if self.error else next((status for status in order if status in found), SAME)

    def to_json(self) -> dict[str, Any]:
        files = [result.to_json() for result in self.files]
        return {"name": self.case.name, "status": self.status, "error": self.error or None, "files": files}


# --- golden.toml --------------------------------------------------------------------------------------------------
def read_cases(folder: str) -> tuple[Case, ...]:
    """The cases of a folder.  Raises InputError naming file and line or case for anything that is not right."""
    path = os.path.join(folder, LIST)
    try:
        content = tomllib.loads(read_bytes(path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError("is not text", place=path) from error
    except RecursionError as error:
        raise InputError("values are nested too deep", place=path) from error
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        place = Place(path, int(at[1]), int(at[2])) if at else Place(path)
        raise InputError(re.sub(r"\s*\(at .*\)", "", str(error)), place=place) from error
    unknown = sorted(content.keys() - {"case"})
    if unknown:
        raise InputError(f"key {unknown[0]!r} is unknown", place=path, remedy="there is [[case]]")
    entries = content.get("case", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("cases are not tables", place=path, remedy="write [[case]]")
    if not entries:
        raise InputError("lists no case", place=path, remedy="write [[case]] with name and source")
    cases = tuple(_case(entry, number, path) for number, entry in enumerate(entries, 1))
    for case in cases:
        if sum(other.name.lower() == case.name.lower() for other in cases) > 1:  # one file on some systems
            raise InputError(f"two cases are named {case.name}", place=path)
    return cases


def _case(entry: Mapping[str, Any], number: int, path: str) -> Case:
    name = entry.get("name")
    title = f"case {name}" if isinstance(name, str) else f"case number {number}"

    def wrong(message: str, remedy: str | None = None) -> InputError:
        return InputError(f"{title}: {message}", place=path, remedy=remedy)

    for key, value in entry.items():
        if key not in _KEYS:
            raise wrong(f"key {key!r} is unknown", f"there is {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise wrong(f"{key} is no {_KEYS[key].__name__}")
    for key in ("name", "source"):
        if not entry.get(key):
            raise wrong(f"has no {key}")
    if not _NAME.fullmatch(entry["name"]):
        raise wrong("the name is part of file names", "letters, digits, '.', '_' and '-'")
    keep = tuple(entry.get("keep", ("xclbin",)))
    for stage in keep:
        if stage not in SUFFIXES:
            raise wrong(f"stage {stage!r} cannot be kept", f"one of {', '.join(SUFFIXES)}")
    if not keep or len(set(keep)) != len(keep):
        raise wrong("keep names no stage, or one twice")
    options = {key: _option(value, wrong) for key, value in entry.get("options", {}).items()}
    chosen = {key: entry[key] for key in ("function", "columns", "precision") if key in entry}
    return Case(entry["name"], entry["source"], keep, options=options, **chosen)


def _option(value: Any, wrong: Callable[[str], InputError]) -> str:
    if isinstance(value, (str, int, float)):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise wrong(f"option value {value!r} is no string or number")


def stale_files(folder: str, cases: tuple[Case, ...]) -> list[str]:
    """Files of the folder that look recorded but belong to no case."""
    expected = {file for case in cases for file in case.files().values()} | {case.source for case in cases}
    present = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
    return [name for name in present if name not in expected and name.endswith(tuple(SUFFIXES.values()))]


# --- comparing and recording --------------------------------------------------------------------------------------
@contextlib.contextmanager
def _without_build_time() -> Iterator[None]:
    """The time that goes into files is zero, whatever the environment says."""
    time = os.environ.pop("SOURCE_DATE_EPOCH", None)
    try:
        yield
    finally:
        if time is not None:
            os.environ["SOURCE_DATE_EPOCH"] = time


def compile_case(folder: str, case: Case) -> dict[str, bytes]:
    """Name of the recorded file -> what the case compiles to now.  Raises what npuc.compile raises."""
    settings = driver.Settings(
        function=case.function,
        columns=case.columns,
        precision=case.precision,
        options=case.options,
        use_cache=False,
    )
    with _without_build_time():
        compiled = driver.compile_file(os.path.join(folder, case.source), settings)
    return {file: compiled.stage(stage) for stage, file in case.files().items()}


def check_case(folder: str, case: Case) -> CaseResult:
    """Compile a case and compare every kept file with the recorded one."""
    try:
        outputs = compile_case(folder, case)
    except NpucError as error:
        return CaseResult(case, error=str(error))
    return CaseResult(case, tuple(_compare(folder, file, new) for file, new in outputs.items()))


def _compare(folder: str, file: str, new: bytes) -> FileResult:
    path = os.path.join(folder, file)
    if not os.path.exists(path):
        return FileResult(file, MISSING, new)
    old = read_bytes(path)
    if old == new:
        return FileResult(file, SAME, new)
    names = f"{file} (recorded)", f"{file} (compiled)"
    if file.endswith((SUFFIXES["plan"], SUFFIXES["asm"], SUFFIXES["attn"])):
        before, after = (data.decode("utf-8", "replace").splitlines() for data in (old, new))
        lines = difflib.unified_diff(before, after, *names, lineterm="")
        return FileResult(file, DIFFERS, new, text="\n".join(lines))
    from npuc.compiler.inspect.diff.compare import compare

    return FileResult(file, DIFFERS, new, report=compare(old, new, names))


def write_results(folder: str, result: CaseResult, replace: bool) -> CaseResult:
    """Write the files that are missing, and, where `replace`, those that differ."""
    written = []
    for found in result.files:
        status = found.status
        if status == MISSING or (status == DIFFERS and replace):
            write_bytes(os.path.join(folder, found.file), found.new)
            status = RECORDED if status == MISSING else UPDATED
        written.append(FileResult(found.file, status, found.new, found.report, found.text))
    return CaseResult(result.case, tuple(written), result.error)
