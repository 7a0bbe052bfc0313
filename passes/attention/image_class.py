"""Which attentions one array image computes: lengths, limits, scale, layouts and the softcap's value are of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from npuc.passes.attention.core.parameters import MOST_BOUNDED
from npuc.passes.attention.masks import mask_parts

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention


class ImageClass(NamedTuple):
    """What of an attention belongs to an array image. mask_parts: bf16 numbers to an element of the mask.
    capped, bounded: whether there is a softcap, and one for which programs need no references.  integers: whether
    results are int8."""

    heads: int
    kv_heads: int
    head_dim: int
    mask: str | None
    precision: str
    recipe: str
    capped: bool
    bounded: bool
    mask_parts: int
    integers: bool


# What differs, as messages say it.
NAMES = {
    "capped": "whether there is a softcap",
    "bounded": f"whether the softcap is above {MOST_BOUNDED:g}",
    "mask_parts": "the mask's element type",
    "integers": "whether results are int8",
}


def bounded_softcap(attention: Attention) -> bool:
    """Whether capped scores are kept in 16 bits: by recipes fast and balanced, where nothing is added to them."""
    softcap = attention.softcap
    plain = attention.recipe != "accurate" and attention.mask is None and attention.precision == "bf16"
    return softcap is not None and softcap <= MOST_BOUNDED and plain


def usual_softcap(attention: Attention) -> float | None:
    """A softcap of the same class."""
    if attention.softcap is None:
        return None
    return 1.0 if bounded_softcap(attention) else 2 * MOST_BOUNDED


def image_class(attention: Attention) -> ImageClass:
    """The class that an attention is of."""
    a = attention
    kind = (a.heads, a.kv_heads, a.head_dim, a.mask, a.precision, a.recipe)
    capped, integers = a.softcap is not None, a.argument("out").dtype == "i8"
    return ImageClass(*kind, capped, bounded_softcap(a), mask_parts(a), integers)
