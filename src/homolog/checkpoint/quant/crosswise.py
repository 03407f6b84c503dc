"""GPTQ and AWQ: codes of input × output, so that a unit is a column and words hold several inputs (GPTQ) or several outputs (AWQ).

A unit cannot be read alone: the words of one unit lie a whole row of outputs apart. These matrices are therefore offered as they lie,
input × output and marked as transposed, and the stages that follow read a slab of residual channels of all units instead, in one range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from homolog.checkpoint.base import Array, TensorInfo
from homolog.checkpoint.quant.bits import unpack_words
from homolog.checkpoint.quant.layout import Affine, CodeRows, Grid, Layout, ZeroRows
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.survey import Survey, share_evenly
from homolog.errors import UnsupportedFormat

__all__ = ["find_crosswise"]

_FLOATS = ("F16", "BF16", "F32")
_AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Where in its word each of eight outputs lies (AutoAWQ, ``awq/utils/packing_utils.py``: ``AWQ_REVERSE_ORDER``)."""
_COMMON_GROUPS = (128, 64, 32)


@dataclass(frozen=True, slots=True)
class _InputWords(CodeRows):
    """GPTQ: words along the inputs, which are the stored rows."""

    name: str
    bits: int

    @property
    def step(self) -> int:  # type: ignore[override]
        """Inputs that fill whole words."""
        return 32 // self.bits if 32 % self.bits == 0 else 32

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The codes of some inputs and all outputs."""
        first, last = start * self.bits // 32, -(-stop * self.bits // 32)
        words = reader.rows(self.name, first, last)
        codes = unpack_words(np.ascontiguousarray(words.T), self.bits, stop - start)
        return np.asarray(codes.T, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _OutputWords(CodeRows):
    """AWQ: words along the outputs, eight of them in an order of their own."""

    name: str

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The codes of some inputs and all outputs."""
        return np.asarray(_in_awq_order(reader.rows(self.name, start, stop)), dtype=np.float32)


