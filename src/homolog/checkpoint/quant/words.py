"""Codes of any few bits, packed along each row into 32-bit words: compressed-tensors (``weight_packed``) and MLX.

A row of the matrix is a row of words, so that rows are read without their neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array, TensorInfo
from homolog.checkpoint.quant.bits import E2M1, E4M3, unpack_words
from homolog.checkpoint.quant.layout import Affine, CodeRows, Grid, Layout, ZeroRows, describe_block
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.scaled import place_grid
from homolog.checkpoint.quant.survey import Survey

__all__ = ["WordCodes", "find_mlx", "find_packed"]

_WORDS = ("I32", "U32")
_MLX_FLOATS = {(4, 32): ("mxfp4", E2M1, "e8m0"), (4, 16): ("nvfp4", E2M1, "e4m3"), (8, 32): ("mxfp8", E4M3, "e8m0")}
"""By bits and group size: kind, values of the codes, and what the bytes of the scales mean."""


@dataclass(frozen=True, slots=True)
class WordCodes(CodeRows):
    """Codes packed along the row."""

    name: str
    bits: int
    columns: int
    lead: int = 1
    below: int = 0
    """What is stored for the code 0."""
    table: Array | None = None
    """The value of each code, where codes are not numbers themselves."""

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The rows, unpacked."""
        codes = unpack_words(reader.rows(self.name, start, stop, self.lead), self.bits, self.columns)
        if self.table is not None:
            return np.asarray(self.table[codes], dtype=np.float32)
        return codes.astype(np.float32) - np.float32(self.below)


