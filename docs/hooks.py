"""What the pages print from the product: the table of what kernels take, and the figures of `npuc bench --json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from npuc.passes.attention.supported import support_table

FIGURES = Path(__file__).with_name("performance.json")


def bench_table(recorded: dict[str, Any]) -> str:
    """Markdown. recorded: one object of `npuc bench --json`."""
    from npuc.compiler.bench_cases import CASES

    texts = {case.name: case.text for case in CASES}
    lines = ["| case | cycles | predicted | utilisation | bound by |", "| --- | ---: | ---: | ---: | --- |"]
    for case in recorded["cases"]:
        name = texts.get(case["name"], case["name"])
        if "unsupported" in case:
            lines.append(f"| {name} | not computed: {case['unsupported']} | | | |")
            continue
        share = "" if case["utilization"] is None else f"{case['utilization']:.1%}"
        lines.append(f"| {name} | {case['cycles']:,} | {case['predicted']:,} | {share} | {case['binds']} |")
    return "\n".join(lines) + "\n"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    if "{{ support }}" in markdown:
        markdown = markdown.replace("{{ support }}", support_table())
    if "{{ bench }}" in markdown:
        recorded = json.loads(FIGURES.read_text())
        markdown = markdown.replace("{{ bench }}", bench_table(recorded)).replace("{{ machine }}", recorded["machine"])
    return markdown
