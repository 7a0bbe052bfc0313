"""What a backend needs to run a kernel: its description, and, for devices, what lies in its file (XCLBIN or NPUA)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from npuc.compiler.argument_layout import AXES
from npuc.compiler.diagnostics import InputError, UnsupportedError, UsageError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.interface import argument_records, kernel_name
from npuc.runtime.arguments import DEVICE_DTYPES, NO_BUFFER, KernelArgument
from npuc.runtime.quantisation import quantised

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Self

    from npuc.compiler.emit.npua import ControlTemplate, Npua
    from npuc.passes.attention.call import Call, Left
    from npuc.passes.attention.masks import MaskCopy
    from npuc.passes.attention.plan import Plan
    from npuc.passes.attention.work import Work

XCLBIN_MAGIC = b"xclbin2\0"
NPUA_MAGIC = (0x4E505541).to_bytes(4, "little")


@dataclass(frozen=True)
class SourceText:
    """The text that a kernel was compiled from; file: what messages call it."""

    text: str
    file: str


@dataclass(frozen=True)
class DescribedKernel:
    """What a kernel computes: enough for the reference. name: as metadata has it. source: None where there is none.

    refusal: why no code can be made for it, where that was tried.
    """

    name: str
    arguments: tuple[KernelArgument, ...] = field(repr=False)
    attention: Attention = field(repr=False)
    source: SourceText | None = field(default=None, kw_only=True, repr=False)
    refusal: UnsupportedError | None = field(default=None, kw_only=True, compare=False)

    @property
    def inputs(self) -> tuple[KernelArgument, ...]:
        """What a call gives, in the order of the source: arguments that no kernel takes too."""
        found = [a for a in self.arguments if a.direction == "in"]
        for a in self.attention.beside:
            found.insert(a.place, KernelArgument(a.name, a.role, a.dtype, a.dtype, a.shape, "in", NO_BUFFER))
        return tuple(found)

    @property
    def outputs(self) -> tuple[KernelArgument, ...]:
        return tuple(a for a in self.arguments if a.direction == "out")

    @property
    def buffer_count(self) -> int:
        return 1 + max(a.buffer for a in self.arguments)

    def closed(self, sizes: Mapping[str, int]) -> Self:
        """With sizes that were open given by name. Raises UsageError for a name that is not open."""
        return self.computing(self.attention.bound(sizes)) if sizes else self

    def computing(self, attention: Attention) -> Self:
        """The same kernel for a call of another attention of its class: lengths, limits and scale may differ."""
        arguments = tuple(KernelArgument.from_json(record) for record in argument_records(attention))
        return replace(self, attention=attention, arguments=arguments)

    def called(self, arrays: Mapping[str, np.ndarray]) -> tuple[Self, dict[str, np.ndarray]]:
        """The kernel of a call with these arrays, by name, and those of them that it takes, as it takes them. Raises
        InputError for a scale that is none."""
        attention, taken = self.attention.called(arrays), self.attention.taken(arrays)
        return (self if attention is self.attention else self.computing(attention)), taken

    def of_arrays(self, shapes: Mapping[str, tuple[int, ...]]) -> Self:
        """With the open sizes that shapes by argument name show; wrong shapes are left to who reads the arrays."""
        sizes: dict[str, int] = {}
        for argument in self.arguments:
            shape = shapes.get(argument.name, ())
            if len(shape) == len(argument.given_shape):
                for name, given in _open_sizes(argument, shape).items():
                    if name not in sizes and given > 0:
                        sizes[name] = given
        return self.closed(sizes)

    def require_lengths(self) -> None:
        """Raises InputError where a length is open."""
        _ = self.attention.lengths


class Strides(NamedTuple):
    """Of a [batch, head, row, D] tensor, in 32-bit words."""

    batch: int
    head: int
    row: int


@dataclass(frozen=True)
class KernelFile(DescribedKernel):
    """A kernel with its code. entry: its name in the xclbin, None for a standalone NPUA.

    xclbin: the whole file's bytes, which XRT loads; None for a standalone NPUA. file: what messages call it.
    """

    entry: str | None
    metadata: Mapping[str, Any] = field(repr=False)
    columns: int
    control: ControlTemplate = field(repr=False)
    pdi: bytes = field(repr=False)
    xclbin: bytes | None = field(repr=False)

    call: Call | None = None  # what differs from the call that the file's own sequence is for
    strides: Mapping[str, Strides] = field(default_factory=dict)  # by role, of arguments that are not row-major
    left: Left | None = None  # what the call's mask leaves, where that is less than all
    file: str = field(default="<bytes>", compare=False, repr=False)
    rows_apart: bool = False  # whether the device has a row of the mask for each query, though all are alike

    @cached_property
    def plan(self) -> Plan:
        """The plan of the array image. Raises InputError where the metadata holds none."""
        from npuc.passes.attention.plan import Plan

        with told_of(self.file):
            return Plan.from_json(self.metadata["plan"])

    def computing(self, attention: Attention) -> KernelFile:
        """As DescribedKernel's; the sequence is then one of that call. Raises InputError for another class."""
        from npuc.passes.attention.call import call_of
        from npuc.passes.attention.image_class import NAMES, image_class

        own, wanted = image_class(self.attention)._asdict(), image_class(attention)._asdict()
        for name, value in wanted.items():
            if value != own[name]:
                what = NAMES.get(name, name)
                raise InputError(f"{what} belongs to the compiled kernel", remedy="compile another")
        kernel = super().computing(attention)
        return replace(kernel, call=None if attention.open_dimensions else call_of(attention))

    def sequence(self) -> bytes:
        """The runtime sequence as a TXN binary. Raises InputError where a length is open."""
        if self.call is None and not self.strides and self.left is None and not self.rows_apart:
            _ = self.attention.lengths
            return bytes(self.control.instantiate({}))
        from npuc.passes.attention.sequence import sequence
        from npuc.passes.attention.transfers import whole_arguments, without_keys

        self._require_known_words()
        numbers = {role: argument.buffer for argument in self.arguments for role in [argument.role]}
        operands = whole_arguments(self.plan, self._call, numbers, self._mask_shape, self.left)
        moved = {role: replace(getattr(operands, role), **steps._asdict()) for role, steps in self.strides.items()}
        operands = replace(operands, **moved)
        if self.left is not None:
            operands = without_keys(operands, self.left.first)
        return sequence(self.plan, self._seen_call, operands, self.metadata.get("sequence", "default"))

    def _require_known_words(self) -> None:
        """Raises InputError where the core programs take other words of a call than sequences made now have."""
        from npuc.passes.attention.call import WORDS_REVISION

        if self.metadata.get("words_revision", 1) != WORDS_REVISION[self.plan.precision]:
            version = self.metadata.get("compiler_version", "unknown")
            raise InputError(
                f"another npuc compiled this kernel (version {version}): its programs take other words of a call, and "
                "it serves only the lengths, layouts and scales that it was compiled for",
                place=self.file,
                remedy="compile it again",
            )

    @property
    def _call(self) -> Call:
        from npuc.passes.attention.call import call_of

        return call_of(self.attention) if self.call is None else self.call

    def laid_out(self, strides: Mapping[str, Strides]) -> KernelFile:
        """With inputs, by role, that are not row-major; the sequence is then one for them."""
        words = self.padded_head * self.row_dtype.itemsize // 4
        rows = {argument.role: argument.shape for argument in self.arguments}
        return replace(self, strides={role: s for role, s in strides.items() if s != _row_major(rows[role], words)})

    def quantised_as(self, arrays: Mapping[str, np.ndarray]) -> KernelFile:
        """With the scales of a call's arrays, by name, where these are floating and the device takes integers."""
        from npuc.passes.attention.integer_factors import quantities_of_scales

        scales = [quantised(arrays[self.attention.argument(role).name])[1].reshape(-1).tolist() for role in "qkv"]
        return replace(self, call=replace(self._call, quantities=quantities_of_scales(self.attention, *scales)))

    @property
    def row_dtype(self) -> np.dtype[Any]:
        """Of Q, K and V on the device."""
        return DEVICE_DTYPES["i8" if self.attention.precision == "int8" else "bf16"]

    def keeps(self, argument: KernelArgument) -> bool:
        """Whether the device has an argument's rows as the caller has them."""
        alike = bool(self.metadata.get("plan")) and self.padded_head == self.attention.head_dim
        return alike and argument.role in ("q", "k", "v") and not (argument.role == "q" and self.in_order)

    @property
    def longest_row_step(self) -> int:
        """Words between rows of Q, K and V that descriptors can step over."""
        from npuc.passes.attention.transfers import LONGEST_STEP

        return LONGEST_STEP // self.plan.keys_stepped

    @property
    def mask_copy(self) -> MaskCopy:
        """What the device has of the call's mask. Raises InputError where a length is open."""
        from npuc.passes.attention.masks import mask_copy, shape_of_keys

        shape = self._mask_shape
        assert shape is not None
        if self.left is not None:
            shape = shape_of_keys(shape, self.left.first, self.left.end)
        return mask_copy(self.plan, self._seen_call, shape)

    @property
    def _mask_shape(self) -> tuple[int, ...] | None:
        """As the copy has it of all keys; None without a mask."""
        shape = next((argument.shape for argument in self.arguments if argument.role == "mask"), None)
        if shape is None or not self.rows_apart:
            return shape
        return (*shape[:-2], self._call.query_length, *shape[-1:])

    @property
    def _seen_call(self) -> Call:
        """Of the keys that the mask leaves."""
        return self._call if self.left is None else self._call.leaving(self.left)

    @property
    def in_order(self) -> Work | None:
        """The items in whose order the device has rows of Q and the output, where that is another than the caller's:
        with a mask, where items have rows again."""
        if self.attention.mask is None or not self.metadata.get("plan"):
            return None
        from npuc.passes.attention.shares import plan_work

        work = plan_work(self.plan, self._seen_call, masked=True)
        return None if work.fills else work

    @property
    def padded_head(self) -> int:
        """Elements of a row on the device."""
        return self.plan.head_dim if self.metadata.get("plan") else self.attention.head_dim


def _row_major(shape: tuple[int, ...], row_words: int) -> Strides:
    """Of a whole argument; steps over one are 0."""
    _, heads, rows, _ = (1,) * (4 - len(shape)) + shape
    batch = 1 if len(shape) < 4 else shape[0]
    return Strides(heads * rows * row_words if batch > 1 else 0, rows * row_words if heads > 1 else 0, row_words)


def dimension_names(argument: KernelArgument) -> tuple[str, ...]:
    """Names of an argument's dimensions: B, H, S, Skv, D."""
    rows = "Skv" if argument.role in ("k", "v") else "S"
    return ("B", "H", rows, "Skv" if argument.role == "mask" else "D")[-len(argument.shape) :]


def _open_sizes(argument: KernelArgument, shape: tuple[int, ...]) -> dict[str, int]:
    """What a caller's shape says of the sizes that an argument leaves open."""
    names = dimension_names(argument)
    if not argument.layout:
        return {n: given for n, size, given in zip(names, argument.shape, shape, strict=True) if size is None}
    named = dict(zip(AXES, names, strict=True))
    walked = [(dimension, given) for dimension, given in zip(argument.layout, shape, strict=True)]
    return {
        named[axis]: given // math.prod(other for _, other in dimension if other is not None)
        for dimension, given in walked
        for axis, size in dimension
        if size is None
    }