@dataclass(frozen=True, slots=True)
class _PackedZeros(ZeroRows):
    """Zeros packed along the rows of the matrix: a word holds those of several rows."""

    name: str
    bits: int
    rows: int
    """Of the matrix, within one block of a stack."""
    height: int
    """Rows of words in one block."""
    lead: int = 1

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The zeros of the rows, one column a group."""
        parts = []
        while start < stop:
            block, row = divmod(start, self.rows)
            last = min(stop - block * self.rows, self.rows)
            parts.append(self._within(reader, block, row, last))
            start = block * self.rows + last
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def _within(self, reader: RawReader, block: int, start: int, stop: int) -> Array:
        first = start * self.bits // 32
        last = min(-(-stop * self.bits // 32), self.height)
        # words are cut where a code may begin in one and end in the next
        first -= first % self.bits if 32 % self.bits else 0
        base = block * self.height
        words = reader.rows(self.name, base + first, base + last, self.lead)
        skipped = first * 32 // self.bits
        codes = unpack_words(np.ascontiguousarray(words.T), self.bits, stop - skipped)
        return np.asarray(codes[:, start - skipped :].T, dtype=np.float32) - np.float32(1 << (self.bits - 1))


def find_packed(survey: Survey) -> Iterator[Layout]:
    """Matrices of compressed-tensors' ``pack-quantized``.

    Raises ``MalformedCheckpoint`` for words, scales, zeros or groups that do not fit each other, and for zeros that are missing.
    """
    for leaf in survey.leaves():
        if leaf.endswith("_packed"):
            stem = leaf.removesuffix("_packed")
            for place in survey.places(leaf):
                if survey.tensors[place + leaf].dtype in _WORDS and survey.get(f"{place}{stem}_shape") is not None:
                    yield _packed(survey, place + stem)


def _packed(survey: Survey, name: str) -> Layout:
    words_name, shape_name, scale_name = f"{name}_packed", f"{name}_shape", f"{name}_scale"
    if survey.get(scale_name) is None:
        raise survey.missing(scale_name, words_name)
    words = survey.matrix(words_name)
    columns = _columns(survey, shape_name, words)
    bits = _bits_of(survey, words_name, words.shape[-1], columns)
    info = TensorInfo(name, (*words.shape[:-1], columns), "F32", 0)
    scale = place_grid(survey, scale_name, info)
    parts = [words_name, shape_name, scale_name]
    groups_name = f"{name}_g_idx"
    if survey.get(groups_name) is not None:
        found = survey.tensors[groups_name]
        if found.shape != (columns,) or found.dtype not in ("I32", "I64"):
            raise survey.fail(groups_name, f"{found.dtype} of shape {list(found.shape)}", f"{columns} whole numbers")
        scale = Grid(scale.name, scale.shape, scale.block, scale.matrix, scale.lead, column_groups=groups_name)
        parts.append(groups_name)
    zero = _zeros(survey, name, info, scale, bits, parts)
    return Affine(
        name=name,
        shape=info.shape,
        parts=tuple(parts),
        method="compressed-tensors",
        lattice=f"int{bits}, {describe_block(scale.block, scale.matrix)}",
        codes=WordCodes(words_name, bits, columns, len(words.shape) - 1, 1 << (bits - 1)),
        scale=scale,
        zero=zero,
    )


def _columns(survey: Survey, shape_name: str, words: TensorInfo) -> int:
    noted = survey.note(shape_name, words.shape).astype(np.int64).tolist()
    if len(noted) != len(words.shape) or tuple(noted[:-1]) != words.shape[:-1] or not 0 < noted[-1] <= 1 << 40:
        raise survey.fail(shape_name, f"the shape {noted[:4]}", f"one that agrees with the packed {list(words.shape)}")
    return int(noted[-1])


def _bits_of(survey: Survey, name: str, width: int, columns: int) -> int:
    fitting = [bits for bits in range(1, 9) if -(-columns * bits // 32) == width]
    if not fitting:
        found = f"{width} words a row"
        raise survey.fail(
            name, found, f"{columns} codes of 1 to 8 bits: {-(-columns // 32)} to {-(-columns // 4)} words"
        )
    return survey.hints.bits if survey.hints.bits in fitting else fitting[-1]


def _zeros(
    survey: Survey, name: str, info: TensorInfo, scale: Grid, bits: int, parts: list[str]
) -> Grid | ZeroRows | None:
    zero_name = f"{name}_zero_point"
    found = survey.get(zero_name)
    if found is None:
        if survey.hints.symmetric is False:
            raise survey.missing(zero_name, f"{name}_packed")
        return None
    parts.append(zero_name)
    if found.dtype not in _WORDS:
        return place_grid(survey, zero_name, info, scale.block)
    height = -(-scale.shape[0] * bits // 32)
    expected = (*info.shape[:-2], height, scale.shape[1])
    if found.shape != expected or scale.shape[0] != info.shape[-2]:
        raise survey.fail(zero_name, f"shape {list(found.shape)}", f"{list(expected)}: {bits} bits for every scale")
    return _PackedZeros(zero_name, bits, info.shape[-2], height, len(info.shape) - 1)


def find_mlx(survey: Survey) -> Iterator[Layout]:
    """Matrices of MLX: words under ``weight``, with ``scales``, and ``biases`` in its affine mode.

    Raises ``MalformedCheckpoint`` for scales that do not fit the words, and where offsets are missing.
    """
    for place in survey.places("scales"):
        words = survey.get(place + "weight")
        if words is not None and words.dtype == "U32":
            yield _mlx(survey, place)


def _mlx(survey: Survey, place: str) -> Layout:
    words_name, scale_name, bias_name = place + "weight", place + "scales", place + "biases"
    words, scales = survey.matrix(words_name), survey.tensors[scale_name]
    if len(scales.shape) != len(words.shape) or scales.shape[:-1] != words.shape[:-1] or 0 in scales.shape:
        expected = f"{' × '.join(map(str, words.shape[:-1]))} rows of scales, as many as of words"
        raise survey.fail(scale_name, f"shape {list(scales.shape)}", expected)
    bits, group = _mlx_settings(survey, place, words, scales)
    columns = group * scales.shape[-1]
    info = TensorInfo(place + "weight", (*words.shape[:-1], columns), "F32", 0)
    affine = scales.dtype != "U8"
    if affine and survey.get(bias_name) is None:
        raise survey.missing(bias_name, words_name)
    kind, table, spelling = f"int{bits}", None, ""
    if not affine:
        if (bits, group) not in _MLX_FLOATS:
            found = f"{bits} bits in groups of {group}, with scales in bytes"
            raise survey.fail(words_name, found, "floats of 4 or 8 bits in groups of 32, or of 4 bits in groups of 16")
        kind, table, spelling = _MLX_FLOATS[bits, group]
    scale = place_grid(survey, scale_name, info, (1, group), spelling)
    offset = place_grid(survey, bias_name, info, (1, group)) if affine else None
    return Affine(
        name=place + "weight",
        shape=info.shape,
        parts=(words_name, scale_name, *((bias_name,) if affine else ())),
        method="mlx",
        lattice=f"{kind}, {describe_block(scale.block, scale.matrix)}",
        codes=WordCodes(words_name, bits, columns, len(words.shape) - 1, table=table),
        scale=scale,
        offset=offset,
    )


def _mlx_settings(survey: Survey, place: str, words: TensorInfo, scales: TensorInfo) -> tuple[int, int]:
    """Bits and group size: the words give their product, config.json the rest; tensors are believed before it."""
    product, rest = divmod(32 * words.shape[-1], scales.shape[-1])
    own = survey.hints.overrides.get(place.removesuffix("."))
    own = own if isinstance(own, Mapping) else {}
    stated = [(own.get("bits"), own.get("group_size")), (survey.hints.bits, survey.hints.group)]
    common = [(bits, group) for group in (64, 32, 128, 16) for bits in (4, 8, 6, 3, 2, 5)]
    for bits, group in (*stated, *common):
        if (
            type(bits) is int
            and type(group) is int
            and not rest
            and 0 < bits <= 8
            and group > 0
            and bits * group == product
        ):
            return bits, group
    expected = f"groups of 16 to 128 codes of 2 to 8 bits that fill {words.shape[-1]} words a row"
    raise survey.fail(scales.name, f"{scales.shape[-1]} scales a row", expected)
