# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `nop`: the filler of the shortest bundle, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction | syntax | operands | bits | itinerary | implicit
NOP           | nop    |          | 0    | II_NOP()  |
"""
