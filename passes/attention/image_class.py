"""Which attentions one array image computes: lengths, limits, scale, layouts and the softcap's value are of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from npuc.passes.attention.masks import mask_parts

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention


class ImageClass(NamedTuple):
    """What of an attention belongs to an array image. mask_parts: bf16 numbers to an element of the mask.
    integers: whether results are int8."""

    heads: int
    kv_heads: int
    head_dim: int
    mask: str | None
    precision: str
    recipe: str
    capped: bool
    mask_parts: int
    integers: bool


# What differs, as messages say it.
NAMES = {
    "capped": "whether there is a softcap",
    "mask_parts": "the mask's element type",
    "integers": "whether results are int8",
}


def image_class(attention: Attention) -> ImageClass:
    """The class that an attention is of."""
    a = attention
    capped = a.softcap is not None
    integers = a.argument("out").dtype == "i8"
    return ImageClass(a.heads, a.kv_heads, a.head_dim, a.mask, a.precision, a.recipe, capped, mask_parts(a), integers)
