"""What the formats have in common: a matrix of codes, a grid of scales over it, and perhaps a grid of zeros."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.base import Array
from homolog.checkpoint.quant.bits import E4M3, Stored, decode_exponents
from homolog.checkpoint.quant.raw import RawReader

__all__ = ["Affine", "CodeRows", "Grid", "Layout", "ZeroRows", "check_scales", "describe_block"]

Indices = npt.NDArray[np.int64]

_SPELLINGS: dict[str, Callable[[Stored], Array]] = {
    "": lambda stored: np.asarray(stored, dtype=np.float32),
    "e8m0": decode_exponents,
    "e4m3": lambda stored: E4M3[stored],
}


@dataclass(frozen=True, slots=True)
class Layout(ABC):
    """One tensor as the model means it, and how it comes out of the stored ones."""

    name: str
    """Of the tensor as the model means it."""
    shape: tuple[int, ...]
    parts: tuple[str, ...]
    """The stored tensors that it takes the place of."""
    method: str
    """The format, in the spelling of ``quant_method`` in config.json where it has one."""
    lattice: str
    """Kind of number first, then what shares a scale: ``int4, a scale for every 128 numbers``."""
    transposed: bool = field(default=False, kw_only=True)
    """Whether the last two axes lie the other way round than the tensor's name promises."""

    @property
    def rows(self) -> int:
        """Rows of the matrix; those of all blocks of a stack, one block after the other."""
        return prod(self.shape[:-1])

    @property
    def step(self) -> int:
        """Rows that can only be decoded together."""
        return 1

    @abstractmethod
    def decode(self, reader: RawReader, start: int, stop: int) -> Array:
        """Rows ``start:stop``, each a multiple of ``step`` or the end, shape ``(stop - start, shape[-1])``.

        Raises ``MalformedCheckpoint`` for scales that cannot be: NaN, infinite, or zero over codes that are not.
        """


