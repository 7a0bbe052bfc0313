"""Operations whose own meaning is attention: attn.sdpa, and tm_tensor.attention of torch-mlir."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npuc.runtime.evaluator.elements import BOOLEAN, ElementType
from npuc.runtime.evaluator.nodes import Node, Origin, Request
from npuc.runtime.evaluator.regions import Indices, Region, array_of, count, everything


@dataclass(frozen=True)
class Rules:
    """The attributes of attn.sdpa (the project's contract, "The attn dialect"). scale: of the scores.

    *_scales: what an integer stands for, a head or all heads; () for floating types.
    """

    scale: float
    causal: bool = False
    window: int | None = None
    softcap: float | None = None
    bottom_right: bool = False
    q_scales: tuple[float, ...] = ()
    k_scales: tuple[float, ...] = ()
    v_scales: tuple[float, ...] = ()
    o_scales: tuple[float, ...] = ()


class Attention(Node):
    """softmax(scale q k^T, capped, masked) v over q [B, H, S, D] and k, v [B, Hkv, Skv, D]; blind queries give 0."""

    def __init__(
        self, origin: Origin, type_: ElementType, operands: Sequence[Node], mask: Node | None, rules: Rules
    ) -> None:
        q, k, v = operands
        constant = all(node.constant for node in (*operands, *((mask,) if mask else ())))
        super().__init__(origin, type_, (*q.shape[:3], v.shape[3]), constant)
        self._operands = operands
        self._mask = mask
        self._rules = rules
        self._group = q.shape[1] // k.shape[1]

    def _kv_heads(self, heads: Indices) -> Indices:
        found = sorted({head // self._group for head in heads})
        return range(found[0], found[-1] + 1) if found[-1] - found[0] + 1 == len(found) else tuple(found)

    def needs(self, region: Region) -> list[Request]:
        batch, heads, rows, columns = region
        q, k, v = self._operands
        if count(region) == 0:
            return []
        kv_heads, keys = self._kv_heads(heads), range(k.shape[2])
        requests: list[Request] = [
            (q, (batch, heads, rows, range(q.shape[3]))),
            (k, (batch, kv_heads, keys, range(k.shape[3]))),
            (v, (batch, kv_heads, keys, columns)),
        ]
        if self._mask is not None:
            wanted = ((batch, heads, rows, keys))[4 - len(self._mask.shape) :]
            part = tuple(w if n > 1 else range(1) for w, n in zip(wanted, self._mask.shape, strict=True))
            requests.append((self._mask, part))
        return requests

    def scratch(self, region: Region) -> int:
        return 2 * 8 * len(region[2]) * self._operands[1].shape[2] + 2 * 8 * count(everything(self._operands[1].shape))

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        batch, heads, rows, columns = region
        out = np.zeros([len(i) for i in region])
        if not out.size:
            return out.astype(self.type.dtype)
        kv_heads = list(self._kv_heads(heads))
        mask = None
        if self._mask is not None:
            full = (len(batch), len(heads), len(rows), self._operands[1].shape[2])
            mask = np.broadcast_to(arrays[3], full)
        for b in range(len(batch)):
            for h, head in enumerate(heads):
                kv = kv_heads.index(head // self._group)
                q, k, v = arrays[0][b, h], arrays[1][b, kv], arrays[2][b, kv]
                part = None if mask is None else mask[b, h]
                out[b, h] = self._head(head, array_of(rows), q, k, v, part)
        return self._stored(out, array_of(heads))

    def _head(
        self, head: int, rows: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None
    ) -> np.ndarray:
        """[rows, columns of v] of one head."""
        rules, kv = self._rules, head // self._group
        q, k, v = _real(q, rules.q_scales, head), _real(k, rules.k_scales, kv), _real(v, rules.v_scales, kv)
        scores = q @ k.T * rules.scale
        if rules.softcap is not None:
            scores = rules.softcap * np.tanh(scores / rules.softcap)
        hidden = self._hidden(rows, k.shape[0])
        if mask is not None and self._mask is not None and self._mask.type == BOOLEAN:
            hidden = hidden | ~mask
        elif mask is not None:
            scores = scores + mask
            hidden = hidden | np.isneginf(mask)
        scores = np.where(hidden, -np.inf, scores)
        top = scores.max(axis=1, keepdims=True, initial=-np.inf)
        weights = np.exp(scores - np.where(np.isneginf(top), 0.0, top))
        total = weights.sum(axis=1, keepdims=True)
        unseen = np.all(hidden, axis=0, keepdims=True).T
        return weights @ np.where(unseen, 0.0, v) / np.where(total == 0, 1.0, total)

    def _hidden(self, rows: np.ndarray, keys: int) -> np.ndarray:
        """Which keys causal and window limits hide from each row, [rows, keys]."""
        rules = self._rules
        at = rows[:, None] + (keys - self.shape[2] if rules.bottom_right else 0)
        key = np.arange(keys)[None, :]
        hidden = np.zeros((len(rows), keys), np.bool_)
        if rules.causal or rules.window is not None:
            hidden |= key > at
        if rules.window is not None:
            hidden |= key <= at - rules.window
        return hidden

    def _stored(self, out: np.ndarray, heads: np.ndarray) -> np.ndarray:
        """The values in the result's type: integers stand for multiples of their head's scale."""
        if self.type.is_float:
            return out
        scales = np.asarray(self._rules.o_scales)
        per_head = scales[heads] if len(scales) > 1 else np.full(len(heads), scales[0])
        low, high = self.type.limits
        return np.clip(np.rint(out / per_head[:, None, None]), low, high).astype(self.type.dtype)


def _real(array: np.ndarray, scales: tuple[float, ...], head: int) -> np.ndarray:
    if not scales:
        return array
    return array.astype(np.float64) * scales[head if len(scales) > 1 else 0]
