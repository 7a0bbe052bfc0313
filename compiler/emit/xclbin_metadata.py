"""EMBEDDED_METADATA of an XCLBIN: the XML that tells kernels and arguments to the runtime.

Source: facts/platform/xclbin.md section 2.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from npuc.compiler.emit.layout import malformed

WHAT = "EMBEDDED_METADATA"
LARGEST = 16 << 20  # bytes; shipped files have some ten thousand
FIRST_BUFFER_OFFSET, BUFFER_BYTES = 0x14, 8


@dataclass(frozen=True)
class KernelArgument:
    """One argument: place in the register map in bytes, C type, whether it is a pointer to a buffer."""

    name: str
    type: str
    pointer: bool
    offset: int
    size: int


@dataclass(frozen=True)
class KernelDescription:
    """A kernel of type dpu; `kernel_id` is None for helpers that have no PDI, `functional` 1 for older sequences."""

    name: str
    instances: tuple[str, ...]
    kernel_id: int | None
    arguments: tuple[KernelArgument, ...]
    functional: int = 0


def kernel_arguments(buffers: Iterable[str]) -> tuple[KernelArgument, ...]:
    """opcode, instr, ninstr and the buffers; the register map is packed at 4-byte boundaries."""
    fixed = (
        KernelArgument("opcode", "uint64_t", False, 0x00, 8),
        KernelArgument("instr", "char *", True, 0x08, 8),
        KernelArgument("ninstr", "uint32_t", False, 0x10, 4),
    )
    pointers = (
        KernelArgument(name, "void*", True, FIRST_BUFFER_OFFSET + BUFFER_BYTES * i, BUFFER_BYTES)
        for i, name in enumerate(buffers)
    )
    return (*fixed, *pointers)


def buffer_names(kernel: KernelDescription) -> tuple[str, ...]:
    """The buffer arguments: those after ninstr."""
    names = [argument.name for argument in kernel.arguments]
    return tuple(names[names.index("ninstr") + 1 if "ninstr" in names else 3 :])


def write_metadata(kernels: Sequence[KernelDescription]) -> bytes:
    """The XML of these kernels."""
    project = ElementTree.Element("project")
    core = project
    for tag in ("platform", "device", "core"):
        core = ElementTree.SubElement(core, tag)
    for kernel in kernels:
        assert kernel.kernel_id is not None
        node = ElementTree.SubElement(core, "kernel", name=kernel.name, language="c", type="dpu")
        extended = {"subtype": "1", "functional": str(kernel.functional), "dpu_kernel_id": f"{kernel.kernel_id:#x}"}
        ElementTree.SubElement(node, "extended-data", extended)
        for number, argument in enumerate(kernel.arguments):
            ElementTree.SubElement(
                node, "arg", name=argument.name, addressQualifier=str(int(argument.pointer)), id=str(number),
                size=f"{argument.size:#x}", offset=f"{argument.offset:#x}", hostOffset="0x0",
                hostSize=f"{argument.size:#x}", type=argument.type,
            )  # fmt: skip
        for instance in kernel.instances:
            ElementTree.SubElement(node, "instance", name=instance)
    return ElementTree.tostring(project, encoding="utf-8", xml_declaration=True)


def read_metadata(data: bytes) -> tuple[KernelDescription, ...]:
    """The kernels of type dpu; InputError when the XML is malformed or lacks project/platform/device/core."""
    if len(data) > LARGEST:
        raise malformed(WHAT, 0, f"{len(data)} bytes")
    try:
        source = data.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(WHAT, error.start, "is not UTF-8") from error
    if "<!DOCTYPE" in source or "<!ENTITY" in source:  # entities could expand without bound
        raise malformed(WHAT, 0, "declares a document type")
    try:
        root = ElementTree.fromstring(source.strip())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise malformed(WHAT, 0, f"is no XML ({error})") from error
    core = root.find("./platform/device/core")
    if root.tag != "project" or core is None:
        raise malformed(WHAT, 0, "lacks project/platform/device/core")
    return tuple(_kernel(node) for node in core.findall("kernel") if node.get("type", "dpu") == "dpu")


def _kernel(node: ElementTree.Element) -> KernelDescription:
    extended = node.find("extended-data")
    attributes = extended.attrib if extended is not None else {}
    kernel_id = attributes.get("dpu_kernel_id")
    arguments = tuple(
        KernelArgument(
            arg.get("name", ""),
            arg.get("type", ""),
            _number(arg.get("addressQualifier", "0")) == 1,
            _number(arg.get("offset", "0")),
            _number(arg.get("size", "0")),
        )
        for arg in node.findall("arg")
    )
    return KernelDescription(
        node.get("name", ""),
        tuple(instance.get("name", "") for instance in node.findall("instance")),
        None if kernel_id is None else _number(kernel_id),
        arguments,
        _number(attributes.get("functional", "0")),
    )


def _number(literal: str) -> int:
    try:
        value = int(literal, 0)
    except ValueError as error:
        raise malformed(WHAT, 0, f"{literal[:40]!r} is no number") from error
    if not 0 <= value < 1 << 64:
        raise malformed(WHAT, 0, f"{literal[:40]!r} exceeds 64 bits")
    return value
