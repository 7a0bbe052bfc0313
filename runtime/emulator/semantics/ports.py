"""What leaves and enters a core by its stream and cascade ports and its tile's registers.

The status bits of stream moves (srSS0: bit 0 TLAST, bit 1 success; srMS0: bit 0 success) are those of UG1583, Status
registers; the meaning of the packet header operands is that of the public toolchain's headers (llvm-aie,
aiev2_pckt_header.h); the header words are laid out as in facts/platform/device_npu1.md, "Stream switch".
"""

from __future__ import annotations

from typing import Any

from npuc.runtime.emulator.semantics.registry import rule

_NB, _TLAST = r"(?P<nb>\.nb)?", r"(?P<last>\.tlast)?"


@rule(r"mov", syntax=r", SS$", reads="stream.word stream.last stream.success", writes="srSS0")
@rule(r"mov\.nb", syntax=r", SS$", reads="stream.polled stream.last stream.success", writes="srSS0")
def read_stream(v: Any, word: int, last: int, success: int) -> Any:
    """A failed non-blocking read gives 0 (assumed)."""
    return word, last | success << 1


def _offered(v: Any, word: Any, tlast: tuple[int, ...], last: str | None, nb: str | None) -> Any:
    """The word, whether it carries TLAST (by the mnemonic, or r28), whether the core waits."""
    bit = (
        v.choose(tlast[0], (0, 1), lambda known: known, "r28 as TLAST of a stream write,")
        if tlast
        else int(last is not None)
    )
    return word, bit, int(nb is None)


@rule(rf"mov{_NB}{_TLAST}", syntax=r" ms, \$src", writes="stream.out stream.last stream.blocking")
def write_stream(v: Any, word: int, *tlast: int, nb: str | None, last: str | None) -> Any:
    return _offered(v, word, tlast, last, nb)


def _odd_parity(word: Any) -> Any:
    """The word with bit 31 set so that the number of ones is odd."""
    folded = word ^ (word >> 16)
    for distance in (8, 4, 2, 1):
        folded = folded ^ (folded >> distance)
    return word | ((folded & 1) ^ 1) << 31


@rule(
    rf"mov\.ph{_NB}{_TLAST}",
    syntax=r"ms, \$id, \$pcktType",
    reads="core.column core.row",
    writes="stream.out stream.last stream.blocking",
)
def write_packet_header(v: Any, identity: int, kind: int, *rest: int, nb: str | None, last: str | None) -> Any:
    """Packet id, type and the core's place as source."""
    *tlast, column, row = rest
    word = (identity & 31) | (kind & 7) << 12 | (row & 31) << 16 | (column & 127) << 21
    return _offered(v, _odd_parity(word), tuple(tlast), last, nb)


@rule(
    rf"mov\.cph{_NB}{_TLAST}", syntax=r"ms, \$addr, \$nw, \$op, \$id", writes="stream.out stream.last stream.blocking"
)
def write_control_header(
    v: Any, address: int, beats: int, operation: int, identity: int, *tlast: int, nb: str | None, last: str | None
) -> Any:
    """The second word of a control packet: address, beats - 1, operation, id of the response."""
    word = (address & 0xFFFFF) | (beats & 3) << 20 | (operation & 3) << 22 | (identity & 31) << 24
    return _offered(v, _odd_parity(word), tlast, last, nb)


@rule(r"vmov", syntax=r", SCD$", reads="cascade.word")
def read_cascade(v: Any, bits: Any) -> Any:
    return bits


@rule(r"vmov", syntax=r" MCD, ", reads="crMCDEn", writes="cascade.out cascade.enabled")
def write_cascade(v: Any, bits: Any, enabled: int) -> Any:
    return bits, enabled


@rule(r"lda\.tm", access="register load", bytes=4)
def load_tile_register(v: Any, word: int) -> int:
    return word


@rule(r"st\.tm", access="register store", bytes=4)
def store_tile_register(v: Any, word: int) -> int:
    return word
