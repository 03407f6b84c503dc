"""Integers that stand for real numbers by a scale and a zero point, one for a tensor or one for each index of an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.checkpoint.extent import Extent

__all__ = ["Affine", "Select"]

Select = slice | npt.NDArray[np.int64]
"""Which indices of the leading axis."""


@dataclass(frozen=True, slots=True)
class Affine:
    """``real = scale · (stored − zero)``."""

    scale: Extent
    zero: Extent | None
    axis: int | None
    """The axis of the tensor along which the scales lie; ``None`` for one scale."""

    def apply(self, block: Array, rows: Select, read: Callable[[Extent], Array], index: Sequence[int] = ()) -> None:
        """Turn stored numbers into real ones in place.

        ``block`` holds the rows ``rows`` of ``tensor[index]``; ``read`` reads a whole small tensor.
        """
        scale = self._along(read(self.scale), block.ndim, rows, index)
        if self.zero is not None:
            block -= self._along(read(self.zero), block.ndim, rows, index)
        with np.errstate(all="ignore"):  # what overflows is Inf, and reported as such
            block *= scale

    def _along(self, values: Array, axes: int, rows: Select, index: Sequence[int]) -> Array:
        """The values that belong to a block of that many axes, in a shape that broadcasts over it."""
        flat = values.reshape(-1)
        if self.axis is None or len(flat) == 1:
            return flat[:1]
        if self.axis < len(index):
            return flat[index[self.axis] : index[self.axis] + 1]
        axis = self.axis - len(index)
        kept = flat[rows] if axis == 0 else flat
        return kept.reshape([-1 if place == axis else 1 for place in range(axes)])
