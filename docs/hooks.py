"""What pages print from the product: what kernels take, formats, figures of `npuc bench` and of the validation.

`python docs/hooks.py` writes the tables into the pages anew; mkdocs takes them as they are at its time. With files that
`npuc bench CASE... --json` wrote, their cases come into `performance.json` first, or with `--machine 8700g` into
`performance-8700g.json`, in place of what it had of them.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

from npuc.compiler.emit import npua, xclbin
from npuc.compiler.emit.layout import Layout
from npuc.passes.attention.supported import support_table

FIGURES = {
    machine: Path(__file__).with_name(name)
    for machine, name in (("phoenix", "performance.json"), ("8700g", "performance-8700g.json"))
}
VALIDATION = Path(__file__).with_name("validation.json")
JSON = Path(__file__).parent.parent / "compiler" / "commands" / "README.md"
PRINTED = re.compile(r"(<!-- printed: (\w+) -->).*?(<!-- end -->)", re.S)
EMULATOR = Path(__file__).parent.parent / "runtime" / "emulator" / "README.md"


def bench_table(recorded: dict[str, Any], other: dict[str, Any]) -> str:
    """Markdown. recorded: one object of `npuc bench --json`; other: one of another machine, for its last columns."""
    from npuc.compiler.bench_cases import CASES

    cases = {case.name: case for case in CASES}
    beside = {case["name"]: case for case in other["cases"] if "unsupported" not in case}
    name = other["machine"]
    lines = [
        "| case | cycles | predicted | utilisation | GOPS | GOPS/W, by a model | bound by "
        f"| {name}: cycles | predicted | bound by |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | --- |",
    ]
    for case in recorded["cases"]:
        known = cases[case["name"]]
        if "unsupported" in case:
            lines.append(f"| {known.text} | not computed: {case['unsupported']} | | | | | | | | |")
            continue
        shares = "| | "
        if case["utilization"] is not None:
            rate = rates(case, known.attention.precision, recorded["machine"])
            shares = f"{case['utilization']:.1%} | {rate}"
        there = beside.get(case["name"])
        last = f"{there['cycles']:,} | {there['predicted']:,} | {there['binds']}" if there else "| |"
        first = f"{known.text} | {case['cycles']:,} | {case['predicted']:,} | {shares} | {case['binds']}"
        lines.append(f"| {first} | {last} |")
    return "\n".join(lines) + "\n"


def merged(recorded: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """Two objects of `npuc bench --json` as one, in the order of the cases; of both the later figures."""
    from npuc.compiler.bench_cases import CASES

    if recorded["machine"] != measured["machine"]:
        raise ValueError(f"figures of {measured['machine']} among those of {recorded['machine']}")
    found = {case["name"]: case for case in (*recorded["cases"], *measured["cases"])}
    return {**recorded, "cases": [found[case.name] for case in CASES if case.name in found]}


def rates(case: dict[str, Any], precision: str, machine: str) -> str:
    """GOPS, and GOPS a watt by the model of `npuc.runtime.energy`, as two cells. case: of `npuc bench --json`."""
    from npuc.runtime.emulator.timing import MACHINES
    from npuc.runtime.energy import modelled, three_digits
    from npuc.runtime.statistics import PEAK_MACS_PER_CYCLE

    macs = round(case["utilization"] * PEAK_MACS_PER_CYCLE[precision] * case["cycles"])
    energy = modelled(case["cycles"] / MACHINES[machine].clock_hz, macs)
    if energy is None:
        return " | "
    least, most = (three_digits(each) for each in energy.gops_per_watt)
    return f"{three_digits(energy.gops)} | {least} to {most}"


def validation_table(recorded: list[dict[str, Any]]) -> str:
    """Markdown. recorded: what `python -m npuc.runtime.validation` printed."""
    lines = ["| program | emulated | measured | deviation | what it is |", "| --- | ---: | ---: | ---: | --- |"]
    for each in recorded:
        low, high, emulated, unit = each["lowest"], each["highest"], each["emulated"], each["unit"]
        measured = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        if unit == "ms":
            off = f"{low - emulated:.2f} to {high - emulated:.2f} ms"
        else:
            off = f"{emulated / low - 1:+.1%}" if emulated != low else "0"
        digits = 0 if unit == "cycles" else 3
        row = each["what"], f"{emulated:,.{digits}f} {unit}", f"{measured} {unit}", off, each["why"]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def assumptions() -> str:
    """The table of the emulator's own description, with what follows it."""
    text = EMULATOR.read_text(encoding="utf-8").partition("## What no measurement backs")[2].partition("\n## ")[0]
    return text[text.index("| assumption") :]