def described(
    attention: Attention, source: SourceText | None = None, refusal: UnsupportedError | None = None
) -> DescribedKernel:
    """The kernel that an attention is, without code. refusal: why there is none."""
    arguments = tuple(KernelArgument.from_json(record) for record in argument_records(attention))
    return DescribedKernel(kernel_name(attention.function), arguments, attention, source=source, refusal=refusal)


def is_kernel_file(data: bytes) -> bool:
    """Whether the bytes begin as an XCLBIN or an NPUA does."""
    return data.startswith((XCLBIN_MAGIC, NPUA_MAGIC))


def read_kernel(data: bytes, file: str = "<bytes>", name: str | None = None) -> KernelFile:
    """The kernel of that name (None: the only one). Raises InputError, UsageError on a name that is not there."""
    with told_of(file):
        if not data:
            raise InputError("is empty")
        if data.startswith(NPUA_MAGIC):
            return _from_npua(data, file, name)
        return _from_xclbin(data, file, name)


@contextmanager
def told_of(file: str) -> Iterator[None]:
    """Errors that have no place are of this file."""
    try:
        yield
    except InputError as error:
        if error.place is not None:
            raise
        raise type(error)(error.message, place=file, remedy=error.remedy) from error


def _from_npua(data: bytes, file: str, name: str | None) -> KernelFile:
    from npuc.compiler.emit.npua import read_npua

    npua = read_npua(data)
    if npua.pdi is None:
        raise InputError("NPUA without an array image", remedy="give the xclbin it belongs to")
    return _kernel(npua, npua.pdi, file, None, None, name)


