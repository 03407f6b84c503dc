"""Whether the matrices of one model are those of another put through few bits and written out again.

Eight bits leave some 250 levels, too many to be seen in a short row; but what a quantiser does is known: the largest number of a row, a
group, a block or a matrix (or the span of a group) sets the scale, and every number goes to the nearest level. So it is done to one model
and held against the other, number by number. What was rounded lies on levels, and what it came from does not follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from homolog.checkpoint.base import Array
from homolog.derivation.rounding import find_step
from homolog.derivation.tensors import ulp
from homolog.derivation.whole import TensorPair

__all__ = ["find_few_bits"]

_STRAY = 1e-4
"""Share of a matrix's numbers that may lie elsewhere: those halfway between two levels go to either."""

_TRIED = 128
"""Rows (or columns) that every way of rounding is tried on; the one that fits has to fit everywhere."""

_MOVED = 0.5
"""Share of the numbers of all matrices that are not the same which rounding has to move: else they were on levels before."""

_FARTHEST = 0.25
"""How far a number may be moved, as a share of the largest."""

_NF4 = np.array(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ],
    dtype=np.float32,
)
"""The levels of NormalFloat4 (Dettmers et al. 2023, arXiv 2305.14314, appendix E)."""

Rounding = Callable[[Array, int | None], Array]
"""Rounds a part of a matrix, with one scale for each of its rows (axis 1) or for all (``None``)."""


@dataclass(frozen=True, slots=True)
class _Format:
    name: str
    rounding: Rounding
    block: tuple[int, int]
    """Rows and columns that share a scale; 0 stands for all."""

    def apply(self, matrix: Array) -> Array:
        """The matrix rounded, in float32."""
        matrix = np.asarray(matrix, dtype=np.float32)
        height, width = (size or of for size, of in zip(self.block, matrix.shape, strict=True))
        if height == 1:
            parts = [self.rounding(matrix[:, at : at + width], 1) for at in range(0, matrix.shape[1], width)]
            return np.concatenate(parts, axis=1)
        out = np.empty_like(matrix)
        for top in range(0, matrix.shape[0], height):
            for left in range(0, matrix.shape[1], width):
                here = np.s_[top : top + height, left : left + width]
                out[here] = self.rounding(matrix[here], None)
        return out


def find_few_bits(pairs: Iterator[TensorPair]) -> tuple[str, str] | None:
    """The order, ``a_to_b`` or ``b_to_a``, in which one model's matrices are the other's rounded to few bits, and how they were rounded.

    Every tensor that is not so has to be the same in both, bit for bit. ``None`` where that is not so. Raises CheckpointError where a file
    cannot be read.
    """
    order, known, moved, numbers = "", None, 0, 0
    for pair in pairs:
        if pair.source is None or pair.covered < 1.0 or pair.fitted:
            return None
        if np.array_equal(pair.a, pair.b):
            continue
        if not (np.isfinite(pair.a).all() and np.isfinite(pair.b).all()):
            return None
        a, b = np.atleast_2d(pair.a), np.atleast_2d(pair.b)
        moved, numbers = moved + int((a != b).sum()), numbers + a.size
        sides = [("a_to_b", a, b, pair.dtypes[1]), ("b_to_a", b, a, pair.dtypes[0])]
        found = [
            (name, format_)
            for name, fine, coarse, dtype in sides
            if order in ("", name) and (format_ := _explain(fine, coarse, dtype, known)) is not None
        ]
        if len(found) != 1:
            return None
        order, known = found[0]
    return (order, known.name) if known is not None and moved >= _MOVED * numbers else None


def _explain(fine: Array, coarse: Array, dtype: str, known: _Format | None) -> _Format | None:
    """The format that leads from one matrix to the other, its rows taken as units or its columns, whichever way they are stored."""
    kind = find_step(coarse, dtype) or dtype
    if kind not in ("BF16", "F16", "F32"):
        return None
    if float(np.abs(coarse - fine).max()) > _FARTHEST * float(np.abs(fine).max()):
        return None
    turned = np.ascontiguousarray(fine.T), np.ascontiguousarray(coarse.T)
    for format_ in _FORMATS if known is None else (known,):
        for x, y in ((fine, coarse), turned):
            tried = len(x) if format_.block == (0, 0) else _TRIED
            if _is(format_, x[:tried], y[:tried], kind) and (tried >= len(x) or _is(format_, x, y, kind)):
                return format_
    return None


def _is(format_: _Format, fine: Array, coarse: Array, kind: str) -> bool:
    off = np.abs(format_.apply(fine) - coarse) > 1.01 * ulp(coarse, kind)
    return float(off.mean()) <= _STRAY


def _by_largest(to_levels: Callable[[Array], Array], largest: float) -> Rounding:
    def rounded(part: Array, axis: int | None) -> Array:
        scale = np.abs(part).max(axis=axis, keepdims=True) / np.float32(largest)
        scale = np.where(scale > 0, scale, np.float32(1))
        return np.asarray(to_levels(np.asarray(part / scale, dtype=np.float32)) * scale, dtype=np.float32)

    return rounded


def _by_span(part: Array, axis: int | None) -> Array:
    """Sixteen levels from the smallest number to the largest."""
    low, high = (bound(axis=axis, keepdims=True) for bound in (part.min, part.max))
    scale = (high - low) / np.float32(15)
    scale = np.where(scale > 0, scale, np.float32(1))
    return np.asarray(np.rint((part - low) / scale) * scale + low, dtype=np.float32)


def _to_nf4(x: Array) -> Array:
    return np.asarray(_NF4[np.searchsorted((_NF4[1:] + _NF4[:-1]) / 2, x)])


def _to_float8(kind: type) -> Callable[[Array], Array]:
    return lambda x: np.asarray(x.astype(kind).astype(np.float32))


def _list_formats() -> Iterator[_Format]:
    groups = {f"a scale for every {size} numbers": (1, size) for size in (32, 64, 128)}
    wide = {"a scale for every row": (1, 0), "one scale for all": (0, 0), **groups}
    blocks = {f"a scale for every {size} × {size} numbers": (size, size) for size in (32, 64, 128)}
    e4m3, e5m2 = _to_float8(ml_dtypes.float8_e4m3fn), _to_float8(ml_dtypes.float8_e5m2)
    for name, rounding, shapes in (
        ("int8", _by_largest(np.rint, 127.0), wide),
        ("fp8", _by_largest(e4m3, 448.0), wide | blocks),
        ("fp8_e5m2", _by_largest(e5m2, 57344.0), wide),
        ("fp8", lambda part, _: e4m3(part), {"": (0, 0)}),
        ("fp8_e5m2", lambda part, _: e5m2(part), {"": (0, 0)}),
        ("int4", _by_span, groups),
        ("int4", _by_largest(np.rint, 7.0), groups),
        ("nf4", _by_largest(_to_nf4, 1.0), groups),
    ):
        for words, block in shapes.items():
            yield _Format(f"{name}, {words}" if words else name, rounding, block)


_FORMATS = tuple(_list_formats())
