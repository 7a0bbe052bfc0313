"""IREE's own form of iree_linalg_ext operations, turned into MLIR's generic form by IREE's compiler.

The bindings know the dialect by its generic form only. `iree-opt` of the package iree-base-compiler reads the other; it
is asked where it is installed, beside this Python or on the path.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess

from npuc.compiler.diagnostics import InputError, Place

OWN_FORM = re.compile(r'(?<!["\w.])iree_linalg_ext\.\w+')
_COMMENT = re.compile(r"//[^\n]*")
_ATTRIBUTES = re.compile(r"(\biree_linalg_ext\.(?:online_)?attention)\s*\{")
PROPERTIES = ("indexing_maps", "decomposition_config")
# IREE's functions, with what they say of operands that results take the place of.
FUNCTIONS = (
    (re.compile(r'"util\.func"'), '"func.func"'),
    (re.compile(r'"util\.return"'), '"func.return"'),
    (re.compile(r", tied_operands = \[[^\]]*\]"), ""),
)
SECONDS = 60
REMEDY = "install iree-base-compiler, or give the module in its generic form (iree-opt --mlir-print-op-generic)"


def in_generic_form(text: str, file: str) -> str:
    """The module with all operations in their generic form, at the places of `text`; the same text where it has no
    iree_linalg_ext in IREE's own form. Raises InputError where that cannot be read."""
    found = OWN_FORM.search(_COMMENT.sub(lambda comment: " " * len(comment[0]), text))
    if found is None:
        return text
    line = text.count("\n", 0, found.start()) + 1
    place = Place(file, line, found.start() - text.rfind("\n", 0, found.start()))
    tool = _iree_opt()
    if tool is None:
        raise InputError(f"{found[0]} is in IREE's own form", place=place, remedy=REMEDY)
    first = _run(tool, text)
    # Until LLVM 24 indexing maps stood among the other attributes.
    made = first if first.returncode == 0 else _run(tool, _as_properties(text))
    if made.returncode != 0:
        told = re.search(r"<stdin>:(\d+):(\d+): error: (.*)", first.stderr)
        where = place if told is None else Place(file, int(told[1]), int(told[2]))
        raise InputError(f"iree-opt: {'it fails' if told is None else told[3]}", place=where, remedy=REMEDY)
    generic = made.stdout.replace('loc("<stdin>":', f"loc({_quoted(file)}:")
    for own, name in FUNCTIONS:
        generic = own.sub(name, generic)
    return generic


def _iree_opt() -> str | None:
    package = importlib.util.find_spec("iree")
    for folder in (package.submodule_search_locations or ()) if package else ():
        tool = os.path.join(folder, "compiler", "_mlir_libs", "iree-opt")
        if os.access(tool, os.X_OK):
            return tool
    return shutil.which("iree-opt")


def _run(tool: str, text: str) -> subprocess.CompletedProcess[str]:
    words = [tool, "--mlir-print-op-generic", "--mlir-print-debuginfo", "--allow-unregistered-dialect", "-"]
    try:
        return subprocess.run(words, input=text, capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(words, 1, "", str(error))


def _as_properties(text: str) -> str:
    """The same with an attention's own attributes as properties."""
    parts, at = [], 0
    for found in _ATTRIBUTES.finditer(text):
        if found.start() < at:
            continue
        end = _closing(text, found.end())
        inside, own = text[found.end() : end], []
        for name in PROPERTIES:
            begins = re.search(rf"\b{name}\s*=\s*[\[{{]", inside)
            if begins is not None:
                last = _closing(inside, begins.end()) + 1
                own.append(inside[begins.start() : last])
                inside = inside[: begins.start()] + re.sub(r"^\s*,", "", inside[last:])
        rest = inside.strip().rstrip(",")
        parts += [text[at : found.start()], found[1], f" <{{{', '.join(own)}}}>", f" {{{rest}}}" if rest else ""]
        at = end + 1
    return "".join([*parts, text[at:]])


def _closing(text: str, at: int) -> int:
    """Where the bracket closes that is open at a place."""
    depth = 1
    for place in range(at, len(text)):
        depth += (text[place] in "[{") - (text[place] in "]}")
        if depth == 0:
            return place
    return len(text) - 1


def _quoted(file: str) -> str:
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\{ord(c) & 0xFF:02X}" for c in file) + '"'
