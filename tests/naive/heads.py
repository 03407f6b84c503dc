"""Likeness of heads in width × width matrices: the oracle of `homolog.align.head_map`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homolog.align.heads import Attention

__all__ = ["naive_likeness"]

Floats = npt.NDArray[np.float64]


def naive_likeness(a: Attention, b: Attention) -> Floats:
    """Mean cosine of OV and QK forms of every two heads, (heads of B, heads of A)."""
    found = np.zeros((b.heads, a.heads))
    for i in range(b.heads):
        for j in range(a.heads):
            pairs = zip(_forms(b, i), _forms(a, j), strict=True)
            found[i, j] = np.mean([(x * y).sum() / (np.linalg.norm(x) * np.linalg.norm(y)) for x, y in pairs])
    return found


def _forms(attention: Attention, head: int) -> tuple[Floats, Floats]:
    group = head // (attention.heads // attention.groups)
    output, value = attention.output[head].astype(np.float64), attention.value[group].astype(np.float64)
    query, key = attention.query[head].astype(np.float64), attention.key[group].astype(np.float64)
    return output.T @ value, query.T @ key
