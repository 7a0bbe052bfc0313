"""Attention written out step by step on [H, S, D], every length equal, so that types cannot tell axes apart.

Each step is a named piece of text; a test replaces some of them. `SOURCE` as it stands is attn.sdpa of scale 0.125.
"""

from __future__ import annotations

HEADS, LENGTH = 2, 64
CUBE = f"tensor<{HEADS}x{LENGTH}x{LENGTH}xf32>"
ROW = f"tensor<{HEADS}x{LENGTH}xf32>"
# Indexing maps over (h, i, j), and with the contracted dimension over (h, i, j, d).
CUBE_MAP, ROW_MAP, COLUMN_MAP = "(h, i, j) -> (h, i, j)", "(h, i, j) -> (h, i)", "(h, i, j) -> (h, j)"
EACH = f"{CUBE_MAP}; {CUBE_MAP}"


def generic(
    name: str,
    inputs: str,
    types: str,
    out: str,
    out_type: str,
    maps: str,
    body: str,
    kinds: str = "ppp",
    results: int = 1,
) -> str:
    """One linalg.generic.

    maps: with `;` between them.  body: operations on %a, %b, ... and %o (or %o0, %o1), with a yield.
    """
    spelled = {"p": '"parallel"', "r": '"reduction"'}
    names = [n for n in inputs.split(", ") if n]
    elements = [f"%{letter}: f32" for letter, _ in zip("abcdefg", names, strict=False)]
    outs = [f"%o{n if results > 1 else ''}: f32" for n in range(results)]
    made = out_type if results == 1 else "(" + out_type + ")"
    return (
        f"  %{name}{f':{results}' if results > 1 else ''} = linalg.generic {{indexing_maps = ["
        + ", ".join(f"affine_map<{m.strip()}>" for m in maps.split(";"))
        + f"], iterator_types = [{', '.join(spelled[k] for k in kinds)}]}}"
        + (f" ins({inputs} : {types})" if names else "")
        + f" outs({out} : {out_type}) {{\n  ^bb0({', '.join([*elements, *outs])}):\n"
        + "".join(f"    {line.strip()}\n" for line in body.split(";"))
        + f"  }} -> {made}"
    )


def elementwise(name: str, left: str, right: str, body: str, second: str = CUBE_MAP, second_type: str = CUBE) -> str:
    """A generic over the scores and a second tensor that is read through the map `second`."""
    maps = f"{CUBE_MAP}; {second}; {CUBE_MAP}"
    return generic(name, f"{left}, {right}", f"{CUBE}, {second_type}", "%s", CUBE, maps, body)


def reduction(
    name: str, of: str, start: str, combiner: str, maps: str = f"{CUBE_MAP}; {ROW_MAP}", kinds: str = "ppr"
) -> str:
    body = f"%n = {combiner} %a, %o : f32; linalg.yield %n : f32"
    return generic(name, of, CUBE, start, ROW, maps, body, kinds)


def contraction(name: str, left: str, right: str, maps: str, start: str = "%sz") -> str:
    spelled = ", ".join(f"affine_map<{m.strip()}>" for m in maps.split(";"))
    return (
        f"  %{name} = linalg.contract indexing_maps = [{spelled}] ins({left}, {right} : {CUBE}, {CUBE})"
        f" outs({start} : {CUBE}) -> {CUBE}"
    )


QK = "(h, i, j, d) -> (h, i, d); (h, i, j, d) -> (h, j, d); (h, i, j, d) -> (h, i, j)"
PV = "(h, i, d, j) -> (h, i, j); (h, i, d, j) -> (h, j, d); (h, i, d, j) -> (h, i, d)"