@dataclass(frozen=True, slots=True)
class _Zeros(ZeroRows):
    """Packed zeros, a row of words for every group of inputs."""

    grid: Grid
    bits: int
    outputs: int
    awq: bool
    less_one: bool
    """Whether one less than the zero is stored (GPTQ before ``gptq_v2``); it wraps around as the codes do."""

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The zeros of the groups that some inputs belong to."""
        place = self.grid.rows_of(reader, start, stop)
        first, last = int(place.min()), int(place.max()) + 1
        words = reader.rows(self.grid.name, first, last)
        zeros = _in_awq_order(words) if self.awq else unpack_words(words, self.bits, self.outputs)
        if self.less_one:
            zeros = (zeros + np.uint8(1)) & np.uint8((1 << self.bits) - 1)
        return np.asarray(zeros, dtype=np.float32)[place - first]


def _in_awq_order(words: np.ndarray) -> np.ndarray:
    codes = unpack_words(words, 4, words.shape[1] * 8)
    return codes.reshape(len(words), -1, 8)[:, :, _AWQ_ORDER].reshape(len(words), -1)


def find_crosswise(survey: Survey) -> Iterator[Layout]:
    """Matrices of GPTQ (2, 3, 4 or 8 bits) and of AWQ (4 bits, the order of GEMM).

    Raises ``MalformedCheckpoint`` for words, scales, zeros or groups that do not fit each other, ``UnsupportedFormat`` for AWQ's other
    orders.
    """
    for place in survey.places("qweight"):
        yield _crosswise(survey, place)


def _crosswise(survey: Survey, place: str) -> Layout:
    name = place + "qweight"
    words = survey.matrix(name, 2)
    for needed in ("scales", "qzeros"):
        if survey.get(place + needed) is None:
            raise survey.missing(place + needed, name)
    scales, zeros = survey.tensors[place + "scales"], survey.tensors[place + "qzeros"]
    if words.dtype != "I32" or zeros.dtype != "I32" or scales.dtype not in _FLOATS or len(scales.shape) != 2:
        found = f"{words.dtype} words, {zeros.dtype} zeros and {scales.dtype} scales of shape {list(scales.shape)}"
        raise survey.fail(name, found, "I32 words, I32 zeros, and a matrix of scales")
    groups, outputs = scales.shape
    if words.shape[1] == outputs and groups:
        return _gptq(survey, place, words, zeros, (groups, outputs))
    if words.shape[1] * 8 == outputs and groups:
        return _awq(survey, place, words, zeros, (groups, outputs))
    if survey.hints.version.startswith("gemv") or survey.hints.version == "marlin":
        at, expected = f"tensor {name}", "the order of GEMM"
        path = survey.locate(name)
        raise UnsupportedFormat(
            path, at=at, found=f"AWQ words in the order of {survey.hints.version}", expected=expected
        )
    expected = f"{outputs} words a row (GPTQ) or {outputs / 8:g} (AWQ), as its {outputs} outputs need"
    raise survey.fail(name, f"shape {list(words.shape)}", expected)


def _gptq(survey: Survey, place: str, words: TensorInfo, zeros: TensorInfo, shape: tuple[int, int]) -> Layout:
    groups, outputs = shape
    bits, rest = divmod(32 * zeros.shape[1], outputs) if len(zeros.shape) == 2 else (0, 1)
    if rest or bits not in (2, 3, 4, 8) or zeros.shape[0] != groups:
        expected = f"{groups} rows of {outputs} zeros of 2, 3, 4 or 8 bits"
        raise survey.fail(zeros.name, f"shape {list(zeros.shape)}", expected)
    inputs, rest = divmod(32 * words.shape[0], bits)
    if rest:
        raise survey.fail(words.name, f"{words.shape[0]} rows of words", f"a number that {bits}-bit codes fill")
    indices = survey.get(place + "g_idx")
    group = share_evenly(inputs, groups, (survey.hints.group, *_COMMON_GROUPS))
    if indices is not None and (indices.shape != (inputs,) or indices.dtype not in ("I32", "I64")):
        found = f"{indices.dtype} of shape {list(indices.shape)}"
        raise survey.fail(indices.name, found, f"{inputs} whole numbers, one for each input")
    if indices is None and not group:
        raise survey.fail(place + "scales", f"{groups} groups", f"a number of groups that {inputs} inputs fill")
    row_groups = indices.name if indices is not None else ""
    grid = Grid(place + "scales", shape, (group, 1), (inputs, outputs), row_groups=row_groups)
    zero_grid = Grid(place + "qzeros", shape, (group, 1), (inputs, outputs), row_groups=row_groups)
    return Affine(
        name=place + "weight",
        shape=(inputs, outputs),
        parts=(words.name, zeros.name, grid.name, *((row_groups,) if row_groups else ())),
        method="gptq",
        lattice=f"int{bits}, {_describe_groups(inputs, groups)}",
        transposed=True,
        codes=_InputWords(words.name, bits),
        scale=grid,
        zero=_Zeros(zero_grid, bits, outputs, awq=False, less_one=survey.hints.version != "gptq_v2"),
    )


def _awq(survey: Survey, place: str, words: TensorInfo, zeros: TensorInfo, shape: tuple[int, int]) -> Layout:
    groups, outputs = shape
    inputs = words.shape[0]
    if zeros.shape != (groups, outputs // 8):
        raise survey.fail(zeros.name, f"shape {list(zeros.shape)}", f"{[groups, outputs // 8]}: a zero for every scale")
    group = share_evenly(inputs, groups, (survey.hints.group, *_COMMON_GROUPS))
    if not group:
        raise survey.fail(place + "scales", f"{groups} groups", f"a number of groups that {inputs} inputs fill")
    matrix = (inputs, outputs)
    return Affine(
        name=place + "weight",
        shape=matrix,
        parts=(words.name, zeros.name, place + "scales"),
        method="awq",
        lattice=f"int4, {_describe_groups(inputs, groups)}",
        transposed=True,
        codes=_OutputWords(words.name),
        scale=Grid(place + "scales", shape, (group, 1), matrix),
        zero=_Zeros(Grid(place + "qzeros", shape, (group, 1), matrix), 4, outputs, awq=True, less_one=False),
    )


def _describe_groups(inputs: int, groups: int) -> str:
    return "a scale for every row" if groups == 1 else f"a scale for every {inputs // groups} numbers"
