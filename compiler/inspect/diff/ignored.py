"""What a comparison may leave out of account: identities and times, which packers make anew for the same contents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npuc.compiler.inspect.diff.report import Difference, Section

KINDS = ("uuid", "time")
_TIMES = ("timestamp", "timeepoch", "featureromtime", "featureromtimestamp")
_HEADERS = ("header", "mirror of header and table")
_UNIQUE_ID = "uniqueid"  # of an xclbin's header: the time in another form


def ignoring(sections: Sequence[Section], kinds: Sequence[str]) -> tuple[Section, ...]:
    """The sections with the differences of these kinds marked as ignored."""
    return tuple(
        replace(s, differences=tuple(replace(d, ignored=_kind(s, d) in kinds) for d in s.differences)) for s in sections
    )


def _kind(section: Section, difference: Difference) -> str | None:
    """Told by the last name of the place: `header.XclBinUUID`, `build_metadata.xclbin.generated_by.time_stamp`."""
    name = difference.place.rpartition(".")[2].replace("_", "").lower()
    if name == _UNIQUE_ID and section.name in _HEADERS:
        return "time"
    if name.endswith("uuid"):
        return "uuid"
    return "time" if name in _TIMES else None