SOURCE: dict[str, str] = {
    "constants": "  %zero = arith.constant 0.0 : f32\n  %lowest = arith.constant 0xFF800000 : f32",
    "scale": "  %scale = arith.constant 0.125 : f32",
    "storage": f"  %s = tensor.empty() : {CUBE}\n  %r = tensor.empty() : {ROW}",
    "zeros": f"  %sz = linalg.fill ins(%zero : f32) outs(%s : {CUBE}) -> {CUBE}",
    "arguments": "",
    "qk": contraction("x0", "%q", "%k", QK),
    "scaled": generic(
        "x",
        "%x0",
        CUBE,
        "%s",
        CUBE,
        f"{CUBE_MAP}; {CUBE_MAP}",
        "%n = arith.mulf %a, %scale : f32; linalg.yield %n : f32",
    ),
    "starts": f"  %m0 = linalg.fill ins(%lowest : f32) outs(%r : {ROW}) -> {ROW}\n"
    f"  %t0 = linalg.fill ins(%zero : f32) outs(%r : {ROW}) -> {ROW}",
    "max": reduction("m", "%x", "%m0", "arith.maximumf"),
    "shift": elementwise("z", "%x", "%m", "%n = arith.subf %a, %b : f32; linalg.yield %n : f32", ROW_MAP, ROW),
    "exp": generic("p", "%z", CUBE, "%s", CUBE, EACH, "%n = math.exp %a : f32; linalg.yield %n : f32"),
    "sum": reduction("t", "%p", "%t0", "arith.addf"),
    "divide": elementwise("w", "%p", "%t", "%n = arith.divf %a, %b : f32; linalg.yield %n : f32", ROW_MAP, ROW),
    "weights": "",
    "pv": contraction("o", "%w", "%v", PV),
    "result": "",
    "return": f"  return %o : {CUBE}",
}


def written_out(parameters: str = "", **pieces: str) -> str:
    """The module's text with some pieces replaced, by name; parameters: further ones of the function."""
    assert pieces.keys() <= SOURCE.keys(), pieces.keys() - SOURCE.keys()
    body = "\n".join(text for text in (SOURCE | pieces).values() if text)
    more = f", {parameters}" if parameters else ""
    return f"func.func @main(%q: {CUBE}, %k: {CUBE}, %v: {CUBE}{more}) -> {CUBE} {{\n{body}\n}}\n"


# Pieces to build changed steps from.
YIELD = "; linalg.yield %n : f32"
SUBTRACT = "%n = arith.subf %a, %b : f32" + YIELD
DIVIDE = "%n = arith.divf %a, %b : f32" + YIELD
ADD = "%n = arith.addf %a, %o : f32" + YIELD


def scores(body: str) -> str:
    """The scores from the bare product, element by element."""
    return generic("x", "%x0", CUBE, "%s", CUBE, EACH, body)


def exponentials(body: str) -> str:
    return generic("p", "%z", CUBE, "%s", CUBE, EACH, body)


def two_results(maps: str, starts: str, body: str, of: str = "%p", name: str = "t2") -> str:
    return generic(name, of, CUBE, starts, f"{ROW}, {ROW}", maps, body, "ppr", 2)


def filled(name: str, maps: str, kinds: str, value: str = "%zero", start: str = "%v", type_: str = CUBE) -> str:
    return generic(name, "", "", start, type_, maps, f"linalg.yield {value} : f32", kinds)


def after_product(divisor: str, body: str = DIVIDE, second: str = ROW_MAP, second_type: str = ROW) -> dict[str, str]:
    """Exponentials times V, and then `body` with a tensor of rows."""
    return {
        "divide": "",
        "pv": contraction("o1", "%p", "%v", PV),
        "result": elementwise("o", "%o1", divisor, body, second, second_type),
    }


def permuted(name: str, of: str, order: str) -> str:
    return (
        f"  %e_{name} = tensor.empty() : {CUBE}\n  %{name} = linalg.transpose ins({of} : {CUBE}) "
        f"outs(%e_{name} : {CUBE}) permutation = [{order}]"
    )


HALVES = "(h, i, j, u) -> (h, i, j); (h, i, j, u) -> (u); (h, i, j, u) -> (h, i)"
