"""HQQ: the matrix is reshaped so that groups become rows (axis 1) or columns (axis 0), and packed from the top and the bottom at once.

With 4 bits, the upper half of the reshaped matrix lies in the high halves of the bytes and the lower half in the low ones; with fewer bits
in as many bands (``hqq/core/bitpack.py``). So a row of the model's matrix is found in the bytes of another, and only its own bits are used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array
from homolog.checkpoint.quant.layout import Layout, check_scales
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.survey import Survey

__all__ = ["find_hqq"]

_BANDS = {8: 1, 4: 2, 3: 10, 2: 4, 1: 8}
"""Codes in one stored number, by bits; of 3 bits ten lie in 32."""
_NOTES = (
    "shape",
    "nbits",
    "axis",
    "group_size",
    "packing",
    "compute_dtype",
    "view_as_float",
    "unpack_view_dtype",
    "encoded_state_dict",
    "stores_quant_config",
    "quant_scale",
    "quant_zero",
    "offload_meta",
    "channel_wise",
    "optimize",
    "round_zero",
)


@dataclass(frozen=True, slots=True)
class _Hqq(Layout):
    bits: int
    axis: int
    grouped: tuple[int, int]
    """Rows and columns of the reshaped matrix."""

    def decode(self, reader: RawReader, start: int, stop: int) -> Array:
        """Rows ``start:stop``, with the rest of the groups that they are parts of."""
        columns, across = self.shape[-1], self.grouped[1]
        first, last = start * columns, stop * columns
        low, high = first // across, -(-last // across)
        codes = self._codes(reader, low, high)
        rows = (low, high) if self.axis == 1 else (0, 1)
        scale, zero = (reader.numbers(name, *rows) for name in self.parts[1:3])
        if not np.isfinite(zero).all():
            raise reader.fail(self.parts[2], "NaN or infinity among the zeros", "finite numbers")
        differences = codes - zero
        check_scales(reader, self.parts[1], differences, scale, np.broadcast_to(scale, codes.shape))
        values = (differences * scale).reshape(-1)[first - low * across :][: last - first]
        return np.asarray(values.reshape(stop - start, columns), dtype=np.float32)

    def _codes(self, reader: RawReader, low: int, high: int) -> Array:
        """Rows ``low:high`` of the reshaped matrix."""
        bands = _BANDS[self.bits]
        height = -(-self.grouped[0] // bands)
        band, inside = np.divmod(np.arange(low, high), height)
        if high - low >= height:
            stored = reader.rows(self.parts[0], 0, height)[inside]
        elif inside[0] <= inside[-1]:
            stored = reader.rows(self.parts[0], int(inside[0]), int(inside[-1]) + 1)
        else:  # from the end of one band to the start of the next
            ends = ((int(inside[0]), height), (0, int(inside[-1]) + 1))
            stored = np.concatenate([reader.rows(self.parts[0], *end) for end in ends])
        shifts = (self.bits * (bands - 1 - band)).astype(stored.dtype)
        return np.asarray((stored >> shifts[:, None]) & ((1 << self.bits) - 1), dtype=np.float32)


def find_hqq(survey: Survey) -> Iterator[Layout]:
    """Every matrix of HQQ.

    Raises ``MalformedCheckpoint`` where codes, scales, zeros and the stored settings do not fit each other.
    """
    for place in survey.places("W_q"):
        yield _hqq(survey, place)


def _hqq(survey: Survey, place: str) -> Layout:
    name = place + "W_q"
    codes = survey.matrix(name, 2)
    for needed in ("scale", "zero", "shape"):
        if survey.get(place + needed) is None:
            raise survey.missing(place + needed, name)
    module = tuple(segment for segment in place.split(".") if not segment.isdigit())
    scale = survey.tensors[place + "scale"]
    alike = (codes.shape, scale.shape, *module)
    shape = survey.note(place + "shape", *alike).astype(np.int64).tolist()
    if len(shape) != 2 or not all(0 < side <= 1 << 40 for side in shape):
        raise survey.fail(place + "shape", f"the shape {shape[:4]}", "two whole numbers above 0")
    numbers = shape[0] * shape[1]
    bits = _setting(survey, place, "nbits", alike) or survey.hints.bits
    axis = 0 if scale.shape[:1] == (1,) and codes.shape[1] == scale.size else 1
    group = numbers // scale.size if scale.size else 0
    grouped = (group, scale.size) if axis == 0 else (scale.size, group)
    bands = _BANDS.get(bits, 0)
    fits = bands and grouped[0] * grouped[1] == numbers and codes.shape == (-(-grouped[0] // bands), grouped[1])
    if not fits or codes.dtype != ("I32" if bits == 3 else "U8"):
        found = f"{codes.dtype} of shape {list(codes.shape)} under {scale.size} scales"
        raise survey.fail(name, found, f"codes of {bits} bits for {shape[0]} × {shape[1]} numbers")
    if survey.tensors[place + "zero"].shape != scale.shape:
        found = f"shape {list(survey.tensors[place + 'zero'].shape)}"
        raise survey.fail(place + "zero", found, f"the shape {list(scale.shape)} of its scales")
    notes = [place + leaf for leaf in _NOTES if survey.get(place + leaf) is not None]
    return _Hqq(
        name=place + "weight",
        shape=(shape[0], shape[1]),
        parts=(name, place + "scale", place + "zero", *notes),
        method="hqq",
        lattice=f"int{bits}, a scale for every {group} numbers",
        bits=bits,
        axis=axis,
        grouped=grouped,
    )


def _setting(survey: Survey, place: str, leaf: str, alike: tuple[object, ...]) -> int:
    if survey.get(place + leaf) is None:
        return 0
    values = survey.note(place + leaf, *alike).reshape(-1)
    return int(values[0]) if np.isfinite(values[0]) and 0 <= values[0] < 1 << 31 else 0
