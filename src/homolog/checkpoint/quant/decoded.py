"""A checkpoint over a quantised one: the same interface, each quantised matrix under its own name and decoded as it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint, TensorInfo
from homolog.checkpoint.quant.layout import Layout
from homolog.checkpoint.quant.raw import RawReader

__all__ = ["DecodedCheckpoint"]

_BLOCK_NUMBERS = 1 << 20
"""Numbers decoded at once: 4 MB as float32, and a few times that on the way."""
_GAP_NUMBERS = 1 << 13
"""Numbers between two wanted rows that are cheaper to decode than to read apart."""


class DecodedCheckpoint(Checkpoint):
    """Offers the matrices of ``layouts`` in the place of the stored tensors ``hidden``; all others are those of ``inner``."""

    def __init__(
        self, inner: Checkpoint, layouts: Mapping[str, Layout], hidden: frozenset[str], notes: Iterable[str]
    ) -> None:
        self.path, self.format, self.config = inner.path, inner.format, inner.config
        self.files, self.folder, self.meter = inner.files, inner.folder, inner.meter
        self.tokenizer = inner.tokenizer
        self.notes = (*inner.notes, *notes)
        self._inner = inner
        self._layouts = layouts
        self._reader = RawReader(inner)
        tensors = {name: info for name, info in inner.tensors.items() if name not in hidden}
        tensors.update((name, self._describe(layout)) for name, layout in layouts.items())
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(dict(sorted(tensors.items())))

    def read_rows(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_rows`; raises ``MalformedCheckpoint`` for scales that cannot be."""
        layout = self._layouts.get(name)
        if layout is None:
            return self._plain(name).read_rows(name, start, stop)
        start, stop = _check(name, layout.shape[0], start, stop)
        inner = prod(layout.shape[1:-1])
        return self._decode(layout, start * inner, stop * inner).reshape(stop - start, *layout.shape[1:])

    def read_block(self, name: str, index: Sequence[int], start: int = 0, stop: int | None = None) -> Array:
        """As `Checkpoint.read_block`: rows of one matrix of a stack, decoded without its neighbours."""
        layout = self._layouts.get(name)
        if layout is None:
            return self._plain(name).read_block(name, index, start, stop)
        if len(index) != len(layout.shape) - 2:
            return super().read_block(name, index, start, stop)
        block = 0
        for number, length in zip(index, layout.shape, strict=False):
            if not 0 <= number < length:
                raise IndexError(f"block {list(index)} of {name}, which has shape {list(layout.shape)}")
            block = block * length + number
        height = layout.shape[-2]
        start, stop = _check(name, height, start, stop)
        return self._decode(layout, block * height + start, block * height + stop)

    def read_rows_at(self, name: str, ids: Sequence[int]) -> Array:
        """As `Checkpoint.read_rows_at`."""
        layout = self._layouts.get(name)
        if layout is None:
            return self._plain(name).read_rows_at(name, ids)
        wanted, back = np.unique(np.asarray(ids, dtype=np.int64).reshape(-1), return_inverse=True)
        if len(wanted):
            _check(name, layout.shape[0], int(wanted[0]), int(wanted[-1]) + 1)
        out = np.empty((len(wanted), *layout.shape[1:]), dtype=np.float32)
        numbers = prod(layout.shape[1:])
        far = max(layout.step, 1 + _GAP_NUMBERS // numbers)
        first = 0
        while first < len(wanted):
            last = first + 1
            while last < len(wanted) and wanted[last] - wanted[last - 1] <= far and _near(wanted, first, last, numbers):
                last += 1
            low, high = int(wanted[first]), int(wanted[last - 1]) + 1
            out[first:last] = self.read_rows(name, low, high)[wanted[first:last] - low]
            first = last
        return out[back.reshape(-1)]

    def read_bytes(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """As `Checkpoint.read_bytes`; of a decoded matrix the numbers as float32, which are the same whatever the format."""
        if name not in self._layouts:
            return self._plain(name).read_bytes(name, start, stop)
        return self.read_rows(name, start, stop).astype("<f4", copy=False).tobytes()

    def read_stored(self, name: str, most: int) -> Iterator[bytes]:
        """As `Checkpoint.read_stored`: codes and scales, nothing decoded."""
        layout = self._layouts.get(name)
        for part in [name] if layout is None else sorted(set(layout.parts)):
            yield from self._inner.read_stored(part, most)

    def stored_order(self) -> tuple[str, ...]:
        """As `Checkpoint.stored_order`; a matrix stands where its codes do."""
        places = {layout.parts[0]: name for name, layout in self._layouts.items()}
        order = (places.get(name, name) for name in self._inner.stored_order())
        return tuple(name for name in order if name in self.tensors)

    def locate(self, name: str) -> Path:
        """The file that holds a tensor, or the first part of a matrix."""
        layout = self._layouts.get(name)
        return self._inner.locate(layout.parts[0] if layout is not None else name)

    def close(self) -> None:
        """Release the files."""
        self._inner.close()

    def _plain(self, name: str) -> Checkpoint:
        if name not in self.tensors:
            raise KeyError(name)
        return self._inner

    def _describe(self, layout: Layout) -> TensorInfo:
        nbytes = sum(self._inner.tensors[part].nbytes for part in layout.parts)
        return TensorInfo(layout.name, layout.shape, "F32", nbytes, layout.lattice, layout.transposed)

    def _decode(self, layout: Layout, start: int, stop: int) -> Array:
        """Rows of the matrix, or of the stack's matrices one after the other, in pieces of bounded size."""
        out = np.empty((stop - start, layout.shape[-1]), dtype=np.float32)
        step = layout.step
        height = max(step, _BLOCK_NUMBERS // layout.shape[-1] // step * step)
        for low in range(start // step * step, stop, height):
            high = min(low + height, -(-stop // step) * step, layout.rows)
            block = layout.decode(self._reader, low, high)
            first, last = max(low, start), min(high, stop)
            out[first - start : last - start] = block[first - low : last - low]
        return out


def _near(wanted: np.ndarray, first: int, last: int, numbers: int) -> bool:
    return bool((wanted[last] - wanted[first]) * numbers <= _BLOCK_NUMBERS)


def _check(name: str, count: int, start: int, stop: int | None) -> tuple[int, int]:
    stop = count if stop is None else stop
    if not 0 <= start <= stop <= count:
        raise IndexError(f"rows {start}:{stop} of {name}, which has {count}")
    return start, stop
