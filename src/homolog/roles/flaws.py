"""Tensors whose numbers cannot be trusted: NaN, infinities, all zero, all equal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Checkpoint, TensorInfo
from homolog.roles.names import shorten

__all__ = ["Flaws", "find_flaws"]

_BLOCK_NUMBERS = 1 << 21
"""Numbers read at a time: 8 MB as float32."""
_SAMPLE_NUMBERS = 1 << 12
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Flaws:
    """Names of tensors, by what is wrong with them."""

    nan: tuple[str, ...] = ()
    infinite: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    """Every number that was read is zero."""
    constant: tuple[str, ...] = ()
    """Every number that was read is the same, and not zero."""
    whole: bool = False
    """Whether every number was read, or only some rows from the middle of each tensor."""

    def warnings(self) -> tuple[str, ...]:
        """One sentence a kind."""
        scope = "" if self.whole else " in the rows that were sampled"
        kinds = (
            (self.nan, "contains NaN", "contain NaN"),
            (self.infinite, "contains infinities", "contain infinities"),
            (self.zero, "is all zero", "are all zero"),
            (self.constant, "has one value throughout", "have one value throughout"),
        )
        return tuple(
            f"{len(names)} tensor{'s' if len(names) > 1 else ''} {many if len(names) > 1 else one}{scope}: {_list(names)}"
            for names, one, many in kinds
            if names
        )


def find_flaws(checkpoint: Checkpoint, *, whole: bool, passed_over: Mapping[str, str] | None = None) -> Flaws:
    """Look through all floating-point tensors that are not in ``passed_over``.

    Whole: all numbers, streamed in blocks. Else some rows from the middle of each tensor: first rows often belong to padding,
    which is zero by design.
    """
    found: dict[str, list[str]] = {"nan": [], "infinite": [], "zero": [], "constant": []}
    for name, info in checkpoint.tensors.items():
        if name in (passed_over or {}) or not info.real or info.size == 0:
            continue
        for kind in _kinds(checkpoint, info, whole=whole):
            found[kind].append(name)
    return Flaws(**{kind: tuple(names) for kind, names in found.items()}, whole=whole)


def _kinds(checkpoint: Checkpoint, info: TensorInfo, *, whole: bool) -> list[str]:
    rows = info.shape[0] if info.shape else 1
    width = info.size // rows
    if whole:
        first, last = 0, rows
    else:
        count = min(rows, max(1, _SAMPLE_NUMBERS // width))
        first = (rows - count) // 2
        last = first + count
    kinds: set[str] = set()
    low, high = np.inf, -np.inf
    step = max(1, _BLOCK_NUMBERS // width)
    for start in range(first, last, step):
        block = checkpoint.read_rows(info.name, start, min(start + step, last))
        finite = np.isfinite(block)
        if not finite.all():
            kinds |= {"nan"} if np.isnan(block).any() else set()
            kinds |= {"infinite"} if np.isinf(block).any() else set()
        if finite.any():
            low = min(low, float(block.min(where=finite, initial=np.inf)))
            high = max(high, float(block.max(where=finite, initial=-np.inf)))
    if low == high and not kinds and (last - first) * width > 1:
        kinds.add("zero" if low == 0 else "constant")
    return sorted(kinds)


def _list(names: tuple[str, ...]) -> str:
    shown = ", ".join(shorten(name) for name in names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown
