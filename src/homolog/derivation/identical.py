"""Are two checkpoints the same numbers? Role by role and bit by bit, whatever the names, files and order they are stored in."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from homolog.checkpoint.base import Checkpoint
from homolog.roles.read import read_units, read_vector
from homolog.roles.role import Anatomy, View

__all__ = ["same_numbers"]

_BLOCK = 2**22


def same_numbers(a: Checkpoint, b: Checkpoint, anatomy_a: Anatomy, anatomy_b: Anatomy) -> bool:
    """Whether both have the same roles, with the same shapes and the same values (as float32) throughout. Reads until they differ."""
    if set(anatomy_a.views) != set(anatomy_b.views):
        return False
    pairs = [(anatomy_a.views[role], anatomy_b.views[role]) for role in sorted(anatomy_a.views)]
    if any(sorted(zip(x.axes, x.shape, strict=True)) != sorted(zip(y.axes, y.shape, strict=True)) for x, y in pairs):
        return False
    return all(_same(a, b, x, y) for x, y in pairs)


def _same(a: Checkpoint, b: Checkpoint, x: View, y: View) -> bool:
    for start, stop in _steps(x):
        if len(x.shape) == 1:
            first, second = read_vector(a, x, start, stop), read_vector(b, y, start, stop)
        else:
            first, second = (read_units(model, view, x.axes[0], start, stop) for model, view in ((a, x), (b, y)))
        if first.tobytes() != second.tobytes():
            return False
    return True


def _steps(view: View) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK // max(prod(view.shape[1:]), 1))
    for start in range(0, view.shape[0], step):
        yield start, min(start + step, view.shape[0])
