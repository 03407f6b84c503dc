"""Reading a role through its view, in one orientation whatever the file's: the asked-for space leads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.role import Space, View

__all__ = ["count_units", "read_units", "read_units_at", "read_vector"]

_BLOCK_NUMBERS = 1 << 21
"""Numbers in one block of a read that needs columns: 8 MB as float32."""


def count_units(view: View, space: Space) -> int:
    """How many indices of ``space`` the view has. Raises ``ValueError`` if none of its axes counts it."""
    return view.shape[_axis(view, space)]


def read_units(
    checkpoint: Checkpoint,
    view: View,
    space: Space,
    start: int = 0,
    stop: int | None = None,
    *,
    residual: slice | None = None,
) -> Array:
    """Units ``start:stop`` along the axis that counts ``space``, shape ``(stop - start, other)``.

    Where units are stored as rows this is one contiguous read. Where they are stored as columns (Conv1D) all stored rows
    are read; ``residual`` then limits the read to a contiguous slab of them, so that such units can be sampled cheaply.
    With units stored as rows, ``residual`` cuts what is returned.

    Raises ``ValueError`` for a space that the view does not have, ``IndexError`` for units outside of it.
    """
    axis = _axis(view, space)
    stop = view.shape[axis] if stop is None else stop
    if not 0 <= start <= stop <= view.shape[axis]:
        raise IndexError(f"{view.tensor}: units {start}:{stop} of {view.shape[axis]}")
    first, last = _other(view, axis, residual)
    row, column = _offsets(view)
    if axis == 0:
        return checkpoint.read_rows(view.tensor, row + start, row + stop)[:, column + first : column + last]
    return _columns(checkpoint, view, np.arange(start, stop), first, last)


def read_units_at(
    checkpoint: Checkpoint, view: View, space: Space, ids: Sequence[int], *, residual: slice | None = None
) -> Array:
    """The units ``ids`` along the axis that counts ``space``, in the order asked for; else as `read_units`."""
    axis = _axis(view, space)
    units = np.asarray(ids, dtype=np.int64)
    if units.size and not (units.min() >= 0 and units.max() < view.shape[axis]):
        raise IndexError(f"{view.tensor}: units {units.min()} to {units.max()} of {view.shape[axis]}")
    first, last = _other(view, axis, residual)
    row, column = _offsets(view)
    if axis == 0:
        rows = checkpoint.read_rows_at(view.tensor, [row + int(unit) for unit in units])
        return rows[:, column + first : column + last]
    return _columns(checkpoint, view, units, first, last)


def read_vector(checkpoint: Checkpoint, view: View, start: int = 0, stop: int | None = None) -> Array:
    """Entries ``start:stop`` of a bias or a norm, shape ``(stop - start,)``."""
    if len(view.shape) != 1:
        raise ValueError(f"{view.tensor} has the axes {_words(view)}: it is not a vector")
    stop = view.shape[0] if stop is None else stop
    if not 0 <= start <= stop <= view.shape[0]:
        raise IndexError(f"{view.tensor}: entries {start}:{stop} of {view.shape[0]}")
    return checkpoint.read_rows(view.tensor, view.start + start, view.start + stop)


def _columns(checkpoint: Checkpoint, view: View, units: np.ndarray, first: int, last: int) -> Array:
    """Stored columns ``units`` of the rows ``first:last``, transposed, one block of rows after the other."""
    row, column = _offsets(view)
    out = np.empty((len(units), last - first), dtype=np.float32)
    width = view.shape[1] + column
    step = max(1, _BLOCK_NUMBERS // width)
    for low in range(first, last, step):
        high = min(low + step, last)
        block = checkpoint.read_rows(view.tensor, row + low, row + high)
        out[:, low - first : high - first] = block[:, column + units].T
    return out


def _axis(view: View, space: Space) -> int:
    if len(view.shape) != 2 or view.axes.count(space) != 1:
        raise ValueError(f"{view.tensor} has the axes {_words(view)}: asked for {space.value}")
    return view.axes.index(space)


def _other(view: View, axis: int, part: slice | None) -> tuple[int, int]:
    """The asked-for range of the axis that is not the units'."""
    size = view.shape[1 - axis]
    first, last, step = (part or slice(None)).indices(size)
    if step != 1:
        raise ValueError(f"{view.tensor}: a slab of the other axis is contiguous, found a step of {step}")
    return first, max(first, last)


def _offsets(view: View) -> tuple[int, int]:
    """Where the cut begins along the stored rows and columns."""
    return (view.start, 0) if view.axis == 0 else (0, view.start)


def _words(view: View) -> str:
    return " × ".join(space.value for space in view.axes)
