"""How much of each of several given parents is in B: least squares with coefficients that sum to one, layer by layer.

With parents P₁ … Pₖ, B = P₁ + Σ wⱼ (Pⱼ − P₁) is solved for w₂ … wₖ, and w₁ = 1 − Σ wⱼ. Coefficients may be negative: task arithmetic
takes a base away. Methods that choose number by number (TIES, DARE) leave a residual, and so does training afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array, Checkpoint
from homolog.derivation.direction import Fact
from homolog.derivation.rounding import find_step, round_to
from homolog.derivation.whole import TensorPair, Wholes
from homolog.roles.role import Anatomy

__all__ = ["Merge", "MergedLayer", "Parent", "fit_merge"]

Floats = npt.NDArray[np.float64]

_NORMAL = 1.96
_COLLINEAR = 1000.0
"""Condition number of the correlations of the parents' differences from which on coefficients are not to be told apart."""

_SAME, _KEPT = 1e-6, 0.1
_PLAIN = 0.01
"""Length of what is left over, as a share of B's, up to which B is a plain combination of its parents."""

_FOLLOWS, _LOST, _INSIDE = 0.95, 0.05, 0.02
"""Share of B's numbers that have to be the rounded combination; how much less of A's follow the other way; and how far inside 0 to 1."""


@dataclass(frozen=True, slots=True)
class Parent:
    """A given model, laid out as A is."""

    key: str
    """``a``, ``p2``, ``p3`` …"""
    name: str
    model: Checkpoint
    anatomy: Anatomy


@dataclass(frozen=True, slots=True)
class MergedLayer:
    """Coefficients of one layer of B, in the order of the parents; layer -1 is all that lies outside the layers."""

    b: int
    coefficients: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    residual: float
    """|B − Σ w P| / |B|."""
    tensors: int
    collinear: bool = False
    """Whether the parents are the same here, or lie on one line, so that these coefficients mean nothing by themselves."""


@dataclass(frozen=True, slots=True)
class Merge:
    """What B holds of each parent, or why that cannot be said."""

    models: tuple[tuple[str, str], ...] = ()
    """Key and name of each parent."""
    total: MergedLayer | None = None
    """Over all layers; its intervals leave out one layer at a time."""
    layers: tuple[MergedLayer, ...] = ()
    free_sum: float = 1.0
    """Sum of the coefficients where it is not held at one: above it in spherical merges of models that have moved far apart."""
    equal: tuple[float, ...] = ()
    """Share of B's numbers that are the very numbers of each parent."""
    spherical: float = 1.0
    """Left over, as a share of B's length, where every tensor may have coefficients of its own that do not sum to one."""
    condition: float = 1.0
    warnings: tuple[str, ...] = ()
    fact: Fact | None = None
    absent: str | None = None

    @property
    def collinear(self) -> bool:
        """Whether the parents' differences lie too close to one plane for their coefficients to be told apart."""
        return self.condition > _COLLINEAR

    @property
    def plain(self) -> bool:
        """Whether B is a combination of its parents and nothing else, of two of them at least."""
        return self.total is not None and self.total.residual <= _PLAIN and self._of_several

    @property
    def along_arcs(self) -> bool:
        """Whether it is one tensor by tensor with coefficients that sum to more than one, as spherical interpolation (slerp) gives."""
        return self._of_several and not self.plain and self.spherical <= _PLAIN and self.free_sum > 1.0

    @property
    def _of_several(self) -> bool:
        known = self.total is not None and not self.collinear
        return known and sum(abs(value) > 2 * _INSIDE for value in self.total.coefficients) >= 2  # type: ignore[union-attr]

    @property
    def text(self) -> str:
        """In a sentence."""
        if self.total is None:
            return f"no coefficients: {self.absent}"
        shown = ", ".join(
            f"{value:.3f} of {key.upper()}"
            for value, (key, _) in zip(self.total.coefficients, self.models, strict=True)
        )
        left = f"{self.total.residual:.1%} of B's length is left over"
        if self.plain:
            return f"{shown}; {left}: B is their combination, rounded"
        if self.along_arcs:
            return f"{shown}; {left}, and {self.spherical:.1%} along arcs: B is their spherical interpolation (slerp)"
        kept = max(self.equal, default=0.0)
        if kept >= _KEPT and not self.collinear:
            key = self.models[self.equal.index(kept)][0].upper()
            return (
                f"{shown}; {left}, though {kept:.0%} of B's numbers are the very numbers of {key}: a merge that chooses number by number "
                "(TIES, DARE), or training of a part"
            )
        return (
            f"{shown}; {left}: B is no plain combination of these, or was trained on afterwards, or has another parent"
        )

    def to_json(self) -> dict[str, Any]:
        """As the document has it, under ``merges``."""
        total = self.total
        return {
            "models": [{"model": key, "id": name} for key, name in self.models],
            "coefficients": []
            if total is None
            else [
                {"model": key, "value": value, "low": low, "high": high}
                for (key, _), value, low, high in zip(
                    self.models, total.coefficients, total.low, total.high, strict=True
                )
            ],
            "layers": [
                {
                    "b": layer.b,
                    "coefficients": list(layer.coefficients),
                    "low": list(layer.low),
                    "high": list(layer.high),
                    "residual": layer.residual,
                    "tensors": layer.tensors,
                    "collinear": layer.collinear,
                }
                for layer in self.layers
            ],
            "residual": None if total is None else total.residual,
            "kind": "linear" if self.plain else "spherical" if self.along_arcs else "other",
            "spherical": self.spherical,
            "free_sum": self.free_sum,
            "equal": list(self.equal),
            "condition": self.condition,
            "collinear": self.collinear,
            "warnings": list(self.warnings),
            "text": self.text,
            "absent": self.absent,
        }


