"""The README's picture: the time line of a page that `npuc report` wrote, as an SVG with the page's colours.

npuc report examples/attention.mlir -o r.html && python docs/picture.py r.html >docs/report.svg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

TITLE = "What every unit did, in cycles"
KEYS = (
    ("c1", "writes of the sequence"),
    ("c2", "waits for the end"),
    ("c0", "words pass, programs run"),
    ("c4", "locks"),
)


def picture(page: str) -> str:
    """The drawing with that title, its colours, and a line that says what they are."""
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    drawing = next(d for d in re.findall(r"<svg.*?</svg>", page, re.S) if f"<title>{TITLE}</title>" in d)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing)
    assert style is not None and box is not None
    width, height = float(box[1]), float(box[2])
    x, keys = 150.0, ""
    for name, text in KEYS:
        keys += f'<rect x="{x:g}" y="{height + 6:g}" width="11" height="11" class="{name}"/>'
        keys += f'<text x="{x + 16:g}" y="{height + 16:g}" class="small">{text}</text>'
        x += 36 + 6.2 * len(text)
    inner = re.sub(r"^<svg[^>]*>|</svg>$", "", drawing)
    ground = f'<rect width="{width:g}" height="{height + 28:g}" style="fill:var(--bg)"/>'
    rules = "\n".join(
        line for line in style[1].splitlines() if re.match(r":root|@media|\}|svg text|\.c\d|\.bank", line)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + 28:g}" role="img">'
        f"<style>{rules}</style>{ground}{inner}{keys}</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(picture(Path(sys.argv[1]).read_text(encoding="utf-8")))
