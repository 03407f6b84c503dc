"""FFN units in canonical form: what a change that keeps the function can do to them is undone, as far as it can be.

A gated unit computes ``silu(g·x) (u·x) d``. Free of charge one may scale u by c and d by 1/c, c of either sign; and where several units
have one gate only the sum of the products ``u dᵀ`` counts, so that a unit can be split in many ways. Both are undone here. What is left
is free only jointly: the order of the units, and one rotation of the residual stream for the whole model.

At the price of more units the sign of a gate is free as well. As ``silu(z) - silu(-z) = z``, the unit (g, u, d) is the unit (-g, u, d) and
the form ``(g·x)(u·x) d``; and that form is two units whose gates are opposite, (u, g, d) and (-u, g, -d). So gates are looked at up to
their sign: of the units of a direction ±g the even part of silu, ``z/2 tanh(z/2)``, sees the sum of ``u dᵀ`` whatever the signs, and the
odd part, ``z/2``, adds up over all units of the FFN to a form that says nothing of any one. The two units above have a sum of nothing.
One unit does nearly the same at the price of a small error: (εu, g, 2d/ε), whose gate is so short that silu is a straight line there. Units
that open so little compute such a form and nothing else, and are left out where they are many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.align.matching import unit_rows
from homolog.checkpoint.base import Array

__all__ = [
    "Merged",
    "Units",
    "describe_units",
    "find_unread",
    "group_equal_gates",
    "merge_equal_gates",
    "merge_group",
    "usable_units",
    "without_unread",
]

_EQUAL_GATES = 0.95
"""Cosine, up to its sign, from which two gates of one FFN count as one. Gates of the zoo's trained models keep between -0.79 and 0.94."""

_STRAIGHT, _SOME = 10.0, 0.05
"""How many times the first quartile of its FFN a unit's ``|u| |d| / |g|`` has to be for the unit to count as a straight line, and the share
of such units from which they are left out. With a gate of ε it is some 2/ε². Of two published models one reaches 24 with 5 of 9,216 units,
the other 6; the trained models of the zoo reach 6."""

_FAINT = float(np.log(20.0))
"""How much less the logarithm of a unit's effect may be than that of the loudest tenth of its FFN, for it to be a measure for others."""

_CANCELLED = 0.05
"""Share of the lengths ``|u| |d|`` of merged units below which their sum counts as nothing."""

_UNREACHED, _ROUNDING = 1e-5, 2.0**-18
"""Shares of the mean eigenvalue, and of the norm of all, below which a direction counts as never written to. Rounding to bf16 writes at
most the second into it, where all rows have one large part in common; the trained models of the zoo keep above 0.08 of the mean."""

_HEARD = 1e-2
"""Share of a row's length outside the directions that nothing reaches from which the row reads something, and not a rounding."""

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

    @property
    def effects(self) -> npt.NDArray[np.float64]:
        """For each unit the logarithm of ``|g| |u| |d|``, (n,): nothing that keeps the function of a unit changes it."""
        sizes = [np.einsum("ij,ij->i", part, part, dtype=np.float64) for part in self.parts]
        return np.asarray(np.log(np.maximum(sizes, _TINY)).sum(axis=0) / 2)

    def strongest(self, count: int) -> npt.NDArray[np.intp]:
        """The units of the largest effect, ascending."""
        return np.sort(np.argsort(-self.effects, kind="stable")[:count])

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


@dataclass(frozen=True, slots=True)
class Merged:
    """Units after merging."""

    units: Units
    merged: int = 0
    """How many went into others, or into nothing, because they had one gate."""
    opposed: int = 0
    """How many shared a gate with units of the opposite sign, or hardly open: what makes up for gates of the other sign."""


def merge_equal_gates(units: Units) -> Merged:
    """Every set of units with one gate, up to its sign, replaced by a single unit: the mean gate and the best rank-one part of ``Σ u dᵀ``.

    A unit that was split comes back as it was, and units that cancel each other go, as do gated ones that hardly open, where they are
    many. In a plain FFN what the units of a set write is added up. Time and memory grow with the square of the number of units.
    """
    found = _merge_groups(units)
    straight = _find_straight(found.units)
    if not straight.any():
        return found
    count = int(straight.sum())
    return Merged(found.units.take(np.flatnonzero(~straight)), found.merged + count, found.opposed + count)


def _merge_groups(units: Units) -> Merged:
    groups = group_equal_gates(units.gate)
    if not groups:
        return Merged(units)
    merged = [unit for group in groups for unit in [merge_group(units, group)] if not _cancels(units, group, unit)]
    rest = units.take(np.setdiff1d(np.arange(len(units)), np.concatenate(groups)))
    parts = [np.concatenate(rows) for rows in zip(rest.parts, *(unit.parts for unit in merged), strict=True)]
    left = Units(parts[0], parts[1] if len(parts) == 3 else None, parts[-1])
    opposed = sum(len(group) for group in groups if (_signs(units.gate[group]) < 0).any())
    return Merged(left, len(units) - len(left), opposed)


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


def find_unread(tokens: Array | None, blocks: Sequence[Units], width: int) -> Array:
    """An orthonormal basis (width, k) of the directions that nothing reaches: what a unit reads there is always zero and can be anything.

    What reaches the stream are the rows of trained ``tokens`` (t, width), and what units write that read some of what reaches it: a unit
    that opens on nothing, or multiplies with nothing, writes nothing, and units that cancel each other do not either, wherever they point.
    A stream that was padded has directions that nothing reaches, in any basis. Without tokens all that units write counts.
    """
    given = np.zeros((width, width)) if tokens is None else _gram(tokens)
    if tokens is None:
        silent = _find_silent(given, (units.down for units in blocks))
    elif len(tokens) < width:
        # Few tokens span few directions: what units read of these is all that is heard so far.
        basis = np.linalg.qr(tokens.T)[0]
        silent = _find_silent(given, (_merge_heard(units, basis).down for units in blocks))
    else:
        silent = _find_silent(given, ())
    while silent.shape[1]:
        heard = (merge_equal_gates(without_unread(units, silent)).units.down for units in blocks)
        fewer = _find_silent(given, heard)
        if fewer.shape[1] >= silent.shape[1]:
            break
        silent = fewer
    return silent