@dataclass(slots=True)
class _Sums:
    """Inner products of the parents and B over some tensors: all that least squares needs."""

    gram: Floats
    """(k, k)."""
    with_b: Floats
    """(k,)."""
    b: float = 0.0

    @classmethod
    def of(cls, parents: Sequence[Array], b: Array) -> _Sums:
        rows = np.stack([x.ravel() for x in (*parents, b)]).astype(np.float64)
        products = rows @ rows.T
        return cls(products[:-1, :-1], products[:-1, -1], float(products[-1, -1]))

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.gram + other.gram, self.with_b + other.with_b, self.b + other.b)

    def solve(self) -> Floats:
        """Coefficients (k,) that sum to one."""
        k = len(self.gram)
        change = np.vstack([-np.ones(k - 1), np.eye(k - 1)])
        first = np.zeros(k)
        first[0] = 1.0
        right = change.T @ (self.with_b - self.gram @ first)
        free, *_ = np.linalg.lstsq(change.T @ self.gram @ change, right, rcond=1e-10)
        return np.asarray(first + change @ free)

    def left(self, w: Floats) -> float:
        """|B − Σ w P| / |B|."""
        rest = self.b - 2 * float(w @ self.with_b) + float(w @ self.gram @ w)
        return float(np.sqrt(max(rest, 0.0) / self.b)) if self.b > 0 else 0.0

    def left_free(self) -> float:
        """|B − Σ w P| / |B| where the coefficients need not sum to one."""
        w, *_ = np.linalg.lstsq(self.gram, self.with_b, rcond=1e-10)
        return self.left(np.asarray(w, dtype=np.float64))

    def condition(self) -> float:
        """Of the correlations of the differences P₂ − P₁ … Pₖ − P₁; infinite where two parents are the same."""
        k = len(self.gram)
        change = np.vstack([-np.ones(k - 1), np.eye(k - 1)])
        gram = change.T @ self.gram @ change
        lengths = np.sqrt(np.maximum(np.diag(gram), 0.0))
        if lengths.min() <= _SAME * np.sqrt(max(float(self.gram[0, 0]), 1e-300)):
            return float("inf")
        return float(np.linalg.cond(gram / np.outer(lengths, lengths)))


def fit_merge(wholes: Wholes, parents: Sequence[Parent]) -> Merge:
    """Coefficients of ``parents`` (the first of them is A) in B, by layer and in all. Nothing random.

    Every tensor of B is used for which each parent has one of the same shape. Raises CheckpointError where a file cannot be read.
    """
    names = tuple((parent.key, parent.name) for parent in parents)
    views = [
        replace(wholes, models=(p.model, wholes.models[1]), anatomies=(p.anatomy, wholes.anatomies[1])) for p in parents
    ]
    for parent in parents[1:]:
        if parent.anatomy.dims.width != wholes.anatomies[0].dims.width:
            return Merge(
                names,
                absent=f"{parent.key.upper()} has {parent.anatomy.dims.width} residual channels, A {wholes.anatomies[0].dims.width}",
            )
    layers: dict[int, list[_Sums]] = {}
    equal, numbers, arcs, length = np.zeros(len(parents)), 0, 0.0, 0.0
    follows: list[tuple[float, float, int]] = []
    for sides in zip(*(view.pairs() for view in views), strict=True):
        known = _usable(sides)
        if known is None:
            continue
        b = sides[0].b
        sums = _Sums.of(known, b)
        layers.setdefault(sides[0].role.layer, []).append(sums)
        equal += [float((x == b).sum()) for x in known]
        numbers += b.size
        arcs += sums.left_free() ** 2 * sums.b
        length += sums.b
        if (shares := _follow(sides, sums)) is not None:
            follows.append((*shares, b.size))
    if not layers:
        return Merge(names, absent="no tensor of B has one of the same shape in each of the parents")
    every = {layer: sum(found[1:], found[0]) for layer, found in layers.items()}
    whole = sum(list(every.values())[1:], next(iter(every.values())))
    condition = min(whole.condition(), 1e12)
    total = _solve(-1, whole, list(every.values()))
    free, *_ = np.linalg.lstsq(whole.gram, whole.with_b, rcond=1e-10)
    merge = Merge(
        models=names,
        total=total,
        layers=tuple(_solve(layer, every[layer], layers[layer]) for layer in sorted(layers)),
        free_sum=float(free.sum()),
        equal=tuple((equal / numbers).tolist()),
        spherical=float(np.sqrt(arcs / length)) if length else 0.0,
        condition=condition,
        warnings=tuple(_warn(names, whole, condition)),
    )
    return replace(merge, fact=_one_way(merge, follows))


