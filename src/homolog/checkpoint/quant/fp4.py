"""Four-bit floats (E2M1), two in a byte, the low half first: MXFP4 and NVFP4, as gpt-oss, modelopt and compressed-tensors store them.

MXFP4 has a power of two (E8M0) for every 32 numbers; NVFP4 an FP8 scale for every 16, and one number over all of them, by which modelopt
multiplies (``weight_scale_2``) and compressed-tensors divides (``weight_global_scale``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from homolog.checkpoint.base import Array, TensorInfo
from homolog.checkpoint.quant.bits import E2M1, unpack_nibbles
from homolog.checkpoint.quant.layout import Affine, CodeRows, Grid, Layout
from homolog.checkpoint.quant.raw import RawReader
from homolog.checkpoint.quant.scaled import place_grid
from homolog.checkpoint.quant.survey import Survey

__all__ = ["find_fp4"]

_PACKED = ("U8", "I8", "F4")


@dataclass(frozen=True, slots=True)
class _HalfBytes(CodeRows):
    """Two codes a byte, along the row."""

    name: str
    lead: int

    def read(self, reader: RawReader, start: int, stop: int) -> Array:
        """The values of the rows' codes."""
        packed = reader.rows(self.name, start, stop, self.lead).view(np.uint8)
        return np.asarray(E2M1[unpack_nibbles(packed)], dtype=np.float32)


def find_fp4(survey: Survey) -> Iterator[Layout]:
    """Every matrix of four-bit floats.

    Raises ``MalformedCheckpoint`` for scales that do not fit the codes, and for a scale of all that is missing.
    """
    for leaf in survey.leaves():
        if leaf == "blocks" or leaf.endswith("_blocks"):
            stem = leaf.removesuffix("blocks")
            for place in survey.places(leaf):
                if survey.get(f"{place}{stem}scales") is not None and survey.tensors[place + leaf].dtype == "U8":
                    yield _gpt_oss(survey, place + stem)
        elif leaf == "scale" or leaf.endswith(("_scale", "_scale_inv")):
            stem = leaf.removesuffix("_inv").removesuffix("scale").removesuffix("_") or "weight"
            for place in survey.places(leaf):
                packed = survey.get(f"{place}{stem}_packed") or survey.get(place + stem)
                if packed is not None and _holds_pairs(packed, survey.tensors[place + leaf]):
                    yield _fp4(survey, place + stem, packed, place + leaf)


def _holds_pairs(packed: TensorInfo, scale: TensorInfo) -> bool:
    """Whether bytes hold two codes each. Signed bytes may as well be int8: they are pairs if powers of two stand over every 16 of them."""
    if packed.dtype == "I8":
        return scale.dtype == "F8_E8M0" and scale.shape == (*packed.shape[:-1], packed.shape[-1] // 16)
    return packed.dtype == "U8"


def _gpt_oss(survey: Survey, stem: str) -> Layout:
    blocks, scales = survey.tensors[f"{stem}blocks"], survey.tensors[f"{stem}scales"]
    shape = blocks.shape
    if len(shape) < 3 or 0 in shape or shape[-1] != 16:
        expected = "blocks of 16 bytes, as the last of at least three axes"
        raise survey.fail(blocks.name, f"shape {list(shape)}", expected)
    if scales.shape != shape[:-1] or scales.dtype != "U8":
        found = f"{scales.dtype} of shape {list(scales.shape)}"
        raise survey.fail(scales.name, found, f"U8 of shape {list(shape[:-1])}: a scale for every block")
    lead = len(shape) - 2
    matrix = (shape[-3], 32 * shape[-2])
    return Affine(
        name=stem.removesuffix("_").removesuffix("."),
        shape=(*shape[:-2], matrix[1]),
        parts=(blocks.name, scales.name),
        method="mxfp4",
        lattice="mxfp4, a scale for every 32 numbers",
        transposed=True,
        codes=_HalfBytes(blocks.name, lead),
        scale=Grid(scales.name, (matrix[0], shape[-2]), (1, 32), matrix, lead, spelling="e8m0"),
    )


def _fp4(survey: Survey, name: str, packed: TensorInfo, scale_name: str) -> Layout:
    survey.matrix(packed.name)
    info = TensorInfo(name, (*packed.shape[:-1], 2 * packed.shape[-1]), "F32", 0)
    stored = survey.tensors[scale_name]
    micro = stored.dtype in ("U8", "F8_E8M0")
    group = 32 if micro else 16
    groups = -(-info.shape[-1] // group)
    if stored.shape != (*info.shape[:-1], groups) or not (micro or stored.dtype == "F8_E4M3"):
        expected = (
            f"{'U8' if micro else 'F8_E4M3'} of shape {[*info.shape[:-1], groups]}: a scale for every {group} numbers"
        )
        raise survey.fail(scale_name, f"{stored.dtype} of shape {list(stored.shape)}", expected)
    parts = [packed.name, scale_name]
    overall, divide = "", False
    if not micro:
        overall = next(
            (other for end in ("_scale_2", "_global_scale") if survey.get(other := name + end) is not None), ""
        )
        if not overall:
            raise survey.missing(f"{name}_scale_2", packed.name)
        divide = overall.endswith("_global_scale")
        count, allowed = survey.tensors[overall].size, {1, prod(info.shape[:-2])}
        if count not in allowed or not survey.tensors[overall].dtype.startswith(("F", "BF")):
            raise survey.fail(overall, f"{count} numbers", "one number for the whole tensor, or for each of a stack")
        parts.append(overall)
    return Affine(
        name=info.name,
        shape=info.shape,
        parts=tuple(parts),
        method="compressed-tensors" if packed.name.endswith("_packed") else "modelopt",
        lattice=f"{'mxfp4' if micro else 'nvfp4'}, a scale for every {group} numbers",
        codes=_HalfBytes(packed.name, len(packed.shape) - 1),
        scale=place_grid(survey, scale_name, info, (1, group)),
        overall=overall,
        divide=divide,
    )
