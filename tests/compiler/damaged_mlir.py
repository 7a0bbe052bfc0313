"""MLIR texts that end, hang or embarrass a process that reads them carelessly."""

from __future__ import annotations

import random
import re
from pathlib import Path

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mlir"))
TORCH = next(path for path in EXAMPLES if path.name == "attention_torch.mlir").read_text()


def nested(kind: str, depth: int) -> str:
    """A text that nests `depth` times."""
    texts = {
        "attributes": "module attributes {a.b = " + "[" * depth + "]" * depth + "} {}",
        "types": "func.func private @f(" + "tuple<" * depth + "i1" + ">" * depth + ")\n",
        "affine expressions": "#m = affine_map<(d0)->(" + "(" * depth + "d0" + ")" * depth + ")>\n",
        "affine signs": "#m = affine_map<(d0)->(" + "-" * depth + "d0)>\n",
        "regions": "func.func @f() {" + '"a.b"() ({ ' * depth + "}) : () -> () " * depth + " return }",
        "modules": "module {" * depth + "}" * depth,
        "dense elements": "module attributes {a.b = dense<" + "[" * depth + "1" + "]" * depth + "> : tensor<1xf32>} {}",
        "complex types": "module attributes {a.b = " + "complex<" * depth + "f32" + ">" * depth + "} {}",
        "locations": "module {} loc(" + '"a"(' * depth + '"x":1:2' + ")" * depth + ")",
        "fused locations": "module {} loc(" + "fused[" * depth + '"x":1:2' + "]" * depth + ")",
        "location aliases": chain('#a{0} = loc("a"(#a{1}))\n', '#a0 = loc("x":1:2)\n', depth)
        + f"module {{}} loc(#a{depth})",
        "attribute aliases": chain("#a{0} = [#a{1}]\n", "#a0 = 1 : i32\n", depth)
        + f"module attributes {{a.b = #a{depth}}} {{}}",
        "type aliases": chain("!a{0} = tuple<!a{1}>\n", "!a0 = i32\n", depth)
        + f"module attributes {{a.b = !a{depth}}} {{}}",
    }  # fmt: skip
    return texts[kind]


def chain(link: str, first: str, length: int) -> str:
    """Definitions that each use the one before."""
    return first + "".join(link.format(i + 1, i) for i in range(length))


NESTED = (
    "attributes",
    "types",
    "affine expressions",
    "affine signs",
    "regions",
    "modules",
    "dense elements",
    "complex types",
    "locations",
    "fused locations",
    "location aliases",
    "attribute aliases",
    "type aliases",
)


def edited(generator: random.Random) -> str:
    """An example with one to three words left out, exchanged or made something else."""
    text = generator.choice(EXAMPLES).read_text()
    for _ in range(generator.choice((1, 1, 2, 3))):
        words = list(re.finditer(r"[\w.]+|\S", text))
        place = generator.choice(words)
        new = generator.choice(
            ("", generator.choice(words).group(), str(generator.getrandbits(70)), "-1", "?", '"', "\0", "f32", "i1",
             "tensor<*xf32>", "0x7FC00000", "1.0e999")
        )  # fmt: skip
        text = text[: place.start()] + new + text[place.end() :]
    return text