def _usable(sides: Sequence[TensorPair]) -> list[Array] | None:
    """The parents' tensors, all in the shape of B's; ``None`` where one lacks it, or where values were mixed to fit B's."""
    if any(
        side.source is None or side.fitted or side.a.shape != sides[0].a.shape or side.b.shape != sides[0].b.shape
        for side in sides
    ):
        return None
    arrays = [side.a for side in sides]
    return arrays if all(np.isfinite(x).all() for x in (*arrays, sides[0].b)) else None


def _solve(layer: int, whole: _Sums, parts: Sequence[_Sums]) -> MergedLayer:
    """Coefficients with 95 % intervals that leave out one part (a tensor of a layer, a layer of the model) at a time (jackknife)."""
    w = whole.solve()
    if len(parts) > 1:
        others = np.stack([_Sums(whole.gram - p.gram, whole.with_b - p.with_b, whole.b - p.b).solve() for p in parts])
        n = len(parts)
        error = np.sqrt((n - 1) / n * ((others - others.mean(axis=0)) ** 2).sum(axis=0))
    else:
        error = np.zeros(len(w))
    low, high = w - _NORMAL * error, w + _NORMAL * error
    best, least, most = (tuple(x.tolist()) for x in (w, low, high))
    return MergedLayer(layer, best, least, most, whole.left(w), len(parts), whole.condition() > _COLLINEAR)


def _warn(names: Sequence[tuple[str, str]], whole: _Sums, condition: float) -> Iterator[str]:
    k = len(names)
    for i in range(k):
        for j in range(i):
            apart = whole.gram[i, i] + whole.gram[j, j] - 2 * whole.gram[i, j]
            if apart <= _SAME**2 * whole.gram[i, i]:
                yield f"{names[j][0].upper()} and {names[i][0].upper()} hold the same numbers: only their coefficients' sum means anything"
    if condition > _COLLINEAR:
        yield (
            f"the parents lie close to one line or plane (condition number {condition:.3g}): their coefficients cannot be told apart, "
            "only what they add up to"
        )


def _follow(sides: Sequence[TensorPair], sums: _Sums) -> tuple[float, float] | None:
    """Share of B's numbers that are the rounded combination, and of A's that are it turned round; ``None`` if not kept in 16 bits."""
    first = sides[0]
    if first.b.ndim != 2 or np.array_equal(first.a, first.b):
        return None
    kinds = [find_step(values, dtype) for values, dtype in zip((first.a, first.b), first.dtypes, strict=True)]
    w = sums.solve()
    if kinds[0] is None or kinds[1] is None or abs(w[0]) < _INSIDE:
        return None
    others = sum(
        (c * side.a.astype(np.float64) for c, side in zip(w[1:], sides[1:], strict=True)), np.zeros(first.b.shape)
    )
    forward = round_to((w[0] * first.a + others).astype(np.float32), kinds[1]) == first.b
    backward = round_to(((first.b - others) / w[0]).astype(np.float32), kinds[0]) == first.a
    return float(forward.mean()), float(backward.mean())


def _one_way(merge: Merge, follows: Sequence[tuple[float, float, int]]) -> Fact | None:
    """B lies between its parents to within its rounding, while A follows from B and the others less exactly."""
    if not merge.plain or not follows or merge.total is None:
        return None
    if (
        not all(-_INSIDE <= value <= 1 + _INSIDE for value in merge.total.coefficients)
        or merge.total.coefficients[0] < _INSIDE
    ):
        return None
    sizes = np.array([size for *_, size in follows], dtype=np.float64)
    forward, backward = (float(np.average([row[side] for row in follows], weights=sizes)) for side in (0, 1))
    if forward < _FOLLOWS or forward - backward < _LOST:
        return None
    text = (
        f"B lies between {' and '.join(key.upper() for key, _ in merge.models)} to within its own rounding ({forward:.1%} of its numbers "
        f"follow, {backward:.1%} of A's the other way round)"
    )
    return Fact("merged", "a_to_b", text)
