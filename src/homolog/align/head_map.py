"""Which head of one layer each head of another came from, in a common frame, and what became of the value dimensions inside it.

Heads are compared by their forms (`homolog.align.heads`), so that values mixed inside a head, and queries and keys turned or scaled
against each other, change nothing. In a frame fitted to FFN units alone the forms of independent models have next to nothing in common.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.heads import Attention
from homolog.align.matching import cosines
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array

__all__ = ["CARRIED", "HeadMap", "ValueMap", "assign", "compare_heads", "match_heads"]

Indices = npt.NDArray[np.intp]

CARRIED = 0.2
"""Likeness from which a head is another one's. In body frames heads of independent models of the zoo's development lineages reach 0.17,
heads drawn anew beside the keys and values of old ones 0.11; those of copies after as much training on another language have 0.31."""

_COPIED = 0.6
"""Likeness from which a head that was left over is one more copy of a head that another one is already: heads that share keys and values
are alike to 0.41."""

_KEPT, _KEPT_OF_FEW, _PERMUTED = 0.25, 4.0, 0.7
"""Share of what any mixing explains of the values that each dimension alone has to explain of its own (four parts of v where that is
more, up to a half), and some other one of each. On the development lineages dimensions that are mixed explain of their own 0.16 of it at
16 a head and 0.41 at 8, those that are kept 0.43."""

_EXPLAINED = 0.2
"""Share of what chance leaves over that a mixing has to explain; of v dimensions over t channels it explains v/t by chance. On the
development lineages values of other heads of a model explain 0.20 at most, those of copies 0.23 at least."""

_TINY = 1e-30


@dataclass(frozen=True, slots=True)
class ValueMap:
    """How the value dimensions of one key-value head follow from those of its source: ``V_b ≈ M V_a`` by least squares."""

    mixing: Array
    """M (v_b, v_a)."""
    residual: float
    """|V_b − M V_a| / |V_b|."""
    order: str
    """``kept`` where every dimension is its own still, ``permuted`` where each is one other, ``mixed``; ``none`` where M explains little
    more than it would of any values."""


@dataclass(frozen=True, slots=True)
class HeadMap:
    """Where the heads of one layer came from."""

    head: Indices
    """(heads of B,): for every head of B the head of A that it is; -1 for one that is none."""
    likeness: Array
    """(heads of B,): mean cosine of the OV and QK forms with that head's; of a new head with the nearest."""
    group: Indices
    """(groups of B,): the key-value head of A that the heads of the group read there; -1 where none is known."""
    values: tuple[ValueMap | None, ...]
    """For every group of B."""
    sizes: tuple[int, int]
    """Heads and groups of A."""


def match_heads(a: Attention, b: Attention, frame: Frame | None) -> HeadMap:
    """The heads of ``b`` looked up among those of ``a``. Nothing random.

    Where both have as many query heads in each group, groups are assigned first, one to one, and heads inside them; else heads alone. A
    head that is left over may be one more copy of another one's. Without ``frame`` both are in one already.
    """
    if frame is not None:
        a, b = a.turn(frame.a), b.turn(frame.b)
    scores = compare_heads(a, b)
    found = _assign_in_groups(scores, a, b) if a.per_group == b.per_group else assign(scores)
    rows = np.arange(b.heads)
    nearest = scores.argmax(axis=1)
    found = np.where((found >= 0) & (scores[rows, found] >= CARRIED), found, -1)
    found = np.where((found < 0) & (scores[rows, nearest] >= _COPIED), nearest, found)
    likeness = np.where(found >= 0, scores[rows, found], scores[rows, nearest])
    groups = _groups_of(found, a, b)
    values = tuple(
        None if source < 0 else _fit_values(a.value[source], b.value[group]) for group, source in enumerate(groups)
    )
    return HeadMap(found, np.asarray(likeness, dtype=np.float32), groups, values, (a.heads, a.groups))


def compare_heads(a: Attention, b: Attention) -> Array:
    """Mean cosine of the OV forms and of the QK forms of every two heads, (heads of B, heads of A), both given in one frame."""
    ov = _form_cosines((a.value, a.output), (b.value, b.output))
    qk = _form_cosines((a.key, a.query), (b.key, b.query))
    return np.asarray((ov + qk) / 2, dtype=np.float32)


