"""Where a tensor lies in a file: the one thing that all formats come down to."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from homolog.checkpoint.base import TensorInfo
from homolog.checkpoint.dtypes import DType
from homolog.checkpoint.source import Source

if TYPE_CHECKING:
    from homolog.checkpoint.affine import Affine

__all__ = ["MOST_AXES", "MOST_NUMBERS", "Extent", "count_numbers", "measure_span", "row_major"]

MOST_AXES = 32
"""What every supported numpy can hold."""
MOST_NUMBERS = 1 << 48
"""More than any file holds; small enough that no product of sizes overflows in numpy, zero-length axes included."""


@dataclass(frozen=True, slots=True)
class Extent:
    """One tensor in place: item ``(i, j, …)`` lies at byte ``offset + itemsize · (i · strides[0] + j · strides[1] + …)``.

    An item is a number, or a block of them along the last axis (`DType.block`), which is then stored without gaps.
    """

    info: TensorInfo
    dtype: DType
    source: Source
    offset: int
    strides: tuple[int, ...]
    affine: Affine | None = None
    """What makes numbers of stored integers, if they stand for others."""


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in numbers, of a tensor stored row by row without gaps."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def measure_span(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """Numbers from the first to the last that the tensor touches, both included; 0 for an empty tensor."""
    if 0 in shape:
        return 0
    return 1 + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=True))


def count_numbers(shape: tuple[int, ...], strides: tuple[int, ...]) -> int:
    """How many different numbers are stored for the tensor, at most: an axis of stride 0 repeats one."""
    return prod(length for length, stride in zip(shape, strides, strict=True) if stride or not length)
