"""Quantises whole models with numpy, in the layouts that the libraries store: round to nearest, no calibration.

The layouts are those that ``test_against_references.py`` holds against the libraries themselves; here they carry a trained model.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from tests.checkpoint.writers import AnyArray, encode_safetensors

from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint

__all__ = ["FORMATS", "quantise_folder"]

Parts = dict[str, AnyArray]
Format = tuple[dict[str, Any], Callable[[str, Array], Parts]]

_E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)
_NF4 = np.array(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ],
    dtype=np.float32,
)


def quantise_folder(source: Path, folder: Path, form: str) -> Path:
    """A copy of a model's folder whose projections (with MLX the embeddings too) are quantised."""
    config, quantise = FORMATS[form]
    folder.mkdir(parents=True)
    for side in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / side, folder / side)
    stored: Parts = {}
    with open_checkpoint(source) as checkpoint:
        for name in checkpoint.tensors:
            tensor = checkpoint.read_rows(name)
            inside = "_proj." in name or (form.startswith("mlx") and tensor.ndim == 2)
            stored |= quantise(name, tensor) if inside else {name: tensor.astype(ml_dtypes.bfloat16)}
        settings = {**checkpoint.config, **config}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "model.safetensors").write_bytes(encode_safetensors(stored))
    return folder


