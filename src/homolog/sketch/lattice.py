"""Whether numbers were rounded to few levels before they were written in full precision: seen by how few different ones a group holds.

A quantiser gives the numbers of a group one scale and a few levels: 15 or 16 of four bits, at most 255 of eight. Written out as bf16 or
float32 they stay that few. Numbers that were never rounded repeat seldom: 32 of them in bf16 hold some 31 different ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array

__all__ = ["find_lattice"]

Counts = npt.NDArray[np.int64]

_ROWS = 8
"""Rows that are looked at: of a wide model tens of thousands of numbers."""
_GROUPS = (16, 32, 64, 128, 256)
"""Numbers that may share a scale. Parts of a group are as few as the whole, so the sizes are tried upwards for as long as they fit."""
_LEVELS = {2: 4, 3: 8, 4: 16}
"""Different numbers of a group, at most, by bits; zeros are left out, because pruning makes them too."""
_REPEATED = 0.85
"""Share of different ones among a group's numbers above which it does not count as rounded to four bits; eight bits ask for a half."""
_ENOUGH = 0.9
"""Share of the groups that must be so: a quantiser treats all alike."""
_FEWEST = 8
_NEAR = 0.004
"""How close levels must be to a table's, as a share of the largest: bf16 keeps them to 0.002, levels of whole numbers lie 0.015 off."""
_NF4 = np.array(
    [
        *(0.0795803, 0.09105004, 0.1609302, 0.18477343, 0.2461123, 0.28444138, 0.33791524, 0.39491749),
        *(0.44070983, 0.52507305, 0.562617, 0.6961928, 0.72295684, 1.0),
    ]
)
_E2M1 = np.array([1, 2, 3, 4, 6, 8, 12]) / 12


def find_lattice(rows: Array) -> str:
    """The kind of levels that rows of a matrix, shape ``(units, columns)``, lie on; empty if they lie on none that can be seen.

    Two to four bits are seen in groups of 16 to 256 numbers, eight bits where a row or a block of eight rows holds at least 512 numbers
    that are not zero. What does not show: more levels, rows that were trained on, scaled or rotated after they were rounded.
    """
    rows = np.asarray(rows[:_ROWS], dtype=np.float32)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        return ""
    found = ""
    for size in _GROUPS:
        bits = _count_bits(rows.reshape(-1, size)) if rows.shape[1] % size == 0 else 0
        if not bits:
            break
        kind = _name_levels(rows.reshape(-1, size), bits)
        found = kind if kind == "fp4" else f"{kind}, a scale for every {size} numbers"
    return found or _find_eight_bits(rows)


def _count_bits(groups: Array) -> int:
    """Bits of the levels that nearly all groups lie on; 0 if they do not."""
    different, numbers = _count(groups)
    known = (numbers >= 0.6 * groups.shape[1]) & (different > 1)
    if known.sum() < _FEWEST:
        return 0
    different, numbers = different[known], numbers[known]
    for bits, levels in _LEVELS.items():
        if float(np.mean((different <= levels) & (different <= _REPEATED * numbers))) >= _ENOUGH:
            return bits
    return 0


def _count(groups: Array) -> tuple[Counts, Counts]:
    """For each group its different numbers and all its numbers, zeros left out."""
    ordered = np.sort(groups, axis=1)
    steps = np.diff(ordered, axis=1) != 0
    numbers = np.count_nonzero(ordered, axis=1)
    return 1 + np.count_nonzero(steps, axis=1) - (numbers < groups.shape[1]), numbers


def _name_levels(groups: Array, bits: int) -> str:
    """By where levels lie between zero and the largest of their group; few bits are whole numbers in every format that is in use."""
    if bits < 4:
        return f"int{bits}"
    sizes = np.abs(groups[np.abs(groups).max(axis=1) > 0])
    levels = sizes / sizes.max(axis=1, keepdims=True)
    # the largest number of a group is the table's last level, or with scales that are powers of two its last but one
    misses = {"nf4": _miss(levels, _NF4), "fp4": np.minimum(_miss(levels, _E2M1), _miss(levels * (2 / 3), _E2M1))}
    kind = min(misses, key=lambda kind: float(np.median(misses[kind])))
    return kind if float(np.median(misses[kind])) < _NEAR else "int4"


def _miss(levels: Array, table: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far the levels of each group lie from those of a table on average, zeros and the largest left out."""
    inside = (levels > 0.05) & (levels < 0.999 * levels.max(axis=1, keepdims=True))
    nearest = np.abs(levels[:, :, None] - table).min(axis=2)
    return np.asarray((nearest * inside).sum(axis=1) / np.maximum(inside.sum(axis=1), 1), dtype=np.float64)


def _find_eight_bits(rows: Array) -> str:
    columns = rows.shape[1]
    blocks = {"a scale for every row": rows}
    if columns % 128 == 0 and len(rows) == _ROWS:
        blocks["a scale for many rows"] = rows.reshape(_ROWS, -1, 128).transpose(1, 0, 2).reshape(-1, _ROWS * 128)
    for words, groups in blocks.items():
        different, numbers = _count(groups)
        known = (numbers >= 512) & (different >= _FEWEST)
        if known.sum() >= min(_FEWEST, len(groups)) and float(np.mean(known)) >= 0.5:
            few = (different[known] <= 254) & (2 * different[known] <= numbers[known])
            if float(np.mean(few)) >= _ENOUGH:
                return f"{_name_eight_bits(groups[known])}, {words}"
    return ""


def _name_eight_bits(groups: Array) -> str:
    """Floats have at most sixteen levels between two powers of two, both signs counted; whole numbers have more where they are large."""
    sizes = np.abs(groups)
    top = sizes.max(axis=1, keepdims=True)
    inside = np.where((sizes >= top / 4) & (sizes < top / 2), groups, 0)
    different, _ = _count(inside)
    return "fp8" if float(np.median(different)) <= 17 else "int8"