def assign(scores: Array) -> Indices:
    """For each row a column of its own with the largest total score; -1 for rows that are left over."""
    rows, columns = scores.shape
    if rows > columns:
        found = np.full(rows, -1, dtype=np.intp)
        chosen = assign(scores.T)
        found[chosen] = np.arange(columns)
        return found
    best = scores.argmax(axis=1)
    if len(np.unique(best)) == rows:
        return np.asarray(best, dtype=np.intp)
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  (slow to import, and most heads name one each)

    return np.asarray(linear_sum_assignment(-scores)[1], dtype=np.intp)


def _assign_in_groups(scores: Array, a: Attention, b: Attention) -> Indices:
    size = a.per_group
    blocks = scores.reshape(b.groups, size, a.groups, size).swapaxes(1, 2)
    inside = {(i, j): assign(blocks[i, j]) for i in range(b.groups) for j in range(a.groups)}
    totals = np.array(
        [[blocks[i, j][np.arange(size), inside[i, j]].sum() for j in range(a.groups)] for i in range(b.groups)]
    )
    found = np.full(b.heads, -1, dtype=np.intp)
    for i, j in enumerate(assign(totals).tolist()):
        if j >= 0:
            found[i * size : (i + 1) * size] = j * size + inside[i, j]
    return found


def _groups_of(found: Indices, a: Attention, b: Attention) -> Indices:
    """For each group of B the group of A that most of its heads read."""
    groups = np.full(b.groups, -1, dtype=np.intp)
    for group, heads in enumerate(found.reshape(b.groups, b.per_group)):
        known = heads[heads >= 0] // a.per_group
        if len(known):
            groups[group] = np.bincount(known).argmax()
    return groups


def _form_cosines(a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
    """Cosines (heads of B, heads of A) of ``writeᵀ read``; each side is ``read`` (groups, r, t) and ``write`` (heads, r, t)."""
    (read_a, write_a), (read_b, write_b) = a, b
    per_a, per_b = len(write_a) // len(read_a), len(write_b) // len(read_b)
    flat_read, flat_write = (x.reshape(-1, x.shape[2]).T for x in (read_a, write_a))
    inner = np.zeros((len(write_b), len(write_a)), dtype=np.float64)
    for head, write in enumerate(write_b):
        # ⟨W_b, W_a⟩ = tr(read_bᵀ write_b write_aᵀ read_a): two products with rows of the stream, never a matrix of width × width.
        written = (write @ flat_write).reshape(len(write), len(write_a), -1)
        read = (read_b[head // per_b] @ flat_read).reshape(len(write), len(read_a), -1)
        inner[head] = (written * np.repeat(read, per_a, axis=1)).sum(axis=(0, 2), dtype=np.float64)
    sizes = np.outer(_sizes(read_b, write_b), _sizes(read_a, write_a))
    return np.asarray(inner / np.maximum(sizes, _TINY), dtype=np.float32)


def _sizes(read: Array, write: Array) -> npt.NDArray[np.float64]:
    """Frobenius norms of the forms."""
    per_group = len(write) // len(read)
    grams = [(x @ np.swapaxes(x, 1, 2)).astype(np.float64) for x in (write, np.repeat(read, per_group, axis=0))]
    return np.asarray(np.sqrt(np.maximum((grams[0] * grams[1]).sum(axis=(1, 2)), 0.0)))


def _fit_values(a: Array, b: Array) -> ValueMap:
    """``a`` (v_a, t) and ``b`` (v_b, t)."""
    mixing, *_ = np.linalg.lstsq(a.T.astype(np.float64), b.T.astype(np.float64), rcond=1e-6)
    size = max(float(np.linalg.norm(b)), _TINY)
    left = float(np.linalg.norm(b - mixing.T @ a)) / size
    weight = np.einsum("ij,ij->i", b, b, dtype=np.float64) / size**2
    alike = cosines(b, a).astype(np.float64) ** 2
    within = np.arange(min(alike.shape))
    own, one = (
        float((weight[rows] * alike[rows, columns]).sum()) for rows, columns in ((within, within), _pair(alike))
    )
    explained, chance = 1.0 - left**2, len(a) / a.shape[1]
    if explained < chance + _EXPLAINED * (1.0 - chance):
        order = "none"
    else:
        least = max(_KEPT, min(0.5, _KEPT_OF_FEW / len(b)))
        order = "kept" if own >= least * explained else "permuted" if one >= _PERMUTED * explained else "mixed"
    return ValueMap(np.asarray(mixing.T, dtype=np.float32), left, order)


def _pair(scores: npt.NDArray[np.float64]) -> tuple[Indices, Indices]:
    found = assign(np.asarray(scores, dtype=np.float32))
    rows = np.flatnonzero(found >= 0)
    return rows, found[rows]
