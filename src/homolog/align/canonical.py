"""FFN units in canonical form: what a change that keeps the function can do to them is undone, as far as it can be.

A gated unit computes ``silu(g·x) (u·x) d``. Free of charge one may scale u by c and d by 1/c, c of either sign; and where several units
have one gate only the sum of the products ``u dᵀ`` counts, so that a unit can be split in many ways. Both are undone here. What is left
is free only jointly: the order of the units, and one rotation of the residual stream for the whole model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array

__all__ = [
    "Units",
    "describe_units",
    "find_unwritten",
    "group_equal_gates",
    "merge_equal_gates",
    "merge_group",
    "usable_units",
]

_EQUAL_GATES = 0.95
"""Cosine from which two gates of one FFN count as one."""

_UNWRITTEN = 1e-8
"""Share of the largest eigenvalue below which a direction counts as never written to."""

_TINY = 1e-20


@dataclass(frozen=True, slots=True)
class Units:
    """Units of one FFN, one a row: what opens them, what they multiply it with, what they write."""

    gate: Array
    """(n, d); in a plain FFN the only row that a unit has for reading."""
    up: Array | None
    """(n, d); ``None`` in a plain FFN."""
    down: Array
    """(n, d)."""

    def __len__(self) -> int:
        return len(self.gate)

    @property
    def parts(self) -> tuple[Array, ...]:
        """Gate, up and down; or what a plain unit reads and writes."""
        return (self.gate, self.down) if self.up is None else (self.gate, self.up, self.down)

    def longest(self, count: int) -> npt.NDArray[np.intp]:
        """The units with the longest gates, ascending: no disguise changes which these are."""
        size = np.einsum("ij,ij->i", self.gate, self.gate)
        return np.sort(np.argsort(-size, kind="stable")[:count])

    def take(self, chosen: npt.NDArray[np.intp]) -> Units:
        """The units ``chosen``, in that order."""
        return Units(self.gate[chosen], None if self.up is None else self.up[chosen], self.down[chosen])


def usable_units(units: Units) -> Units:
    """The units that are finite and that read and write something: padding and dead units say nothing."""
    kept = np.ones(len(units), dtype=bool)
    for rows in units.parts:
        size = np.einsum("ij,ij->i", rows, rows, dtype=np.float64)
        kept &= np.isfinite(size) & (size > _TINY)
    return units if kept.all() else units.take(np.flatnonzero(kept))


def merge_equal_gates(units: Units) -> Units:
    """Every set of units with one gate replaced by a single unit: the mean gate and the best rank-one part of ``Σ u dᵀ``.

    A unit that was split comes back as it was. In a plain FFN what the units of a set write is added up. Time and memory grow with the
    square of the number of units.
    """
    groups = group_equal_gates(units.gate)
    if not groups:
        return units
    merged = [merge_group(units, group) for group in groups]
    rest = units.take(np.setdiff1d(np.arange(len(units)), np.concatenate(groups)))
    parts = [np.concatenate(rows) for rows in zip(rest.parts, *(unit.parts for unit in merged), strict=True)]
    return Units(parts[0], parts[1] if len(parts) == 3 else None, parts[-1])


def describe_units(gate: Array, up: Array | None, down: Array) -> Array:
    """Features (n, f) that neither a rotation of the residual stream nor a rescaling of units changes.

    For gated units: log |g|, log |u||d|, |cos(g, u)|, |cos(g, d)|, cos(u, d) and cos(g, u) cos(g, d), as the sign of u and d is free
    jointly. For plain ones log |g|, log |d| and cos(g, d).
    """
    g, d = _norms(gate), _norms(down)
    gd = _cosines(gate, down, g, d)
    if up is None:
        return np.stack([np.log(g), np.log(d), gd], axis=1).astype(np.float32)
    u = _norms(up)
    gu, ud = _cosines(gate, up, g, u), _cosines(up, down, u, d)
    return np.stack([np.log(g), np.log(u) + np.log(d), np.abs(gu), np.abs(gd), ud, gu * gd], axis=1).astype(np.float32)


def find_unwritten(gram: npt.NDArray[np.float64]) -> Array:
    """An orthonormal basis (d, k) of the directions in which nothing is ever written, given the Gram matrix (d, d) of all that is.

    What a unit reads there is always zero, so it can be set to anything: a stream that was padded and then rotated has such directions.
    """
    values, vectors = np.linalg.eigh(gram)
    silent = values <= _UNWRITTEN * max(float(values[-1]), _TINY)
    if silent.all():
        silent[:] = False
    return np.asarray(vectors[:, silent], dtype=np.float32)


def group_equal_gates(gate: Array) -> list[npt.NDArray[np.intp]]:
    """Sets of two or more units whose gates are equal, each led by the unit of most followers."""
    unit = unit_rows(gate)
    close = (unit @ unit.T) > _EQUAL_GATES
    np.fill_diagonal(close, val=True)
    followers = close.sum(axis=1)
    free = followers > 1
    groups = []
    for leader in np.argsort(-followers, kind="stable"):
        if followers[leader] < 2:
            break
        if not free[leader]:
            continue
        group = np.flatnonzero(close[leader] & free)
        free[group] = False
        if len(group) > 1:
            groups.append(group)
    return groups


def merge_group(units: Units, group: npt.NDArray[np.intp]) -> Units:
    """The units of ``group`` as one: the mean gate and the best rank-one part of ``Σ u dᵀ``."""
    gate = units.gate[group].mean(axis=0, keepdims=True)
    if units.up is None:
        return Units(gate, None, units.down[group].sum(axis=0, keepdims=True))
    qu, ru = np.linalg.qr(units.up[group].T)
    qd, rd = np.linalg.qr(units.down[group].T)
    left, size, right = np.linalg.svd(ru @ rd.T)
    root = np.sqrt(size[0])
    return Units(gate, (root * (qu @ left[:, 0]))[None], (root * (qd @ right[0]))[None])


def _norms(rows: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)) + _TINY, dtype=np.float32)


def _cosines(x: Array, y: Array, norm_x: Array, norm_y: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", x, y) / (norm_x * norm_y), dtype=np.float32)