def layout_table(layout: Layout) -> str:
    """Markdown: the fields of a structure."""
    lines = [
        f"{layout.what}, {layout.size} bytes:",
        "",
        "| offset | bytes | field | unless said |",
        "| ---: | ---: | --- | --- |",
    ]
    for name in layout.names:
        shown = _shown(layout.defaults.get(name))
        lines.append(f"| {layout.offsets[name]} | {struct.calcsize('<' + layout.codes[name])} | {name} | {shown} |")
    return "\n".join(lines) + "\n"


def _shown(value: int | bytes | None) -> str:
    """A field's value where a writer says nothing, as a table has it."""
    if not value:
        return ""
    if isinstance(value, int):
        return f"`{value:#x}`"
    alike = len(value) > 8 and len(set(value)) == 1
    return f"{len(value)} bytes of `{value[0]:#x}`" if alike else f"`{value!r}`"


def section_table(names: dict[int, str]) -> str:
    """Markdown: kinds of sections."""
    lines = ["| kind | section |", "| ---: | --- |", *(f"| {kind} | {name} |" for kind, name in sorted(names.items()))]
    return "\n".join(lines) + "\n"


def formats() -> dict[str, str]:
    """What the page of the formats names."""
    v1 = section_table({code: name for code, name in npua.V1_OPCODES.items()}).replace("| section |", "| operation |")
    return {
        "xclbin": f"{layout_table(xclbin.HEADER)}\n{layout_table(xclbin.SECTION)}",
        "npua": "\n".join([*map(layout_table, (npua.HEADER, npua.SECTION)), section_table(npua.SECTION_NAMES),
                           layout_table(npua.CONTROL_HEADER)]),
        "npua1": f"{layout_table(npua.V1_HEADER)}\n{layout_table(npua.V1_INSTRUCTION)}\n{v1}",
    }  # fmt: skip


def printed() -> dict[str, str]:
    """What stands in pages as text, by its name."""
    recorded = json.loads(VALIDATION.read_text(encoding="utf-8"))
    figures = [json.loads(path.read_text(encoding="utf-8")) for path in FIGURES.values()]
    return {
        "support": support_table(),
        "bench": bench_table(*figures),
        "validation": validation_table(recorded),
        **formats(),
    }


def with_tables(markdown: str) -> str:
    """A page with what it prints between `<!-- printed: NAME -->` and `<!-- end -->` as it is now."""
    texts = printed()
    return PRINTED.sub(lambda found: f"{found[1]}\n\n{texts[found[2]].strip()}\n\n{found[3]}", markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    if "{{ json }}" in markdown:
        markdown = markdown.replace("{{ json }}", JSON.read_text(encoding="utf-8").partition("\n")[2])
    if "{{ assumptions }}" in markdown:
        markdown = markdown.replace("{{ assumptions }}", assumptions())
    return with_tables(markdown)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        measured = json.loads(Path(name).read_text("utf-8"))
        kept = FIGURES[measured["machine"]]
        figures = merged(json.loads(kept.read_text("utf-8")), measured)
        kept.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    for page in sorted(Path(__file__).parent.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if with_tables(text) != text:
            page.write_text(with_tables(text), encoding="utf-8")
            print(page)