class CodeRows(ABC):
    """Where the codes of a matrix come from."""

    step: int = 1

    @abstractmethod
    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The codes of rows ``start:stop`` as the whole numbers (or small floats) that they stand for."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A stored tensor with one number for every block of a matrix, or for every group of its rows or columns."""

    name: str
    shape: tuple[int, int]
    """The grid's rows and columns, within one block of a stack."""
    block: tuple[int, int]
    """Rows and columns of the matrix that share one number; the last of each may be cut short."""
    matrix: tuple[int, int]
    """Rows and columns of the matrix, within one block of a stack."""
    lead: int = 1
    """Leading axes of the stored tensor that count the grid's rows."""
    spelling: str = ""
    """What plain bytes mean: ``e8m0`` powers of two, ``e4m3`` eight-bit floats; empty for numbers of the tensor's own kind."""
    row_groups: str = ""
    """The stored tensor that says to which row of the grid each row of the matrix belongs; empty where that is every ``block[0]``."""
    column_groups: str = ""
    """The same for columns."""

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The numbers for rows ``start:stop`` of the matrix, shape ``(stop - start, shape[1])``: not yet spread over the columns."""
        place = self.rows_of(reader, start, stop)
        if not place.size:
            return np.empty((0, self.shape[1]), dtype=np.float32)
        first, last = int(place.min()), int(place.max()) + 1
        stored = reader.rows(self.name, first, last, self.lead)
        numbers = _SPELLINGS[self.spelling](stored)
        return numbers.reshape(last - first, self.shape[1])[place - first]

    def spread(self, reader: RawReader, numbers: Array) -> Array:
        """Over the columns of the matrix; one column stays one, to be broadcast."""
        if self.column_groups:
            return numbers[:, self._columns_of(reader)]
        if self.shape[1] == 1:
            return numbers
        return np.repeat(numbers, self.block[1], axis=1)[:, : self.matrix[1]]

    def rows_of(self, reader: RawReader, start: int, stop: int) -> Indices:
        """Which row of the grid each of the rows ``start:stop`` belongs to."""
        if self.row_groups:
            groups = reader.rows(self.row_groups, start, stop).reshape(-1).astype(np.int64)
            return self._checked(reader, self.row_groups, groups, self.shape[0])
        rows = np.arange(start, stop, dtype=np.int64)
        stack, row = np.divmod(rows, self.matrix[0])
        return np.asarray(stack * self.shape[0] + row // self.block[0], dtype=np.int64)

    def _columns_of(self, reader: RawReader) -> Indices:
        groups = reader.whole(self.column_groups).astype(np.int64)
        if groups.size and (groups == -1).all():  # written so where the columns are in their natural order
            return np.arange(groups.size, dtype=np.int64) // self.block[1]
        return self._checked(reader, self.column_groups, groups, self.shape[1])

    @staticmethod
    def _checked(reader: RawReader, name: str, groups: Indices, count: int) -> Indices:
        wrong = (groups < 0) | (groups >= count)
        if wrong.any():
            found = f"the group {int(groups[wrong][0])}"
            raise reader.fail(name, found, f"groups from 0 to {count - 1}, as many as there are scales")
        return groups


@dataclass(frozen=True, slots=True)
class Affine(Layout):
    """``(code − zero) · scale``, and the same for the whole tensor: what most formats come to."""

    codes: CodeRows
    scale: Grid
    zero: Grid | ZeroRows | None = None
    factor: float = 1.0
    """A constant of the format, by which everything is multiplied at the end."""
    overall: str = ""
    """A stored number by which all scales are multiplied; of a stack, one for each block."""
    divide: bool = False
    """Whether the overall number divides instead."""
    offset: Grid | None = None
    """A grid that is added at the end, in the place of zeros."""

    @property
    def step(self) -> int:
        """Rows that share a word."""
        return self.codes.step

    def decode(self, reader: RawReader, start: int, stop: int) -> Array:
        """Rows ``start:stop``."""
        codes = self.codes.read(reader, start, stop)
        scale = self._scales(reader, start, stop)
        if self.zero is not None:
            zero = self.zero.read(reader, start, stop)
            codes = codes - self.scale.spread(reader, zero)
        spread = self.scale.spread(reader, scale)
        check_scales(reader, self.scale.name, codes, scale, spread, additive=self.offset is not None)
        with np.errstate(over="ignore"):
            decoded = codes * spread
            if self.factor != 1.0:
                decoded *= np.float32(self.factor)
            if self.offset is not None:
                decoded += self.scale.spread(reader, self._finite(reader, self.offset, start, stop))
        return np.asarray(decoded, dtype=np.float32)

    def _scales(self, reader: RawReader, start: int, stop: int) -> Array:
        scale = self.scale.read(reader, start, stop)
        if not self.overall:
            return scale
        overall = np.asarray(reader.whole(self.overall), dtype=np.float32)
        if not np.isfinite(overall).all() or not overall.all():
            raise reader.fail(self.overall, "a scale that is zero, NaN or infinite", "a finite number that is not zero")
        if overall.size > 1:
            overall = overall[np.arange(start, stop) // self.scale.matrix[0]][:, None]
        return scale / overall if self.divide else scale * overall

    @staticmethod
    def _finite(reader: RawReader, grid: Grid, start: int, stop: int) -> Array:
        numbers = grid.read(reader, start, stop)
        if not np.isfinite(numbers).all():
            raise reader.fail(grid.name, "NaN or infinity among the offsets", "finite numbers")
        return numbers


class ZeroRows(ABC):
    """Zeros that are packed themselves."""

    @abstractmethod
    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The zeros for rows ``start:stop`` of the matrix, one column for each of the grid of scales."""


def check_scales(
    reader: RawReader, name: str, codes: Array, scale: Array, spread: Array, *, additive: bool = False
) -> None:
    """Refuse scales that no quantiser writes: NaN, infinities, and zeros where codes say that the numbers were not zero.

    A block of zeros honestly has the scale 0 in some formats; its codes are then zeros too. With an offset added behind them
    (``additive``) codes say nothing.
    """
    if not np.isfinite(scale).all():
        kind = "NaN" if np.isnan(scale).any() else "infinity"
        raise reader.fail(name, f"{kind} among the scales", "finite numbers")
    if not additive and not scale.all() and bool(((np.abs(codes) > 0) & (spread == 0)).any()):
        raise reader.fail(name, "a scale of zero over codes that are not zero", "scales that are not zero there")


def describe_block(block: tuple[int, int], matrix: tuple[int, int]) -> str:
    """Which numbers share a scale, in words."""
    rows, columns = min(block[0], matrix[0]), min(block[1], matrix[1])
    if (rows, columns) == matrix:
        return "one scale for all"
    if columns == matrix[1]:
        return "a scale for every row" if rows == 1 else f"a scale for every {rows} rows"
    return f"a scale for every {columns} numbers" if rows == 1 else f"a scale for every {rows} × {columns} numbers"