def _from_xclbin(data: bytes, file: str, name: str | None) -> KernelFile:
    from npuc.compiler.emit.npua import read_npua
    from npuc.compiler.emit.xclbin import read_xclbin

    xclbin = read_xclbin(data)
    entries = [entry for entry in xclbin.kernels if entry.npua]
    if not entries:
        raise InputError("carries no npuc metadata", remedy="only kernels that npuc compiled can be run")
    names = [entry.name for entry in entries]
    if name is None and len(entries) > 1:
        raise UsageError(
            f"holds {len(entries)} kernels: {', '.join(names)}", place=file, remedy="choose one with --kernel"
        )
    if name is not None and name not in names:
        raise UsageError(f"no kernel {name!r}", place=file, remedy=f"there is {', '.join(names)}")
    entry = entries[0 if name is None else names.index(name)]
    kernel = _kernel(read_npua(entry.npua), xclbin.pdi_of(entry), file, entry.name, data, name)
    # Of several kernels the widest is as wide as the partition.
    if kernel.columns > xclbin.columns or (len(entries) == 1 and kernel.columns != xclbin.columns):
        raise InputError(f"metadata says {kernel.columns} columns, the xclbin {xclbin.columns}")
    return kernel


def _require_same_arguments(kernel: KernelFile) -> None:
    declared = [(a.name, a.dtype, a.shape, a.layout) for a in kernel.arguments]
    described = [(a.name, a.dtype, a.shape, a.layout) for a in kernel.attention.arguments]
    if declared != described:
        raise ValueError("its arguments are not those of its attention")
    for argument in kernel.arguments:
        if argument.buffer >= len(kernel.arguments):
            raise ValueError(f"argument {argument.name} is buffer {argument.buffer} of {len(kernel.arguments)}")


def _kernel(
    npua: Npua,
    pdi: bytes,
    file: str,
    entry: str | None,
    xclbin: bytes | None,
    wanted: str | None,
) -> KernelFile:
    if hashlib.sha256(pdi).digest() != npua.pdi_sha256:
        raise InputError("the program was changed: its array image is not the one the metadata was made for")
    metadata = npua.metadata
    try:
        kernel = KernelFile(
            name=str(metadata["kernel"]),
            entry=entry,
            arguments=tuple(KernelArgument.from_json(a) for a in metadata["arguments"]),
            attention=Attention.from_json(metadata["attention"]),
            metadata=metadata,
            columns=int(metadata["columns"]),
            control=npua.control,
            pdi=pdi,
            xclbin=xclbin,
            file=file,
            source=None if npua.source is None else SourceText(npua.source, f"{file} (source)"),
        )
        _require_same_arguments(kernel)
        if not kernel.name.isprintable():
            raise ValueError("the kernel's name is not printable")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"broken metadata: {what}") from error
    if entry is None and wanted not in (None, kernel.name):
        raise UsageError(f"no kernel {wanted!r}", place=file, remedy=f"there is {kernel.name}")
    return kernel
