"""Hypothesis strategies for the contents of binary formats."""

from __future__ import annotations

from hypothesis import strategies as st

from npuc.compiler.emit import cdo, txn

WORD = st.integers(0, 0xFFFFFFFF)
WORDS = st.lists(WORD, max_size=8).map(tuple)
SOME_WORDS = st.lists(WORD, min_size=1, max_size=8).map(tuple)
WIDE_ADDRESS = st.one_of(WORD, st.integers(0, (1 << 64) - 1))
NAME = st.text(
    st.characters(codec="ascii", categories=("L", "N", "P"), exclude_characters=":"), min_size=1, max_size=20
)


def _commands(address: st.SearchStrategy[int]) -> st.SearchStrategy[cdo.Command]:
    return st.one_of(
        st.builds(cdo.Write, address, WORD),
        st.builds(cdo.MaskWrite, address, WORD, WORD),
        st.builds(cdo.DmaWrite, address, SOME_WORDS),
        st.builds(cdo.Nop, WORDS),
    )


LOADABLE_COMMAND = _commands(WORD)  # what the NPU's loader takes
COMMAND = st.one_of(_commands(WIDE_ADDRESS), st.builds(cdo.MaskPoll, WIDE_ADDRESS, WORD, WORD, WORD))

BYTE = st.integers(0, 255)
OPERATION = st.one_of(
    st.builds(txn.Write, WORD, WORD),
    st.builds(txn.BlockWrite, WORD, WORDS),
    st.builds(txn.MaskWrite, WORD, WORD, WORD),
    st.builds(txn.MaskPoll, WORD, WORD, WORD),
    st.builds(txn.MaskPollBusy, WORD, WORD, WORD),
    st.builds(txn.Noop),
    st.builds(txn.Preempt, BYTE),
    st.builds(txn.LoadPdi, st.integers(0, 0xFFFF), WORD, st.integers(0, (1 << 64) - 1)),
    st.builds(txn.Sync, BYTE, BYTE, st.integers(0, 1), BYTE, BYTE, BYTE),
    st.builds(txn.DdrPatch, WORD, WORD, st.integers(0, (1 << 64) - 1)),
    st.builds(txn.ReadRegisters, st.lists(st.integers(0, (1 << 64) - 1), max_size=4).map(tuple)),
    st.builds(txn.RecordTimer, WORD),
    st.builds(txn.MergeSync, BYTE, BYTE),
)
