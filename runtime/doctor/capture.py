"""Writing what was read of a system as a captured tree, without what is nobody's business."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.files import reason
from npuc.runtime.doctor import kernel_log
from npuc.runtime.doctor.captured import FORMAT, INDEX
from npuc.runtime.doctor.recording import Recording

KEPT_PARAMETERS = (
    "iommu",
    "amd_iommu",
    "modprobe.blacklist",
    "module_blacklist",
    "initcall_blacklist",
    "amdxdna.",
    "pcie_aspm",
)
SYSTEM_GIDS = 1000
"""Groups below are the system's; those above may be called as users are."""


def _matching(pattern: str) -> Callable[[str], str]:
    known = re.compile(pattern)
    return lambda text: "".join(f"{line}\n" for line in text.splitlines() if known.search(line))


def _matching_words(pattern: str) -> Callable[[str], str]:
    known = re.compile(pattern)
    return lambda text: "".join(f"{word}\n" for word in sorted(set(known.findall(text))))


def _parameters(text: str) -> str:
    return " ".join(word for word in text.split() if word.startswith(KEPT_PARAMETERS)) + "\n"


def _processor(text: str) -> str:
    guest = re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE)
    found = re.search(r"^model name\s*:.*$", text, re.MULTILINE)
    return f"{found[0] if found else ''}\nflags\t\t: {'hypervisor' if guest else ''}\n"


def _groups(text: str) -> str:
    parts = (line.split(":") for line in text.splitlines())
    return "".join(f"{p[0]}:x:{p[2]}:\n" for p in parts if len(p) > 2 and p[2].isdigit() and int(p[2]) < SYSTEM_GIDS)


def _log(text: str) -> str:
    return "".join(f"{line}\n" for line in kernel_log.lines(text))


REDUCED: tuple[tuple[str, Callable[[str], str]], ...] = (
    (r"/proc/cmdline", _parameters),
    (r"/proc/cpuinfo", _processor),
    (r"/proc/self/status", _matching(r"^CapEff:")),
    (r"/proc/self/limits", _matching(r"^Max locked memory")),
    (r"/etc/group", _groups),
    (r"/boot/config-.*", _matching(r"CONFIG_DRM_ACCEL")),
    (r"/(etc|run|lib|usr/lib)/modprobe\.d/.*", _matching(r"amdxdna")),
    (r"/(\.dockerenv|run/\.containerenv|\.flatpak-info)", lambda text: ""),
    (r"/proc/1/cgroup", _matching_words(r"kubepods|/docker|libpod|/lxc")),
    (r"/(usr/)?lib/modules/.*/modules\.dep", lambda text: ""),
    (r"/var/log/.*|/dmesg(\.txt)?|dmesg|journalctl", _log),
    (r"modinfo", _matching(r"^(filename|version|srcversion|vermagic|depends|intree):")),
    (r"dkms", _matching(r"amdxdna")),
    (r"lspci", _matching(r"\[1022:(1502|17f\d|1b0[ab])\]")),
)
"""What is kept of files and of outputs of commands (by path or name); of others all, as `redacted` leaves it."""

SECRETS: tuple[tuple[str, str], ...] = (
    (r"\b[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5}\b", "MAC"),
    (r"\b\d{1,3}(?:\.\d{1,3}){3}/\d{1,2}\b|\b(?:10|127|172|192)(?:\.\d{1,3}){3}\b", "ADDRESS"),
    (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "UUID"),
    (r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+", "MAIL"),
    (r"(?<=/home/)[^/\s:]+", "USER"),
    (r"(?i)(?<=serial)([ \t]{0,8}(?:number)?[ \t]{0,8}[:=]\s*)\S+", r"\1SERIAL"),
)


def own_names() -> tuple[str, ...]:
    """The user's and the host's names."""
    found: set[str] = set()
    with contextlib.suppress(OSError):
        host = socket.gethostname()
        found |= {host, host.partition(".")[0]}
    with contextlib.suppress(ImportError, KeyError, OSError):
        import pwd

        entry = pwd.getpwuid(os.getuid())
        found |= {entry.pw_name, entry.pw_gecos.partition(",")[0]}
    return tuple(sorted(found - {"", "root", "localhost"}, key=len, reverse=True))


def redacted(text: str, names: Iterable[str] = ()) -> str:
    """The text without addresses, serial numbers and names of users and hosts."""
    for pattern, replacement in SECRETS:
        text = re.sub(pattern, replacement, text)
    for name in names:
        text = re.sub(rf"(?<![\w-]){re.escape(name)}(?![\w-])", "NAME", text)
    return text


def redacted_values(value: Any, names: Iterable[str] = ()) -> Any:
    """The JSON value with all its texts redacted."""
    if isinstance(value, str):
        return redacted(value, names)
    if isinstance(value, dict):
        return {key: redacted_values(inner, names) for key, inner in value.items()}
    return [redacted_values(inner, names) for inner in value] if isinstance(value, (list, tuple)) else value


def reduced(name: str, text: str) -> str:
    for pattern, keep in REDUCED:
        if re.fullmatch(pattern, name):
            return redacted(keep(text), own_names())
    return redacted(text, own_names())


def write_tree(system: Recording, folder: str) -> None:
    """What was asked of the system, as a tree that answers the same. The folder must be new or empty.

    Raises InputError where it is not, or cannot be written; then nothing stays.
    """
    made: list[str] = []
    try:
        if os.path.lexists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
            raise InputError("the folder of a capture must be new or empty", place=folder)
        os.makedirs(folder, exist_ok=True)
        for path, text in _contents(system).items():
            here = os.path.join(folder, path.lstrip("/"))
            os.makedirs(os.path.dirname(here), exist_ok=True)
            if os.path.isdir(here):
                continue
            made.append(here)
            with open(here, "w", encoding="utf-8") as stream:
                stream.write(text)
        for path in (one for one, there in system.folders.items() if there):
            os.makedirs(os.path.join(folder, path.lstrip("/")), exist_ok=True)
    except OSError as error:
        for here in made:
            with contextlib.suppress(OSError):
                os.unlink(here)
        raise InputError(f"the capture cannot be written: {reason(error)}", place=folder) from error


def _contents(system: Recording) -> dict[str, str]:
    """Path -> text; links are kept as files with the name to which they lead, and the index comes first."""
    found = {INDEX: json.dumps(_index(system), indent=1) + "\n"}
    found |= {path: reduced(path, text) for path, text in system.texts.items() if text is not None}
    found |= {path: f"{name}\n" for path, name in system.links.items() if name is not None and path not in found}
    for paths in system.patterns.values():
        found |= {path: "" for path in paths if path not in found and path not in system.folders}
    holders = {path[:at] for path in found for at in range(1, len(path)) if path[at] == "/"}
    return {path: text for path, text in found.items() if path not in holders}


def _index(system: Recording) -> dict[str, Any]:
    names = own_names()
    outputs = {name: output for name, output in system.outputs.items() if output is not None}
    user = system.user()
    known = redacted_values(
        {
            "nodes": {path: asdict(node) for path, node in system.nodes.items()},
            "pyxrt": dict(system.pyxrt() or {}),
        },
        names,
    )
    return {
        "format": FORMAT,
        "commands": {name: {"code": one.code, "text": reduced(name, one.text)} for name, one in outputs.items()},
        "user": {
            "gids": _system_gids(user.gids), "listed": _system_gids(user.listed), "root": user.root,
        },
        **known,
    }  # fmt: skip


def _system_gids(gids: frozenset[int] | None) -> list[int] | None:
    return None if gids is None else sorted(gid for gid in gids if gid < SYSTEM_GIDS)
