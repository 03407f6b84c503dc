"""One stored number for each number of the matrix, eight bits wide, under a grid of scales.

DeepSeek's block FP8 (``weight_scale_inv``, which despite its name multiplies), FP8 with one scale a tensor or a row (compressed-tensors,
FBGEMM, NVIDIA's modelopt, AutoFP8), int8 of compressed-tensors, MXFP8, bitsandbytes' int8 (``SCB``), and the tensors that torchao and
quanto write: they differ in names and in the grid alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from homolog.checkpoint.base import Array, TensorInfo
from homolog.checkpoint.quant.layout import Affine, CodeRows, Grid, Layout, describe_block
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.survey import Survey, share_evenly

__all__ = ["PlainCodes", "find_scaled", "place_grid"]

_CODES = {
    "F8_E4M3": "fp8 (E4M3)",
    "F8_E5M2": "fp8 (E5M2)",
    "F8_E4M3FNUZ": "fp8 (E4M3FNUZ)",
    "F8_E5M2FNUZ": "fp8 (E5M2FNUZ)",
    "I8": "int8",
}
_COMMON_BLOCKS = (128, 64, 32, 16)


@dataclass(frozen=True, slots=True)
class PlainCodes(CodeRows):
    """Each number in a place of its own."""

    name: str
    lead: int = 1

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The rows as they are stored."""
        return reader.numbers(self.name, start, stop, self.lead)


@dataclass(frozen=True, slots=True)
class _Spelling:
    """How one tool names the codes and their scale."""

    scale: str
    codes: str
    name: str
    zero: str
    method: str
    factor: float = 1.0


def find_scaled(survey: Survey) -> Iterator[Layout]:
    """Every matrix of eight-bit codes that has its scales beside it.

    Raises ``MalformedCheckpoint`` for scales of a shape that cannot cover the matrix, and for zeros that are promised and missing.
    """
    for spelling in _spellings(survey):
        for place in survey.places(spelling.scale):
            codes = survey.get(place + spelling.codes)
            if codes is not None and codes.dtype in _CODES:
                yield _scaled(survey, place, spelling)


def _spellings(survey: Survey) -> Iterator[_Spelling]:
    yield _Spelling("SCB", "weight", "weight", "", "bitsandbytes", 1 / 127)
    for leaf in survey.leaves():
        if leaf.startswith("_") and leaf.endswith("_scale") and len(leaf) > 7:
            stem = leaf[:-6]
            yield _Spelling(leaf, f"{stem}_qdata", stem[1:], f"{stem}_zero_point", "torchao")
        elif leaf.endswith(("_scale_inv", "_scale")) and leaf != "_scale":
            stem = leaf.removesuffix("_inv").removesuffix("_scale")
            yield _Spelling(leaf, stem, stem, f"{stem}_zero_point", "fp8" if leaf.endswith("_inv") else "")
    yield _Spelling("scale", "weight", "weight", "", "fp8")
    yield _Spelling("_scale", "_data", "", "", "quanto")


def _scaled(survey: Survey, place: str, spelling: _Spelling) -> Layout:
    codes_name, scale_name = place + spelling.codes, place + spelling.scale
    info = survey.matrix(codes_name)
    scale = place_grid(survey, scale_name, info)
    parts = [codes_name, scale_name]
    zero_name = place + spelling.zero if spelling.zero else ""
    zero = None
    if zero_name and survey.get(zero_name) is not None:
        zero = place_grid(survey, zero_name, info)
        if (zero.shape, zero.block) != (scale.shape, scale.block):
            expected = f"the shape {list(survey.tensors[scale_name].shape)} of its scales"
            raise survey.fail(zero_name, f"shape {list(survey.tensors[zero_name].shape)}", expected)
        parts.append(zero_name)
    elif zero_name and survey.hints.symmetric is False and info.dtype == "I8" and spelling.method == "":
        raise survey.missing(zero_name, codes_name)
    kind = _CODES[info.dtype]
    return Affine(
        name=place.removesuffix(".") if not spelling.name else place + spelling.name,
        shape=info.shape,
        parts=tuple(parts),
        method=spelling.method or ("compressed-tensors" if info.dtype == "I8" else "fp8"),
        lattice=f"{kind}, {describe_block(scale.block, scale.matrix)}",
        codes=PlainCodes(codes_name, len(info.shape) - 1),
        scale=scale,
        zero=zero,
        factor=spelling.factor,
    )


def place_grid(
    survey: Survey, name: str, over: TensorInfo, block: tuple[int, int] | None = None, spelling: str = "e8m0"
) -> Grid:
    """How the numbers of ``name`` lie over a matrix, or over each of a stack; ``block`` where the format settles it.

    ``spelling`` is what plain bytes mean, if it stores such.

    Raises ``MalformedCheckpoint`` where they cannot cover it.
    """
    info = survey.tensors[name]
    matrix = (over.shape[-2], over.shape[-1])
    stack = over.shape[:-2]
    shape = _grid_shape(info.shape, stack, matrix)
    if shape is not None and info.dtype.startswith(("F", "BF", "I8", "U8")):
        sides = (0, 0) if block is None else block
        hints = survey.hints
        rows = sides[0] or share_evenly(matrix[0], shape[0], (hints.block[0], *_COMMON_BLOCKS))
        columns = sides[1] or share_evenly(matrix[1], shape[1], (hints.block[1], hints.group, *_COMMON_BLOCKS))
        if rows and columns and all(-(-m // b) == s for m, b, s in zip(matrix, (rows, columns), shape, strict=True)):
            # one number for a whole stack is read by every block of it
            lead = len(stack) + 1 if info.size > 1 or not stack else 1
            whole = (over.size // matrix[1], matrix[1]) if stack and info.size == 1 else matrix
            fitted = (whole[0], columns) if whole != matrix else (rows, columns)
            return Grid(
                name, shape, fitted, whole, min(lead, max(len(info.shape), 1)), spelling if info.dtype == "U8" else ""
            )
    covers = " × ".join(str(length) for length in over.shape)
    found = f"{info.dtype} of shape {list(info.shape)}"
    raise survey.fail(name, found, f"numbers in a shape that covers {over.name}, which has {covers}")


def _grid_shape(shape: tuple[int, ...], stack: tuple[int, ...], matrix: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns of the grid within one block; ``None`` where the shape fits no reading."""
    count = 1
    for length in shape:
        count *= length
    if count == 1:
        return (1, 1)
    if stack and count == stack[0]:
        return (1, 1)
    if shape[: len(stack)] == stack:
        shape = shape[len(stack) :]
    elif stack:
        return None
    if len(shape) == 1:
        return (shape[0], 1) if shape[0] == matrix[0] else None
    return (shape[0], shape[1]) if len(shape) == 2 and 0 not in shape else None
