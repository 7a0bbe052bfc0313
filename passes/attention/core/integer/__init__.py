"""The attention core program for int8: integer products, and a power of two for each query as the unit of its sums.

Scores are int32, kept as 16-bit numbers of a unit that the head's factors give (`..integer_factors`, `unit`).  A block
of keys has an exponent for each query, the least integer not below its largest score in base 2 (`exponents`).
Probabilities are integers (`probabilities`):

* of 8 bits they count in units of 2^exponent, so that all bits are used in each block, whatever outliers others hold.
  Products with V are exact integers below 2^22, which start from 1.5 * 2^(23 + exponent) as an fp32 bit pattern: they
  come out as fp32 numbers, and are added to O in fp32 (`values`, `rebase`).
* of 16 bits they count in the unit of O, an integer that products are added to (`whole_values`); it moves where a
  block's exponent or the row sum asks for it (`references`).

Row sums are a column of O, as in the bf16 program.  What an item leaves in O is made its result and, but for that,
zero for the next one (`normalise`).
"""

from npuc.passes.attention.core.integer.program import build

__all__ = ["build"]
