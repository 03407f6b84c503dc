"""Rounding as a one-way street: numbers that were computed from rounded ones tell which of two files came first.

A token (or position) that no text contains gets no gradient, so that training with weight decay multiplies its whole row by one factor a
step, and nothing else happens to it. If B was trained on from the *file* of A, its rows are those of A times one factor, rounded once
more: every number of B follows from A's, while A's cannot all be had from B's, because what rounding took away is gone. Two models that
were trained on from a third are each such a rounding of that one's rows, and neither is one of the other's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.derivation.whole import TensorPair

Floats = npt.NDArray[np.float64]

__all__ = ["DECIDED", "Follows", "compare_rows", "find_step", "round_to", "share_rows"]

DECIDED = 0.995
"""Share of numbers that have to follow from the other model's. In lineages a, s, k and m it is 1.000 of a parent's, 0.65 to 0.78 of any
other relative's; the way back it is 0.86 to 0.986."""

_PARALLEL = 1e-5
"""How far from 1 the cosine of two rows may be that differ by a factor and by rounding."""

_ROWS, _DIFFERENT = 8, 20
_ROW_FOLLOWS = 0.98
_SPREAD, _GRID = 0.004, 161

_TABLES = ("embed.token", "embed.position", "unembed")

_TYPES: dict[str, npt.DTypeLike] = {"BF16": ml_dtypes.bfloat16, "F16": np.float16}


@dataclass(frozen=True, slots=True)
class Follows:
    """How many numbers of decayed rows of B follow from A's, and the other way round."""

    table: str
    rows: int
    numbers: int
    factor: float
    """By which B's rows differ from A's."""
    forward: float
    """Share of B's numbers that are A's times the factor, rounded."""
    backward: float
    """Share of A's numbers that are B's divided by it, rounded."""

    @property
    def from_a(self) -> bool:
        """Whether B's rows were computed from A's, and A's not from B's."""
        return self.forward >= DECIDED and self._lost(self.backward, self.forward) and self.factor < 1.0

    @property
    def from_b(self) -> bool:
        """Whether A's rows were computed from B's, and B's not from A's."""
        return self.backward >= DECIDED and self._lost(self.forward, self.backward) and self.factor > 1.0

    @property
    def from_neither(self) -> bool:
        """Whether neither's rows can be computed from the other's, though they are multiples of each other."""
        return max(self.forward, self.backward) < DECIDED

    def _lost(self, less: float, more: float) -> bool:
        return (more - less) * self.numbers >= _DIFFERENT


def compare_rows(pairs: Iterator[TensorPair]) -> Follows | None:
    """The table of most decayed rows; ``None`` where no table has eight, or numbers are not kept in 16 bits.

    Rows are found by their numbers alone: parallel in both models, by one factor, and not the same.
    """
    found = [known for pair in pairs if (known := _compare(pair)) is not None]
    return max(found, key=lambda known: known.numbers, default=None)


def share_rows(pairs: Iterator[TensorPair]) -> bool:
    """Whether a table of both has eight rows that are the same, bit for bit, while others are not: then no rounding stands between them."""
    for pair in pairs:
        if pair.role.kind in _TABLES and pair.role.part == "weight" and pair.b.ndim == 2 and pair.source is not None:
            same = (pair.a == pair.b).all(axis=1) & pair.a.any(axis=1)
            if _ROWS <= int(same.sum()) < len(same):
                return True
    return False


def _compare(pair: TensorPair) -> Follows | None:
    if pair.role.kind not in _TABLES or pair.role.part != "weight" or pair.b.ndim != 2:
        return None
    kinds = [find_step(values, dtype) for values, dtype in zip((pair.a, pair.b), pair.dtypes, strict=True)]
    if kinds[0] is None or kinds[1] is None:
        return None
    a, b = pair.a.astype(np.float64), pair.b.astype(np.float64)
    lengths = [np.sqrt(np.einsum("ij,ij->i", x, x)) for x in (a, b)]
    whole = np.isfinite(lengths[0]) & np.isfinite(lengths[1]) & (lengths[0] > 0) & (lengths[1] > 0)
    dots = np.einsum("ij,ij->i", a, b)
    cosine = np.divide(dots, lengths[0] * lengths[1], out=np.zeros_like(dots), where=whole)
    rows = np.flatnonzero(whole & (cosine > 1.0 - _PARALLEL) & (a != b).any(axis=1))
    if len(rows) < _ROWS:
        return None
    factors = lengths[1][rows] / lengths[0][rows]
    factor = float(np.median(factors))
    rows = rows[np.abs(factors / factor - 1.0) < _SPREAD]
    if len(rows) < _ROWS:
        return None
    x, y = a[rows], b[rows]
    # a row that training touched for a moment is still nearly parallel: those that follow one way or the other are looked at by themselves
    best, back = _fit_factor(x, y, factor, kinds[1]), _fit_factor(y, x, 1.0 / factor, kinds[0])
    whole = (
        np.maximum(_follow(x, y, best, kinds[1]).mean(axis=1), _follow(y, x, back, kinds[0]).mean(axis=1))
        >= _ROW_FOLLOWS
    )
    if int(whole.sum()) >= _ROWS:
        x, y = x[whole], y[whole]
    forward, backward = (float(_follow(*side).mean()) for side in ((x, y, best, kinds[1]), (y, x, back, kinds[0])))
    return Follows(pair.role.kind, len(x), x.size, best, forward, backward)


def _follow(x: Floats, y: Floats, factor: float, kind: str) -> npt.NDArray[np.bool_]:
    """Which numbers of ``y`` are ``x`` times a factor, rounded."""
    return np.asarray(round_to((x * factor).astype(np.float32), kind) == y)


def _fit_factor(x: Floats, y: Floats, factor: float, kind: str) -> float:
    """The factor near ``factor`` by which most numbers of ``y`` follow from ``x``.

    Few bits make plateaus: a finer search spans all the factors that did best in the coarse one, with their neighbours.
    """
    low, high = factor * (1.0 - _SPREAD), factor * (1.0 + _SPREAD)
    for _ in range(2):
        candidates = np.linspace(low, high, _GRID)
        shares = np.array([_follow(x, y, float(candidate), kind).mean() for candidate in candidates])
        best = np.flatnonzero(shares == shares.max())
        low, high = candidates[max(best[0] - 1, 0)], candidates[min(best[-1] + 1, _GRID - 1)]
    return float(candidates[best[len(best) // 2]])


def find_step(values: Array, dtype: str) -> str | None:
    """The 16-bit type that numbers were rounded to: as they are stored, or as they all fit where they are stored in 32 bits."""
    if dtype in _TYPES:
        return dtype
    if dtype in ("F32", "F64"):
        return next((kind for kind in _TYPES if np.array_equal(round_to(values, kind), values)), None)
    return None


def round_to(values: Array, kind: str) -> Array:
    """Numbers rounded to a 16-bit type, as float32."""
    return np.asarray(values.astype(_TYPES[kind]).astype(np.float32), dtype=np.float32)
