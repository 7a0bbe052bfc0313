"""A report as one HTML page that needs nothing else: no script, no file besides."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from npuc.compiler.inspect.diff.report import Difference, Report, Section
from npuc.compiler.inspect.diff.text import counted, difference_text, gathered, summary
from npuc.compiler.plain_text import printable

MOST = 2000  # differences of one section; a page of more serves nobody
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em; }
pre, code { font: 13px/1.4 ui-monospace, monospace; } pre { margin: .2em 0 .8em 1.5em; overflow-x: auto; }
table { border-collapse: collapse; } td, th { padding: .15em .9em .15em 0; text-align: left; }
summary { font-weight: 600; cursor: pointer; padding: .2em 0; } li { margin: .15em 0; }
.del { background: #ffd7d5; color: #660000; } .ins { background: #d2f4d3; color: #003d00; } .dim { color: #666; }
@media (prefers-color-scheme: dark) { body { background: #16181c; color: #ddd; } .dim { color: #999; }
  .del { background: #5c1f1f; color: #ffd7d5; } .ins { background: #1c4a24; color: #d2f4d3; } }
"""


def _text(text: str) -> str:
    return escape(printable(text))


def render_html(report: Report) -> str:
    """The page: summary, a table of the sections, and each section's differences, folded where they are many."""
    return "\n".join(_page(report)) + "\n"


def _page(report: Report) -> Iterator[str]:
    title = f"npuc diff {report.a.file} {report.b.file}"
    yield f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
    yield f"<style>{_STYLE}</style></head><body>"
    yield f"<h1>{_text(next(summary(report)))}</h1>"
    yield "<table><tr><th></th><th>file</th><th>format</th><th>bytes</th><th>sha256</th></tr>"
    for name, side in (("a", report.a), ("b", report.b)):
        cells = (name, side.file, side.format, f"{side.bytes:,}", side.sha256)
        yield "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"
    yield "</table>"
    for section in report.sections:
        if section.differences:
            yield from _section(section)
    same = [section.name for section in report.sections if not section.differences]
    if same:
        yield f'<p class="dim">identical: {_text(", ".join(same))}</p>'
    yield "</body></html>"


def _section(section: Section) -> Iterator[str]:
    own = gathered([difference for difference in section.differences if difference.counts])
    follow = [difference for difference in section.differences if not difference.counts]
    heading = f"{section.name}: {counted(section.count, 'difference')}" if own else section.name
    heading += f" ({section.note})" if section.note else ""
    more = f' <span class="dim">{len(follow)} that follow from others or are ignored</span>' if follow else ""
    yield f"<details{' open' if 0 < len(own) <= 50 else ''}><summary>{_text(heading)}{more}</summary><ul>"
    for difference in [*own, *follow][:MOST]:
        yield from _difference(difference)
    if len(own) + len(follow) > MOST:
        yield f"<li>{len(own) + len(follow) - MOST:,} more, which npuc diff --json lists</li>"
    yield "</ul></details>"


def _difference(difference: Difference) -> Iterator[str]:
    text = f"<code>{_text(difference_text(difference))}</code>"
    why = "ignored" if difference.ignored else "follows"
    yield f"<li>{text}" if difference.counts else f'<li class="dim">{text} ({why})</li>'
    if difference.lines:
        yield "<pre>" + "\n".join(map(_line, difference.lines)) + "</pre>"
    if difference.counts:
        yield "</li>"


def _line(line: str) -> str:
    kind = {"-": "del", "+": "ins"}.get(line[:1])
    return f'<span class="{kind}">{_text(line)}</span>' if kind else _text(line)
