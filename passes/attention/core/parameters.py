"""The parameters of a call as one core finds them in its buffer `params`: sixteen 32-bit words."""

from __future__ import annotations

from npuc.passes.attention.work import Work

WORDS = 16
ITEMS, KEY_LENGTH = 0, 6  # numbers of words that the program reads


def parameter_words(work: Work, group: int, lane_row: int) -> tuple[int, ...]:
    """All words of the core of `group` whose lane begins at row `lane_row` of an item: 0..9 are the work's."""
    words = work.words(group, lane_row)
    return tuple(word & 0xFFFFFFFF for word in words) + (0,) * (WORDS - len(words))
