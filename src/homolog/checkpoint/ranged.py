"""The checkpoint over extents: every format reads its rows through this one class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from homolog.checkpoint.affine import Select
from homolog.checkpoint.base import Array, Checkpoint, Meter, TensorInfo, TokenTable
from homolog.checkpoint.dtypes import Raw
from homolog.checkpoint.extent import Extent, count_numbers, measure_span
from homolog.checkpoint.source import FilePool
from homolog.errors import UnsupportedFormat

__all__ = ["Contents", "RangedCheckpoint"]

_BLOCK = 4 << 20
"""Bytes read at once at most."""
_GAP = 4 << 10
"""Bytes between two wanted ranges that are cheaper to read than a second request."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a reader of one format found: its tensors in place, and what it has to say about them."""

    format: str
    extents: Mapping[str, Extent]
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What the file says of itself beside its tensors, where the format has a place for it."""


class RangedCheckpoint(Checkpoint):
    """Tensors in place, read by range in blocks of bounded size."""

    def __init__(
        self,
        path: Path,
        contents: Contents,
        *,
        files: tuple[Path, ...],
        folder: Path | None,
        config: Mapping[str, Any],
        pool: FilePool,
        meter: Meter,
        tokenizer: TokenTable | None = None,
    ) -> None:
        self.path = path
        self.format = contents.format
        self.config = MappingProxyType(dict(config))
        self.files = files
        self.folder = folder
        self.meter = meter
        self.notes = contents.notes
        self.tokenizer = tokenizer
        self._order = tuple(contents.extents)
        self._extents = dict(sorted(contents.extents.items()))
        beside = sorted({extent.source.path for extent in self._extents.values()} - {*files})
        self.files = (*files, *beside)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({name: e.info for name, e in self._extents.items()})
        self._pool = pool
        self._small: dict[tuple[Path, int], Array] = {}
        """Scales and zero points, by place."""

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start:stop`` as float32."""
        rows = self._rows(name)
        first, last = rows.check(start, stop)
        return self._scale(name, rows.read(first, last), slice(first, last))

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """The rows ``ids`` as float32, in the order asked for; neighbours are read as one range."""
        rows = self._rows(name)
        wanted, back = np.unique(np.asarray(ids, dtype=np.int64).reshape(-1), return_inverse=True)
        out = np.empty((len(wanted), *rows.shape[1:]), dtype=np.float32)
        if len(wanted):
            rows.check(int(wanted[0]), int(wanted[-1]) + 1)
        for first, last in _split_runs(wanted, far=1 + _GAP // rows.pitch, longest=max(1, _BLOCK // rows.heaviest)):
            start, stop = int(wanted[first]), int(wanted[last - 1]) + 1
            if stop - start == last - first:
                rows.fill(out[first:last], start)
            else:
                out[first:last] = rows.read(start, stop)[wanted[first:last] - start]
        out = self._scale(name, out, wanted)
        in_order = len(back) == len(wanted) and bool(np.all(np.diff(back) > 0))
        return out if in_order else out[back.reshape(-1)]

    def read_block(self, name: str, index: Sequence[int], start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start:stop`` of ``tensor[index]`` as float32, and nothing beside them."""
        rows = self._rows(name).block(index)
        first, last = rows.check(start, stop)
        return self._scale(name, rows.read(first, last), slice(first, last), index)

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Rows ``start:stop`` as stored."""
        rows = self._rows(name)
        return rows.read_stored(*rows.check(start, stop)).tobytes()

    def read_stored(self, name: str, most: int) -> Iterator[bytes]:
        """As `Checkpoint.read_stored`: of integers that stand for other numbers, their scales and zeros too."""
        yield from super().read_stored(name, most)
        affine = self._extents[name].affine
        for extent in (affine.scale, affine.zero) if affine is not None else ():
            if extent is not None:
                yield self._read_whole(extent).tobytes()

    def stored_order(self) -> tuple[str, ...]:
        """The tensors in the order in which the files list them."""
        return self._order

    def locate(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self._extents[name].source.path

    def close(self) -> None:
        """Close the files."""
        self._pool.close()

    def _scale(self, name: str, block: Array, rows: Select, index: Sequence[int] = ()) -> Array:
        """Numbers of what was read: as it is, or by the scales that belong to the rows."""
        affine = self._extents[name].affine
        if affine is not None:
            affine.apply(block, rows, self._read_whole, index)
        return block

    def _read_whole(self, extent: Extent) -> Array:
        """A small tensor that is part of another; it is read once."""
        key = (extent.source.path, extent.offset)
        if key not in self._small:
            rows = _Rows(extent)
            self._small[key] = rows.read(0, rows.shape[0])
        return self._small[key]

    def _rows(self, name: str) -> _Rows:
        extent = self._extents[name]
        if extent.dtype.storage is None:
            raise UnsupportedFormat(
                extent.source.path,
                at=f"tensor {name}",
                found=f"numbers of kind {extent.dtype.name}",
                expected="a kind of whole bytes that homolog decodes, not complex",
            )
        return _Rows(extent)


class _Rows:
    """The rows of one tensor; a scalar is one row."""

    def __init__(self, extent: Extent) -> None:
        self._extent = extent
        self._item = extent.dtype.itemsize
        # what comes in blocks grows when it is decoded, and by more while it is
        self._most = _BLOCK if extent.dtype.block == 1 else _BLOCK * self._item // (4 * extent.dtype.block)
        self.shape = extent.info.shape or (1,)
        self._strides = extent.strides or (1,)

    def block(self, index: Sequence[int]) -> _Rows:
        """The rows of one block, picked along the leading axes. Raises ``IndexError`` for a block outside the tensor."""
        extent, depth = self._extent, len(index)
        info = extent.info
        if depth > len(info.shape) or any(
            not 0 <= number < length for number, length in zip(index, info.shape, strict=False)
        ):
            raise IndexError(f"block {list(index)} of {info.name}, which has shape {list(info.shape)}")
        shift = sum(number * stride for number, stride in zip(index, extent.strides, strict=False))
        inner = TensorInfo(info.name, info.shape[depth:], info.dtype, info.nbytes)
        offset = extent.offset + shift * self._item
        return _Rows(replace(extent, info=inner, offset=offset, strides=extent.strides[depth:]))

    @property
    def pitch(self) -> int:
        """Bytes from the start of one row to the start of the next, as stored."""
        return max(1, self._strides[0] * self._item)

    @property
    def heaviest(self) -> int:
        """Bytes of one row, stored or as float32, whichever is more."""
        return max(self.pitch, 4 * prod(self.shape[1:]))

    def check(self, start: int, stop: int | None) -> tuple[int, int]:
        count = self.shape[0]
        stop = count if stop is None else stop
        if not 0 <= start <= stop <= count:
            raise IndexError(f"rows {start}:{stop} of {self._extent.info.name}, which has {count}")
        return start, stop

    def read(self, start: int, stop: int) -> Array:
        out = np.empty((stop - start, *self.shape[1:]), dtype=np.float32)
        self.fill(out, start)
        return out

    def fill(self, out: Array, start: int) -> None:
        """Read the rows from ``start`` into ``out``, which lies in memory without gaps."""
        size = self._extent.dtype.block
        if size == 1:
            self._fill(out, start, self._extent.dtype.widen)
        elif out.ndim > 1:
            self._fill(out.reshape(*out.shape[:-1], out.shape[-1] // size, size), start, self._extent.dtype.widen)
        else:  # rows of a vector are single numbers: read the blocks that they lie in
            first, stop = start // size, -(-(start + len(out)) // size)
            whole = np.empty((stop - first, size), dtype=np.float32)
            self._fill(whole, first, self._extent.dtype.widen)
            out[...] = whole.reshape(-1)[start - first * size :][: len(out)]

    def read_stored(self, start: int, stop: int) -> Raw:
        """The items of the rows; of a vector in blocks, the blocks that its rows touch."""
        size = self._extent.dtype.block
        if len(self.shape) == 1:
            start, stop = start // size, -(-stop // size)
        across = [*self.shape[1:-1], self.shape[-1] // size] if len(self.shape) > 1 else []
        out = np.empty((stop - start, *across), dtype=self._extent.dtype.storage)
        self._fill(out, start, lambda raw: raw)
        return out

    def _fill(self, out: np.ndarray[Any, Any], start: int, convert: Callable[[Raw], np.ndarray[Any, Any]]) -> None:
        """Halve the box of wanted items along its longest reach until it is small, or dense enough to be read as one range.

        The axes of ``out`` are those of the items; where these are blocks, the numbers of a block are one more.
        """
        boxes = [(out, self._extent.offset + start * self._strides[0] * self._item)]
        while boxes:
            part, offset = boxes.pop()
            items = part.shape[: len(self._strides)]
            span = measure_span(items, self._strides) * self._item
            if not span:
                continue
            stored = count_numbers(items, self._strides) * self._item
            if span <= _GAP or (span <= self._most and span <= 2 * stored):
                part[...] = convert(self._view(items, self._extent.source.read(offset, span)))
                continue
            reach = [(length - 1) * stride for length, stride in zip(items, self._strides, strict=True)]
            axis = reach.index(max(reach))
            middle = part.shape[axis] // 2
            near, far = np.split(part, [middle], axis=axis)
            boxes.append((far, offset + middle * self._strides[axis] * self._item))
            boxes.append((near, offset))

    def _view(self, shape: tuple[int, ...], block: bytes) -> Raw:
        strides = tuple(stride * self._item for stride in self._strides)
        return np.ndarray(shape, dtype=self._extent.dtype.storage, buffer=block, strides=strides)


def _split_runs(wanted: np.ndarray[Any, np.dtype[np.int64]], *, far: int, longest: int) -> Iterator[tuple[int, int]]:
    """Cut sorted row numbers into runs that are worth one read: next to each other within ``far``, ``longest`` rows at most."""
    cuts = np.flatnonzero(np.diff(wanted) > far) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(wanted)]):
        first = start
        while first < stop:
            last = min(stop, int(np.searchsorted(wanted, wanted[first] + longest)))
            yield first, last
            first = last