def pack(codes: AnyArray, bits: int) -> AnyArray:
    """Codes along the last axis into 32-bit words, from the lowest bit upwards."""
    rows, count = codes.shape
    single = (codes.astype(np.uint8)[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1
    flat = np.zeros((rows, -(-count * bits // 32) * 32), dtype=np.uint8)
    flat[:, : count * bits] = single.reshape(rows, -1)
    return np.packbits(flat, axis=1, bitorder="little").view("<u4")


def _groups(matrix: Array, size: int) -> Array:
    return matrix.reshape(matrix.shape[0], -1, size)


def _symmetric(matrix: Array, size: int, top: int) -> tuple[AnyArray, Array]:
    """Codes from −top to top and a scale for every group."""
    blocks = _groups(matrix, size)
    scale = np.maximum(np.abs(blocks).max(2) / top, 1e-8)
    return np.clip(np.rint(blocks / scale[:, :, None]), -top - 1, top).reshape(matrix.shape), scale


def _asymmetric(matrix: Array, size: int, top: int) -> tuple[AnyArray, Array, Array]:
    """Codes from 0 to top, a scale and a whole zero for every group; zeros are at least 1, as GPTQ's layout wants them."""
    blocks = _groups(matrix, size)
    low, high = np.minimum(blocks.min(2), 0), np.maximum(blocks.max(2), 0)
    scale = np.maximum((high - low) / top, 1e-6).astype(np.float16).astype(np.float32)
    zero = np.clip(np.rint(-low / scale), 1, top)
    codes = np.clip(np.rint(blocks / scale[:, :, None] + zero[:, :, None]), 0, top)
    return codes.reshape(matrix.shape), scale, zero


def _module(name: str) -> str:
    return name.removesuffix("weight")


def fp8_block(name: str, matrix: Array) -> Parts:
    rows, columns = (-(-side // 32) for side in matrix.shape)
    scale = np.empty((rows, columns), dtype=np.float32)
    codes = np.empty(matrix.shape, dtype=ml_dtypes.float8_e4m3fn)
    for i in range(rows):
        for j in range(columns):
            here = np.s_[32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
            scale[i, j] = np.abs(matrix[here]).max() / 448
            codes[here] = (matrix[here] / scale[i, j]).astype(codes.dtype)
    return {name: codes, f"{name}_scale_inv": scale}


def int8_rows(name: str, matrix: Array) -> Parts:
    codes, scale = _symmetric(matrix, matrix.shape[1], 127)
    return {name: codes.astype(np.int8), f"{name}_scale": scale.astype(ml_dtypes.bfloat16)}


def int4_groups(name: str, matrix: Array) -> Parts:
    codes, scale = _symmetric(matrix, 32, 7)
    return {
        f"{name}_packed": pack(codes + 8, 4).view("<i4"),
        f"{name}_scale": scale.astype(ml_dtypes.bfloat16),
        f"{name}_shape": np.array(matrix.shape, dtype=np.int64),
    }


def gptq(name: str, matrix: Array) -> Parts:
    codes, scale, zero = _asymmetric(matrix, 32, 15)
    return {
        f"{_module(name)}qweight": np.ascontiguousarray(pack(codes, 4).T).view("<i4"),
        f"{_module(name)}qzeros": pack(zero.T - 1, 4).view("<i4"),
        f"{_module(name)}scales": np.ascontiguousarray(scale.T).astype(np.float16),
        f"{_module(name)}g_idx": (np.arange(matrix.shape[1]) // 32).astype(np.int32),
    }


def gptq_act_order(name: str, matrix: Array) -> Parts:
    """As `gptq`, with the inputs in groups of their own choice."""
    order = np.random.default_rng(1).permutation(matrix.shape[1])
    parts = gptq(name, matrix[:, order])
    codes, _, _ = _asymmetric(matrix[:, order], 32, 15)
    back = np.argsort(order)
    parts[f"{_module(name)}qweight"] = np.ascontiguousarray(pack(codes[:, back], 4).T).view("<i4")
    parts[f"{_module(name)}g_idx"] = parts[f"{_module(name)}g_idx"][back]
    return parts


def awq(name: str, matrix: Array) -> Parts:
    codes, scale, zero = _asymmetric(matrix, 32, 15)

    def interleave(rows: AnyArray) -> AnyArray:
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        return pack(rows.reshape(rows.shape[0], -1, 8)[:, :, order].reshape(rows.shape), 4).view("<i4")

    return {
        f"{_module(name)}qweight": interleave(np.ascontiguousarray(codes.T)),
        f"{_module(name)}qzeros": interleave(np.ascontiguousarray(zero.T)),
        f"{_module(name)}scales": np.ascontiguousarray(scale.T).astype(np.float16),
    }


def nf4(name: str, matrix: Array) -> Parts:
    blocks = matrix.reshape(-1, 64)
    absmax = np.abs(blocks).max(1)
    codes = np.searchsorted((_NF4[1:] + _NF4[:-1]) / 2, blocks / absmax[:, None]).reshape(-1).astype(np.uint8)
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": list(matrix.shape)}
    return {
        name: (codes[::2] << 4 | codes[1::2])[:, None],
        f"{name}.absmax": absmax,
        f"{name}.quant_map": _NF4,
        f"{name}.quant_state.bitsandbytes__nf4": np.frombuffer(json.dumps(state).encode(), dtype=np.uint8),
    }


def bnb_int8(name: str, matrix: Array) -> Parts:
    scale = np.abs(matrix).max(1)
    codes = np.rint(matrix / scale[:, None] * 127).astype(np.int8)
    return {name: codes, f"{_module(name)}SCB": scale, f"{_module(name)}weight_format": np.array(0, dtype=np.uint8)}


def _four_bits(values: Array) -> AnyArray:
    codes = np.searchsorted((_E2M1[1:] + _E2M1[:-1]) / 2, np.abs(values)).astype(np.uint8)
    codes |= np.where(values < 0, np.uint8(8), np.uint8(0))
    return codes[:, ::2] | codes[:, 1::2] << 4


def mxfp4(name: str, matrix: Array) -> Parts:
    exponent = np.floor(np.log2(np.abs(_groups(matrix, 32)).max(2))) - 2
    values = _groups(matrix, 32) / np.exp2(exponent)[:, :, None]
    return {
        f"{name}_packed": _four_bits(values.reshape(matrix.shape)),
        f"{name}_scale": (exponent + 127).astype(np.uint8),
    }


def nvfp4(name: str, matrix: Array) -> Parts:
    overall = np.float32(np.abs(matrix).max() / (448 * 6))
    scale = (np.abs(_groups(matrix, 16)).max(2) / 6 / overall).astype(ml_dtypes.float8_e4m3fn)
    values = _groups(matrix, 16) / (np.maximum(scale.astype(np.float32), 1e-9) * overall)[:, :, None]
    return {
        name: _four_bits(values.reshape(matrix.shape)),
        f"{name}_scale": scale,
        f"{name}_scale_2": np.array(overall),
    }


def mlx(name: str, matrix: Array) -> Parts:
    blocks = _groups(matrix, 32)
    low = blocks.min(2)
    scale = np.maximum((blocks.max(2) - low) / 15, 1e-8)
    codes = np.clip(np.rint((blocks - low[:, :, None]) / scale[:, :, None]), 0, 15).reshape(matrix.shape)
    return {
        name: pack(codes, 4),
        f"{_module(name)}scales": scale.astype(ml_dtypes.bfloat16),
        f"{_module(name)}biases": low.astype(ml_dtypes.bfloat16),
    }


def hqq(name: str, matrix: Array) -> Parts:
    blocks = matrix.reshape(-1, 64)
    low = blocks.min(1, keepdims=True)
    scale = (blocks.max(1, keepdims=True) - low) / 15
    codes = np.clip(np.rint((blocks - low) / scale), 0, 15).astype(np.uint8)
    half = len(codes) // 2
    return {
        f"{_module(name)}W_q": codes[:half] << 4 | codes[half:],
        f"{_module(name)}scale": scale,
        f"{_module(name)}zero": -low / scale,
        f"{_module(name)}shape": np.array(matrix.shape, dtype=np.int64),
        f"{_module(name)}nbits": np.array(4, dtype=np.int32),
    }


def _says(method: str, **more: Any) -> Mapping[str, Any]:
    return {"quantization_config": {"quant_method": method, **more}}


def _packed_config(form: str, **weights: Any) -> Mapping[str, Any]:
    return _says("compressed-tensors", format=form, config_groups={"group_0": {"weights": weights}})


FORMATS: dict[str, Format] = {
    "fp8-block": (dict(_says("fp8", weight_block_size=[32, 32])), fp8_block),
    "int8-rows": (dict(_packed_config("int-quantized", num_bits=8, symmetric=True)), int8_rows),
    "int4-groups": (dict(_packed_config("pack-quantized", num_bits=4, group_size=32, symmetric=True)), int4_groups),
    "gptq": (dict(_says("gptq", bits=4, group_size=32, checkpoint_format="gptq")), gptq),
    "gptq-act-order": (
        dict(_says("gptq", bits=4, group_size=32, desc_act=True, checkpoint_format="gptq")),
        gptq_act_order,
    ),
    "awq": (dict(_says("awq", bits=4, group_size=32, version="gemm")), awq),
    "nf4": (dict(_says("bitsandbytes", load_in_4bit=True)), nf4),
    "bnb-int8": (dict(_says("bitsandbytes", load_in_8bit=True)), bnb_int8),
    "mxfp4": (dict(_packed_config("mxfp4-pack-quantized", num_bits=4)), mxfp4),
    "nvfp4": (dict(_says("modelopt", quant_algo="NVFP4")), nvfp4),
    "mlx": ({"quantization": {"group_size": 32, "bits": 4}}, mlx),
    "hqq": (dict(_says("hqq")), hqq),
}
"""By name: what config.json says, and the parts of one matrix."""