def _merge_heard(units: Units, basis: Array) -> Units:
    """Units with what they read in coordinates along ``basis`` (width, k), merged; those that read nothing of it are left out."""
    reads = [np.asarray(rows @ basis, dtype=np.float32) for rows in units.parts[:-1]]
    heard = _hear(units.parts, reads)
    return merge_equal_gates(Units(reads[0], reads[1] if len(reads) == 2 else None, units.down).take(heard)).units


def _hear(before: Sequence[Array], after: Sequence[Array]) -> npt.NDArray[np.intp]:
    """Units of whose reading rows more than a rounding is left."""
    kept = [_norms(rest) > _HEARD * _norms(rows) for rows, rest in zip(before, after, strict=False)]
    return np.flatnonzero(np.logical_and.reduce(kept))


def without_unread(units: Units, silent: Array | None) -> Units:
    """Reading rows without the directions ``silent`` (width, k) that nothing reaches; units that read nothing else are left out."""
    if silent is None:
        return units
    rest = [np.asarray(rows - (rows @ silent) @ silent.T, dtype=np.float32) for rows in units.parts[:-1]]
    return Units(rest[0], rest[1] if len(rest) == 2 else None, units.down).take(_hear(units.parts, rest))


def _gram(rows: Array) -> npt.NDArray[np.float64]:
    finite = rows[np.isfinite(rows).all(axis=1)]
    return np.asarray((finite.T @ finite).astype(np.float64))


def _find_silent(given: npt.NDArray[np.float64], written: Iterable[Array]) -> Array:
    """Directions (width, k) in which neither ``given``, a Gram matrix, nor the rows ``written`` have anything.

    Stops at the first few rows that leave none.
    """
    gram, rows, width = given.copy(), 0, len(given)
    for block in written:
        gram += _gram(block)
        rows += len(block)
        if rows >= 2 * width:
            if _is_full(gram):
                break
            rows = 0
    if _is_full(gram):
        return np.empty((width, 0), dtype=np.float32)
    values, vectors = np.linalg.eigh(gram)
    silent = values <= _level(gram)
    if silent.all():
        silent[:] = False
    return np.asarray(vectors[:, silent], dtype=np.float32)


def _level(gram: npt.NDArray[np.float64]) -> float:
    return max(_UNREACHED * float(np.trace(gram)) / len(gram), _ROUNDING * float(np.linalg.norm(gram)), _TINY)


def _is_full(gram: npt.NDArray[np.float64]) -> bool:
    """Whether no eigenvalue is below the share that counts as nothing: a factorisation is far cheaper than a decomposition."""
    try:
        np.linalg.cholesky(gram - _level(gram) * np.eye(len(gram)))
    except np.linalg.LinAlgError:
        return False
    return True


def group_equal_gates(gate: Array) -> list[npt.NDArray[np.intp]]:
    """Sets of two or more units whose gates are equal up to their sign, each led by the unit of most followers."""
    unit = unit_rows(gate)
    close = np.abs(unit @ unit.T) > _EQUAL_GATES
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
    """The units of ``group`` as one: the mean gate, in the sign of the first, and the best rank-one part of ``Σ u dᵀ``."""
    gate = (units.gate[group] * _signs(units.gate[group])[:, None]).mean(axis=0, keepdims=True)
    if units.up is None:
        return Units(gate, None, units.down[group].sum(axis=0, keepdims=True))
    qu, ru = np.linalg.qr(units.up[group].T)
    qd, rd = np.linalg.qr(units.down[group].T)
    left, size, right = np.linalg.svd(ru @ rd.T)
    root = np.sqrt(size[0])
    return Units(gate, (root * (qu @ left[:, 0]))[None], (root * (qd @ right[0]))[None])


def _find_straight(units: Units) -> npt.NDArray[np.bool_]:
    """Which gated units (n,) hardly open; none if they are few."""
    if units.up is None or not len(units):
        return np.zeros(len(units), dtype=bool)
    weight = _norms(units.up) * _norms(units.down) / _norms(units.gate)
    effect = units.effects
    # units that hardly do anything may be as many as one likes, and so may not set the measure
    telling = effect >= np.quantile(effect, 0.9) - _FAINT
    straight = weight > _STRAIGHT * np.quantile(weight[telling], 0.25)
    return straight if straight.mean() > _SOME else np.zeros(len(units), dtype=bool)


def _signs(gate: Array) -> Array:
    """Whether each gate (n, d) points the way of the first: 1 or -1."""
    return np.where(gate @ gate[0] < 0, np.float32(-1), np.float32(1)).astype(np.float32)


def _cancels(units: Units, group: npt.NDArray[np.intp], merged: Units) -> bool:
    """Whether the units of ``group`` add up to next to nothing."""

    def size(rows: Units) -> float:
        return float((_norms(rows.down) * (1 if rows.up is None else _norms(rows.up))).sum())

    return size(merged) < _CANCELLED * size(units.take(group))


def _norms(rows: Array) -> Array:
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", rows, rows)) + _TINY, dtype=np.float32)


def _cosines(x: Array, y: Array, norm_x: Array, norm_y: Array) -> Array:
    return np.asarray(np.einsum("ij,ij->i", x, y) / (norm_x * norm_y), dtype=np.float32)
