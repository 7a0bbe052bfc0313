"""The array as a drawing: tiles with their buffers by bank, and the streams between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.report.configured import BANK_BYTES, Configured, Stream, configured
from npuc.runtime.report.markup import Markup, bar, drawing, element, joined, legend, table, text_at
from npuc.runtime.report.subject import Subject

WIDTH, HEIGHT, GAP_X, GAP_Y, TOP = 122, 74, 18, 26, 6
COLOURS = 6  # of streams
FROM = "A stream goes from its dot to every end of its line."
KIND_NAMES = {"core": "core", "memtile": "memory tile", "shim": "shim"}


def section(subject: Subject) -> Markup:
    """The drawing, and tables of its streams and of the buffers of each distinct tile."""
    tiles, streams = configured(subject)
    columns = 1 + max((tile.column for tile in tiles), default=0)
    width = columns * (WIDTH + GAP_X) - GAP_X + 2 * TOP
    height = geometry.ROWS * (HEIGHT + GAP_Y) - GAP_Y + 2 * TOP
    loads = list(dict.fromkeys(stream.carries for stream in streams))
    lines = [
        _stream(stream, lane, (loads.index(stream.carries) if any(loads) else index) % COLOURS)
        for index, (stream, lane) in enumerate(zip(streams, _lanes(streams), strict=True))
    ]
    title = f"{len(tiles)} tiles and {len(streams)} streams between them"
    texts = (text for tile in tiles for text in _texts(tile))
    picture = drawing(width, height, title, *(_tile(tile) for tile in tiles), *lines, *texts)
    keys = [("u1", "buffers of channels, by bank")]
    if any(not piece.moved for tile in tiles for piece in tile.pieces):
        keys.append(("u2", "buffers of the core alone"))
    if any(loads):
        keys += [
            (f"s{n % COLOURS}", f"streams of {_carried(load, subject.passing) or 'other data'}")
            for n, load in enumerate(loads)
        ]
    else:
        keys.append(("s0", "streams"))
    return joined(
        picture,
        legend(tuple(keys)),
        element("p", FROM, class_="dim"),
        _table(streams, subject.passing),
        _buffers(tiles),
    )


def _carried(names: tuple[str, ...], passing: Mapping[str, str]) -> str:
    return ", ".join(passing.get(name, name.upper() if len(name) == 1 else name) for name in names)


def _table(streams: tuple[Stream, ...], passing: Mapping[str, str]) -> Markup:
    rows = [
        (stream.unit, ", ".join(stream.units), _carried(stream.carries, passing), ", ".join(stream.buffers))
        for stream in streams
    ]
    summary = element("summary", f"{len(streams)} streams")
    return element("details", summary, table(("from", "to", "carries", "buffers"), rows, numeric_from=4))


def _corner(column: int, row: int) -> tuple[float, float]:
    """Upper left of a tile; row 0 lies at the bottom, as on the chip."""
    return TOP + column * (WIDTH + GAP_X), TOP + (geometry.ROWS - 1 - row) * (HEIGHT + GAP_Y)


def _tile(tile: Configured) -> Markup:
    x, y = _corner(tile.column, tile.row)
    parts = [bar(x, y, WIDTH, HEIGHT, "tile")]
    size = geometry.DATA_MEMORY_SIZE.get(tile.kind)
    if size is not None:
        inner, left, top = WIDTH - 12, x + 6, y + HEIGHT - 22
        parts.append(bar(left, top, inner, 14, "memory"))
        for piece in tile.pieces:
            at, wide = left + inner * piece.start / size, max(1.0, inner * (piece.end - piece.start) / size)
            parts.append(
                bar(
                    at,
                    top,
                    wide,
                    14,
                    "u1" if piece.moved else "u2",
                    f"{piece.name}: {piece.end - piece.start:,} bytes from {piece.start:#x}",
                )
            )
        for bank in range(1, size // BANK_BYTES[tile.kind]):
            at = left + inner * bank * BANK_BYTES[tile.kind] / size
            parts.append(element("line", x1=at, x2=at, y1=top, y2=top + 14, class_="bank"))
    return element("g", *parts)


def _texts(tile: Configured) -> Iterator[Markup]:
    """What stands in a tile, to be drawn over the streams."""
    x, y = _corner(tile.column, tile.row)
    yield text_at(x + 6, y + 15, f"{KIND_NAMES[tile.kind]} {tile.column},{tile.row}", class_="over")
    size = geometry.DATA_MEMORY_SIZE.get(tile.kind)
    if size is not None:
        yield text_at(x + 6, y + 34, f"{tile.used / 1024:,.0f} of {size // 1024} KiB", class_="small over")


def _lanes(streams: tuple[Stream, ...]) -> Iterator[float]:
    """Where across a tile each is drawn: those that start in one column beside each other."""
    counts = Counter(stream.source[0] for stream in streams)
    used: Counter[int] = Counter()
    for stream in streams:
        column = stream.source[0]
        yield 8 + (WIDTH - 16) * (used[column] + 0.5) / counts[column]
        used[column] += 1


def _stream(stream: Stream, shift: float, colour: int) -> Markup:
    """Lines from a tile to the others."""
    x, y = _corner(*stream.source)
    middle = HEIGHT / 2 + 5
    load = f": {', '.join(stream.buffers)}" if stream.buffers else ""
    name = f"{stream.unit} to {', '.join(stream.units)}{load}"
    parts = [element("title", name), element("circle", cx=x + shift, cy=y + middle, r=2.5)]
    for column, row in stream.ends:
        to_x, to_y = _corner(column, row)
        parts.append(element("line", x1=x + shift, y1=y + middle, x2=to_x + shift, y2=to_y + middle))
    return element("g", *parts, class_=f"stream s{colour}")


def _buffers(tiles: tuple[Configured, ...]) -> Markup:
    same: dict[tuple[str, tuple[tuple[int, int], ...]], list[Configured]] = {}
    for tile in tiles:
        if tile.pieces:
            same.setdefault((tile.kind, tuple((p.start, p.end) for p in tile.pieces)), []).append(tile)
    parts: list[Markup] = []
    for (kind, _), alike in same.items():
        first = alike[0]
        others = f" and {len(alike) - 1} more alike" if len(alike) > 1 else ""
        parts.append(element("summary", f"Buffers of {KIND_NAMES[kind]} {first.column},{first.row}{others}"))
        rows = [
            (piece.name, f"{piece.start:#x}", f"{piece.end - piece.start:,}", _banks(kind, piece.start, piece.end))
            for piece in first.pieces
        ]
        parts[-1] = element("details", parts[-1], table(("buffer", "first byte", "bytes", "banks"), rows))
    return joined(*parts)


def _banks(kind: str, start: int, end: int) -> str:
    first, last = start // BANK_BYTES[kind], max(start, end - 1) // BANK_BYTES[kind]
    return str(first) if first == last else f"{first} to {last}"
