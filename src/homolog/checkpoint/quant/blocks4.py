"""bitsandbytes' nf4 and fp4: codes in one flat run, two in a byte, a scale for every 64 of them wherever rows begin and end.

The scales may be quantised themselves (double quantisation): then they are bytes into a table of 256 numbers, under scales of their own,
about a mean that is subtracted first. Shape and block sizes stand in a small JSON text beside the codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from homolog.checkpoint.base import Array
from homolog.checkpoint.quant.bits import unpack_nibbles
from homolog.checkpoint.quant.layout import Layout, check_scales
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.survey import Survey

__all__ = ["find_blocks4"]

_STATES = ("bitsandbytes__nf4", "bitsandbytes__fp4")
_MOST_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class _Nested:
    """How scales that are quantised themselves are kept."""

    absmax: str
    table: str
    block: int
    offset: float


@dataclass(frozen=True, slots=True)
class _Blocks4(Layout):
    table: str
    block: int
    nested: _Nested | None

    def decode(self, reader: RawReader, start: int, stop: int) -> Array:
        """Rows ``start:stop``; the bytes and scales that they share with their neighbours are read too."""
        columns = self.shape[-1]
        first, last = start * columns, stop * columns
        codes_name, absmax_name = self.parts[0], self.parts[1]
        packed = reader.rows(codes_name, first // 2, -(-last // 2)).reshape(-1).view(np.uint8)
        codes = unpack_nibbles(packed, high_first=True)[first % 2 :][: last - first]
        values = self._table(reader, self.table, 16)[codes]
        low = first // self.block
        absmax = self._absmax(reader, absmax_name, low, -(-last // self.block))
        scale = absmax[np.arange(first, last) // self.block - low]
        check_scales(reader, absmax_name, values, absmax, scale)
        return np.asarray((values * scale).reshape(stop - start, columns), dtype=np.float32)

    def _absmax(self, reader: RawReader, name: str, low: int, high: int) -> Array:
        stored = reader.rows(name, low, high).reshape(-1)
        if self.nested is None:
            return np.asarray(stored, dtype=np.float32)
        nested = self.nested
        first = low // nested.block
        outer = reader.numbers(nested.absmax, first, -(-high // nested.block)).reshape(-1)
        scale = outer[np.arange(low, high) // nested.block - first]
        inner = self._table(reader, nested.table, 256)[stored.view(np.uint8)] * scale
        return np.asarray(inner + np.float32(nested.offset), dtype=np.float32)

    @staticmethod
    def _table(reader: RawReader, name: str, length: int) -> Array:
        table = np.asarray(reader.whole(name), dtype=np.float32)
        if len(table) != length or not np.isfinite(table).all():
            raise reader.fail(name, f"{len(table)} numbers, or some that are not finite", f"{length} finite numbers")
        return table


def find_blocks4(survey: Survey) -> Iterator[Layout]:
    """Every matrix of bitsandbytes' four-bit formats.

    Raises ``MalformedCheckpoint`` where codes, scales and the stored settings do not fit each other.
    """
    for state in _STATES:
        for place in survey.places(state):
            if place.endswith(".quant_state.") and survey.get(place.removesuffix(".quant_state.")) is not None:
                yield _blocks4(survey, place.removesuffix(".quant_state."), place + state)


def _blocks4(survey: Survey, name: str, state_name: str) -> Layout:
    codes, absmax_name, table = survey.tensors[name], f"{name}.absmax", f"{name}.quant_map"
    for needed in (absmax_name, table):
        if survey.get(needed) is None:
            raise survey.missing(needed, name)
    absmax = survey.tensors[absmax_name]
    # matrices with as many codes may differ in shape: what they do in a layer tells those apart
    state = _parse(survey, state_name, codes.shape, absmax.shape, _without_numbers(name))
    shape, block = _shape(survey, state_name, state), state.get("blocksize")
    numbers = shape[0] * shape[1]
    if codes.dtype not in ("U8", "I8") or codes.size != codes.shape[0] or codes.size * 2 not in (numbers, numbers + 1):
        found = f"{codes.dtype} of shape {list(codes.shape)}"
        raise survey.fail(name, found, f"{(numbers + 1) // 2} bytes for {shape[0]} × {shape[1]} codes of 4 bits")
    if type(block) is not int or not 0 < block <= _MOST_BLOCK or absmax.shape != (-(-numbers // block),):
        found = f"shape {list(absmax.shape)} for blocks of {block!r}"
        raise survey.fail(absmax_name, found, f"a scale for every block of {numbers} codes")
    nested = _nested(survey, name, state, absmax.size) if "nested_offset" in state else None
    if (absmax.dtype in ("U8", "I8")) != (nested is not None):
        raise survey.fail(absmax_name, absmax.dtype, "U8" if nested else "F32, or nested scales beside it")
    kind = "nf4" if state_name.endswith("nf4") else "fp4"
    twice = ", themselves in 8 bits" if nested else ""
    return _Blocks4(
        name=name,
        shape=shape,
        parts=(name, absmax_name, table, state_name, *((nested.absmax, nested.table) if nested else ())),
        method="bitsandbytes",
        lattice=f"{kind}, a scale for every {block} numbers{twice}",
        table=table,
        block=block,
        nested=nested,
    )


def _parse(survey: Survey, name: str, *alike: object) -> Mapping[str, Any]:
    text = survey.note(name, *alike).astype(np.uint8).tobytes()
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise survey.fail(name, f"no JSON ({error.__class__.__name__})", "a JSON object of settings") from error
    if not isinstance(state, dict):
        raise survey.fail(name, f"a JSON {type(state).__name__}", "a JSON object of settings")
    return state


def _shape(survey: Survey, name: str, state: Mapping[str, Any]) -> tuple[int, int]:
    shape = state.get("shape")
    if isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and 0 < side <= 1 << 40 for side in shape):
        return (shape[0], shape[1])
    raise survey.fail(name, f"the shape {str(shape)[:80]}", "two whole numbers above 0")


def _nested(survey: Survey, name: str, state: Mapping[str, Any], blocks: int) -> _Nested:
    absmax, table = f"{name}.nested_absmax", f"{name}.nested_quant_map"
    for needed in (absmax, table):
        if survey.get(needed) is None:
            raise survey.missing(needed, name)
    block, offset = state.get("nested_blocksize"), state.get("nested_offset")
    found = survey.tensors[absmax]
    if type(block) is not int or not 0 < block <= _MOST_BLOCK or found.shape != (-(-blocks // block),):
        expected = f"a scale for every block of {blocks} scales"
        raise survey.fail(absmax, f"shape {list(found.shape)} for blocks of {block!r}", expected)
    if not isinstance(offset, float | int) or isinstance(offset, bool) or not isfinite(offset):
        raise survey.fail(absmax, f"the offset {str(offset)[:40]}", "a finite number")
    return _Nested(absmax, table, block, float(offset))


def _without_numbers(name: str) -> tuple[str, ...]:
    return tuple(segment for segment in name.split(".") if not segment.isdigit())
