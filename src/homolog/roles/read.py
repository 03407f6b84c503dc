"""Reading a role through its view, in one orientation whatever the file's: the asked-for space leads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["count_units", "read_gain", "read_units", "read_units_at", "read_vector"]

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
    return _read_units(checkpoint, view, axis, range(start, stop), residual)


def read_units_at(
    checkpoint: Checkpoint, view: View, space: Space, ids: Sequence[int], *, residual: slice | None = None
) -> Array:
    """The units ``ids`` along the axis that counts ``space``, in the order asked for; else as `read_units`."""
    axis = _axis(view, space)
    if len(ids) and not (min(ids) >= 0 and max(ids) < view.shape[axis]):
        raise IndexError(f"{view.tensor}: units {min(ids)} to {max(ids)} of {view.shape[axis]}")
    return _read_units(checkpoint, view, axis, ids, residual)


def read_vector(checkpoint: Checkpoint, view: View, start: int = 0, stop: int | None = None) -> Array:
    """Entries ``start:stop`` of a bias or a norm, shape ``(stop - start,)``."""
    if len(view.shape) != 1:
        raise ValueError(f"{view.tensor} has the axes {_words(view)}: it is not a vector")
    stop = view.shape[0] if stop is None else stop
    if not 0 <= start <= stop <= view.shape[0]:
        raise IndexError(f"{view.tensor}: entries {start}:{stop} of {view.shape[0]}")
    if start == stop:
        return np.empty(0, dtype=np.float32)
    return _read_rows(checkpoint, view, _stored(view, 0, range(start, stop)))[:, 0]


def read_gain(checkpoint: Checkpoint, anatomy: Anatomy, kind: str, layer: int) -> Array | None:
    """What the norm ``kind`` of a layer multiplies by, (width,); ``None`` for one without numbers.

    Where files state how far a gain is from one, one is added. An FFN beside its attention may have its norm in common with it.
    """
    shared = "norm.attn" if anatomy.traits.parallel and kind == "norm.ffn" else kind
    view = anatomy.views.get(Role(kind, layer=layer)) or anatomy.views.get(Role(shared, layer=layer))
    if view is None:
        return None
    gain = read_vector(checkpoint, view) if len(view.shape) == 1 else read_units(checkpoint, view, view.axes[0]).ravel()
    return gain + np.float32(1) if anatomy.traits.norm_offset else gain


def _read_units(checkpoint: Checkpoint, view: View, axis: int, units: Sequence[int], part: slice | None) -> Array:
    """Units as rows, cut to a part of the other axis; units stored as columns are read in blocks of rows and turned."""
    first, last = _other(view, axis, part)
    if not len(units) or first == last:
        return np.empty((len(units), last - first), dtype=np.float32)
    if axis == 0:
        columns = _selection(_stored(view, 1, range(first, last)))
        return _read_rows(checkpoint, view, _stored(view, 0, units))[:, columns]
    columns = _selection(_stored(view, 1, units))
    out = np.empty((len(units), last - first), dtype=np.float32)
    step = max(1, _BLOCK_NUMBERS // max(view.shape[1] + view.start, 1))
    for low in range(first, last, step):
        rows = range(low, min(low + step, last))
        out[:, low - first : rows.stop - first] = _read_rows(checkpoint, view, _stored(view, 0, rows))[:, columns].T
    return out


def _stored(view: View, axis: int, units: Sequence[int]) -> Sequence[int]:
    """Where indices of the view lie along an axis of the tensor."""
    if axis != view.axis:
        return units
    if not view.run and isinstance(units, range):
        return range(view.start + units.start, view.start + units.stop)
    if not view.run:
        return [view.start + unit for unit in units]
    runs, within = np.divmod(np.asarray(units, dtype=np.int64), view.run)
    places: list[int] = (view.start + runs * view.period + within).tolist()
    return places


def _selection(places: Sequence[int]) -> slice | np.ndarray:
    return slice(places.start, places.stop) if isinstance(places, range) else np.asarray(places, dtype=np.int64)


def _read_rows(checkpoint: Checkpoint, view: View, rows: Sequence[int]) -> Array:
    """Stored rows of the view's block, at least one, everything beyond the first axis as one."""
    if not view.index:
        if isinstance(rows, range):
            block = checkpoint.read_rows(view.tensor, rows.start, rows.stop)
        else:
            block = checkpoint.read_rows_at(view.tensor, rows)
    elif isinstance(rows, range):
        block = checkpoint.read_block(view.tensor, view.index, rows.start, rows.stop)
    else:
        low = min(rows)
        span = checkpoint.read_block(view.tensor, view.index, low, max(rows) + 1)
        block = span[np.asarray(rows, dtype=np.int64) - low]
    return block.reshape(len(rows), -1)


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


def _words(view: View) -> str:
    return " × ".join(space.value for space in view.axes)
