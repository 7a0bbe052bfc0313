"""HTML and SVG as text that is escaped once: what is not Markup is text."""

from __future__ import annotations

import html
from collections.abc import Sequence

from npuc.compiler.plain_text import printable

VOID = frozenset({"meta", "br"})


class Markup(str):
    """Finished markup."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """An element. Attributes: `class_` is class, other underscores are hyphens, None leaves one out."""
    parts = [tag]
    for name, value in attributes.items():
        if value is not None:
            text = _number(value) if isinstance(value, int | float) else value
            parts.append(f'{name.rstrip("_").replace("_", "-")}="{html.escape(printable(text), quote=True)}"')
    if tag in VOID:
        return Markup(f"<{' '.join(parts)}/>")
    return Markup(f"<{' '.join(parts)}>{joined(*children)}</{tag}>")


def joined(*children: str) -> Markup:
    """Children one after the other; text among them is escaped."""
    return Markup("".join(c if isinstance(c, Markup) else html.escape(printable(c), quote=False) for c in children))


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]], numeric_from: int = 1) -> Markup:
    """A table that scrolls by itself where it is wider than the page; columns from `numeric_from` on are numbers."""
    kinds = [None if index < numeric_from else "n" for index in range(len(head))]
    headings = element("tr", *(element("th", text, class_=kind) for text, kind in zip(head, kinds, strict=True)))
    lines = (element("tr", *(element("td", t, class_=k) for t, k in zip(row, kinds, strict=True))) for row in rows)
    inner = element("table", element("thead", headings), element("tbody", *lines))
    return element("div", inner, class_="wide")


def drawing(width: float, height: float, title: str, *children: str) -> Markup:
    """An SVG that shrinks with the page and says what it shows."""
    box = f"0 0 {_number(width)} {_number(height)}"
    inner = element(
        "svg", element("title", title), *children, viewBox=box, role="img", style=f"max-width:{_number(width)}px",
        xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip
    return element("div", inner, class_="drawing")


def text_at(x: float, y: float, text: str, anchor: str | None = None, class_: str | None = None) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_)


def bar(x: float, y: float, width: float, height: float, class_: str, hint: str | None = None) -> Markup:
    """A rectangle; hint: what a pointer on it is told."""
    inner = () if hint is None else (element("title", hint),)
    return element("rect", *inner, x=x, y=y, width=width, height=height, class_=class_)


def legend(entries: tuple[tuple[str, str], ...]) -> Markup:
    """(class of the colour, text) each."""
    return element("p", *(element("span", element("i", class_=c), text) for c, text in entries), class_="legend")


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
