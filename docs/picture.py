"""The README's picture: the time line of a page that `npuc report` wrote, as an SVG with the page's colours.

npuc report examples/attention.mlir -o r.html && python docs/picture.py r.html >docs/report.svg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TITLE = "What every unit did, in cycles"
LABEL, ROW, AXIS = 132, 16, 22
KEYS = (
    ("c1", "writes of the sequence"),
    ("c2", "waits for the end"),
    ("c0", "words pass, programs run"),
    ("c4", "locks"),
)


def picture(page: str) -> str:
    """The drawing with that title, its colours, its names and figures, and a line that says what they are."""
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    line = re.search(r'<div class="line">.*?</svg>', page, re.S)
    assert style is not None and line is not None and f"<title>{TITLE}</title>" in line[0]
    drawing = re.search(r'<svg[^>]*viewBox="0 0 (\d+) (\d+)"[^>]*>(.*)</svg>', line[0], re.S)
    assert drawing is not None
    width, height = LABEL + int(drawing[1]) + 8, AXIS + int(drawing[2])
    texts = ""
    for index, name in enumerate(re.findall(r"<span>(.*?)</span>", line[0])):
        y = AXIS + index * ROW + 12
        texts += f'<text x="{LABEL - 6}" y="{y}" text-anchor="end" class="small">{name}</text>'
    for percent, cycle in re.findall(r'<b style="left:([\d.]+)%">(.*?)</b>', line[0]):
        x = LABEL + float(percent) / 100 * int(drawing[1])
        texts += f'<text x="{x:.1f}" y="14" text-anchor="middle" class="small">{cycle}</text>'
    x, keys = float(LABEL), ""
    for name, text in KEYS:
        keys += f'<rect x="{x:g}" y="{height + 6}" width="11" height="11" class="{name}"/>'
        keys += f'<text x="{x + 16:g}" y="{height + 16}" class="small">{text}</text>'
        x += 36 + 6.2 * len(text)
    ground = f'<rect width="{width}" height="{height + 28}" style="fill:var(--bg)"/>'
    rules = "\n".join(
        line for line in style[1].splitlines() if re.match(r":root|@media\(prefers|svg text[{.,]|\.c\d|\.bank", line)
    )
    inner = f'<g transform="translate({LABEL} {AXIS})">{drawing[3]}</g>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 28}" role="img">'
        f"<style>{rules}</style>{ground}{inner}{texts}{keys}</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(picture(Path(sys.argv[1]).read_text(encoding="utf-8")))
