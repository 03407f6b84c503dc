"""Makes the reference values: small matrices quantised, saved and dequantised by the libraries whose formats homolog reads.

    python tests/checkpoint/quant/make_reference.py tests/checkpoint/quant/reference [case …]

needs torch 2.13.0, transformers 5.23.0, compressed-tensors 0.20.0, bitsandbytes 0.50.2, mlx 0.32.4, torchao 0.18.0, hqq 0.2.8,
optimum-quanto 0.2.7, nvidia-modelopt 0.47.0, peft 0.21.2, and the unpacked sources of auto-gptq 0.7.1 and autoawq 0.2.9 beside each other
in the folder that SOURCES names. The tests need none of them.

Each case is a folder: ``model.safetensors`` as the library stores it, ``config.json`` as the library writes it (the part that speaks of
quantisation), and ``expected.npy``, what the library's own code makes of the stored tensors, in the precision in which it does so. Where
a library dequantises on an accelerator alone, what is run here in its place is said beside the case.
"""

# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-call"
from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from safetensors.torch import save_file

ROWS, COLUMNS = 32, 128
NAME = "model.layers.0.mlp.up_proj"

Case = tuple[dict[str, torch.Tensor], dict[str, Any], torch.Tensor]
"""Stored tensors, config, and the matrix as the library sees it."""

CASES: dict[str, Callable[[], Case]] = {}


def case(function: Callable[[], Case]) -> Callable[[], Case]:
    CASES[function.__name__.replace("_", "-")] = function
    return function


def weights(rows: int = ROWS, columns: int = COLUMNS, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A matrix like a trained one: columns of different sizes, a few outliers, one row of zeros."""
    generator = torch.Generator().manual_seed(7)
    matrix = torch.randn(rows, columns, generator=generator) * 0.05
    matrix *= torch.exp(0.5 * torch.randn(columns, generator=generator))
    matrix[3, 5] = 0.9
    matrix[7] = 0
    return matrix.to(dtype)


def load_source(relative: str) -> types.ModuleType:
    """One file of a library that cannot be imported as a whole without an accelerator."""
    path = Path(os.environ["SOURCES"]) / relative
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# fp8


@case
def deepseek_fp8() -> Case:
    """transformers' own quantiser and dequantiser; two blocks of 128 × 128."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize, Fp8Quantize

    config = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    quantizer = types.SimpleNamespace(quantization_config=_Settings(**config, scale_fmt=None))
    stored = Fp8Quantize(quantizer)._quantize_one(f"{NAME}.weight", weights(128, 256))
    expected = Fp8Dequantize(quantizer)._dequantize_one(stored[f"{NAME}.weight"], stored[f"{NAME}.weight_scale_inv"])
    return stored, {"quantization_config": config}, expected.to(torch.bfloat16)


@case
def deepseek_fp8_ragged() -> Case:
    """DeepSeek's ``inference/kernel.py`` (weight_dequant: ``x.to(float32) * s``, block by block) as a loop; blocks cut at the edge."""
    matrix, block = weights(160, 144), 128
    codes = torch.empty_like(matrix, dtype=torch.float8_e4m3fn)
    scales = torch.empty(2, 2)
    expected = torch.empty_like(matrix, dtype=torch.bfloat16)
    for i in range(2):
        for j in range(2):
            here = np.s_[i * block : (i + 1) * block, j * block : (j + 1) * block]
            scales[i, j] = matrix[here].abs().max() / 448
            codes[here] = (matrix[here] / scales[i, j]).to(torch.float8_e4m3fn)
            expected[here] = (codes[here].to(torch.float32) * scales[i, j]).to(torch.bfloat16)
    config = {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    return {f"{NAME}.weight": codes, f"{NAME}.weight_scale_inv": scales}, config, expected


class _Settings(types.SimpleNamespace):
    def get(self, key: str) -> Any:
        return getattr(self, key, None)


# compressed-tensors


def compressed(form: str, matrix: torch.Tensor, **arguments: Any) -> Case:
    """The library's compressor and decompressor, around scales of its own calculation."""
    from compressed_tensors.compressors.base import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    strategy, group = str(getattr(args.strategy, "value", args.strategy)), args.group_size or 1
    rows, columns = matrix.shape
    blocks = {
        "tensor": lambda: matrix.reshape(1, -1),
        "channel": lambda: matrix,
        "group": lambda: matrix.reshape(rows, -1, group),
        "tensor_group": lambda: matrix.reshape(rows, -1, group),
        "block": lambda: matrix.reshape(rows // 16, 16, columns // 64, 64).transpose(1, 2).flatten(2),
    }[strategy]()
    overall = generate_gparam(matrix.min(), matrix.max()) if strategy == "tensor_group" else None
    scale, zero = calculate_qparams(blocks.amin(-1), blocks.amax(-1), args, global_scale=overall)
    if strategy == "channel":
        scale, zero = scale.reshape(-1, 1), zero.reshape(-1, 1)
    state = {"weight": matrix, "weight_scale": scale, "weight_zero_point": zero.to(torch.int8)}
    if overall is not None:
        state["weight_global_scale"] = overall
    compressor = BaseCompressor.get_value_from_registry(form)
    packed = compressor.compress(state, scheme)
    expected = compressor.decompress(dict(packed), scheme)["weight"]
    settings = json.loads(args.model_dump_json(exclude_none=True))
    groups = {"group_0": {"targets": ["Linear"], "weights": settings}}
    config = {"quantization_config": {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}}
    return {f"{NAME}.{key}": value.contiguous() for key, value in packed.items()}, config, expected


@case
def ct_int8_channel() -> Case:
    return compressed("int-quantized", weights(), num_bits=8, type="int", strategy="channel")


@case
def ct_int8_tensor() -> Case:
    return compressed("int-quantized", weights(dtype=torch.bfloat16), num_bits=8, type="int", strategy="tensor")


@case
def ct_int8_asymmetric() -> Case:
    return compressed("int-quantized", weights(), num_bits=8, type="int", strategy="channel", symmetric=False)


@case
def ct_int8_group() -> Case:
    return compressed("naive-quantized", weights(), num_bits=8, type="int", strategy="group", group_size=32)


@case
def ct_int4_group() -> Case:
    matrix = weights(dtype=torch.bfloat16)
    return compressed("pack-quantized", matrix, num_bits=4, type="int", strategy="group", group_size=32)


@case
def ct_int4_channel() -> Case:
    return compressed("pack-quantized", weights(), num_bits=4, type="int", strategy="channel")


@case
def ct_int4_asymmetric() -> Case:
    return compressed(
        "pack-quantized", weights(), num_bits=4, type="int", strategy="group", group_size=64, symmetric=False
    )


@case
def ct_int3_asymmetric() -> Case:
    """Codes and zeros that run over the ends of words."""
    return compressed(
        "pack-quantized", weights(), num_bits=3, type="int", strategy="group", group_size=32, symmetric=False
    )


@case
def ct_int4_g_idx() -> Case:
    """Groups in the order of activations. The library dropped ``weight_g_idx`` after 0.9; as it did then, columns are put in the order of
    their groups, (de)quantised, and put back."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32

    groups = torch.arange(COLUMNS) // 32
    groups = groups[torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(3))]
    order = torch.argsort(groups, stable=True)
    back = torch.argsort(order)
    matrix = weights()[:, order].contiguous()
    stored, config, expected = compressed(
        "pack-quantized", matrix, num_bits=4, type="int", strategy="group", group_size=32, symmetric=False
    )
    codes = unpack_from_int32(stored[f"{NAME}.weight_packed"], 4, matrix.shape)
    stored[f"{NAME}.weight_packed"] = pack_to_int32(codes[:, back].contiguous(), 4)
    stored[f"{NAME}.weight_g_idx"] = groups.to(torch.int32)
    return stored, config, expected[:, back]


@case
def ct_fp8_tensor() -> Case:
    return compressed("float-quantized", weights(), num_bits=8, type="float", strategy="tensor")


@case
def ct_fp8_channel() -> Case:
    stored, config, expected = compressed(
        "float-quantized", weights(dtype=torch.bfloat16), num_bits=8, type="float", strategy="channel"
    )
    stored[f"{NAME}.input_scale"] = torch.tensor([0.02])
    return stored, config, expected


@case
def ct_fp8_block() -> Case:
    return compressed(
        "float-quantized", weights(), num_bits=8, type="float", strategy="block", block_structure=[16, 64]
    )


@case
def ct_nvfp4() -> Case:
    return compressed(
        "nvfp4-pack-quantized",
        weights(),
        num_bits=4,
        type="float",
        strategy="tensor_group",
        group_size=16,
        scale_dtype=torch.float8_e4m3fn,
        zp_dtype=torch.float8_e4m3fn,
    )


@case
def ct_mxfp4() -> Case:
    return compressed(
        "mxfp4-pack-quantized",
        weights(),
        num_bits=4,
        type="float",
        strategy="group",
        group_size=32,
        scale_dtype=torch.uint8,
        zp_dtype=torch.uint8,
    )


@case
def ct_mxfp8() -> Case:
    return compressed(
        "mxfp8-quantized",
        weights(),
        num_bits=8,
        type="float",
        strategy="group",
        group_size=32,
        scale_dtype=torch.uint8,
        zp_dtype=torch.uint8,
    )


# GPTQ and AWQ: the libraries' packers, and the arithmetic of their pure-torch paths


def gptq(bits: int, group: int, *, shuffled: bool = False, version: str = "gptq", named: bool = True) -> Case:
    """auto-gptq packs (``qlinear_cuda_old`` in natural order, ``qlinear_cuda`` with g_idx); dequantised as its forward does on the CPU.

    The forward multiplies right after dequantising, so that it is called with the unit matrix; its scales are float32 here, so that nothing
    is rounded on the way.
    """
    module = load_source("auto_gptq/nn_modules/qlinear/" + ("qlinear_cuda.py" if shuffled else "qlinear_cuda_old.py"))
    rows, columns = 96, 64  # outputs, inputs
    matrix = weights(rows, columns)
    groups = torch.arange(columns, dtype=torch.int32) // group
    if shuffled:
        groups = groups[torch.randperm(columns, generator=torch.Generator().manual_seed(5))]
    top = 2**bits - 1
    scales, zeros = torch.empty(rows, columns // group), torch.empty(rows, columns // group)
    for number in range(columns // group):
        block = matrix[:, groups == number]
        low, high = block.amin(1).clamp(max=0), block.amax(1).clamp(min=0)
        low, high = torch.where(low == high, -1.0, low), torch.where(low == high, 1.0, high)
        scales[:, number] = ((high - low) / top).half().float()
        zeros[:, number] = torch.round(-low / scales[:, number]).clamp(1, top)
    rounded = torch.empty_like(matrix)
    for column in range(columns):
        scale, zero = scales[:, groups[column]], zeros[:, groups[column]]
        rounded[:, column] = (torch.round(matrix[:, column] / scale + zero).clamp(0, top) - zero) * scale
    linear = torch.nn.Linear(columns, rows, bias=False)
    linear.weight.data = rounded
    layer = module.QuantLinear(bits, group, columns, rows, bias=False, weight_dtype=torch.float32)
    layer.pack(linear, scales, zeros.clone(), groups)
    if not shuffled:
        layer.g_idx = groups
    expected = layer(torch.eye(columns)).detach().T
    assert (expected - rounded).abs().max() < 1e-5
    stored = {
        f"{NAME}.qweight": layer.qweight,
        f"{NAME}.qzeros": layer.qzeros,
        f"{NAME}.scales": layer.scales.half(),
        f"{NAME}.g_idx": layer.g_idx.to(torch.int32),
    }
    if version == "gptq_v2":
        stored[f"{NAME}.qzeros"] = _add_one(layer.qzeros, bits)
    if not named:
        del stored[f"{NAME}.g_idx"]
    config = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "desc_act": shuffled,
        "checkpoint_format": version,
    }
    return {key: value.contiguous() for key, value in stored.items()}, {"quantization_config": config}, expected


def _add_one(zeros: torch.Tensor, bits: int) -> torch.Tensor:
    """v1 to v2 as gptqmodel 7.7.0 does it for 4 bits: one more in every code (``utils/model.py``, convert_gptq_v1_to_v2_format_module)."""
    assert bits == 4
    return zeros + 0b00010001000100010001000100010001


@case
def gptq_4() -> Case:
    return gptq(4, 32)


@case
def gptq_4_without_g_idx() -> Case:
    return gptq(4, 64, named=False)


@case
def gptq_4_act_order() -> Case:
    return gptq(4, 16, shuffled=True)


@case
def gptq_4_v2() -> Case:
    return gptq(4, 32, version="gptq_v2")


@case
def gptq_8() -> Case:
    return gptq(8, 32)


@case
def gptq_3() -> Case:
    return gptq(3, 32)


@case
def gptq_3_act_order() -> Case:
    return gptq(3, 32, shuffled=True)


@case
def gptq_2() -> Case:
    return gptq(2, 16)


@case
def awq_gemm() -> Case:
    """autoawq's packing (``WQLinear_GEMM.from_linear``, its order map) and its ``dequantize_gemm``, which runs on the CPU."""
    packing = load_source("awq/utils/packing_utils.py")
    rows, columns, group = 64, 96, 32
    blocks = weights(rows, columns).reshape(rows, -1, group)
    low, high = blocks.amin(2), blocks.amax(2)
    scales = ((high - low).clamp(min=1e-5) / 15).half()
    zeros = (-torch.round(low / scales)).clamp(0, 15)
    spread = scales.repeat_interleave(group, 1).float()
    codes = torch.round(blocks.reshape(rows, columns) / spread + zeros.repeat_interleave(group, 1)).clamp(0, 15).int()

    def pack(matrix: torch.Tensor) -> torch.Tensor:
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        words = torch.zeros(matrix.shape[0], matrix.shape[1] // 8, dtype=torch.int32)
        for place, number in enumerate(order):
            words |= matrix[:, number::8].int() << (4 * place)
        return words

    qweight, qzeros = pack(codes.T), pack(zeros.T.int())
    stored = {f"{NAME}.qweight": qweight, f"{NAME}.qzeros": qzeros, f"{NAME}.scales": scales.T.contiguous()}
    expected = packing.dequantize_gemm(qweight, qzeros, scales.T.contiguous(), 4, group).T
    config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    return stored, {"quantization_config": config}, expected


# bitsandbytes


def bnb4(kind: str, *, nested: bool, rows: int = ROWS, columns: int = COLUMNS) -> Case:
    import bitsandbytes.functional as bnb

    packed, state = bnb.quantize_4bit(weights(rows, columns), quant_type=kind, compress_statistics=nested)
    stored = {f"{NAME}.weight": packed}
    stored |= {f"{NAME}.weight.{key}": value.contiguous() for key, value in state.as_dict(packed=True).items()}
    expected = bnb.dequantize_4bit(packed, state).reshape(rows, columns)
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": nested}
    return stored, {"quantization_config": config}, expected


@case
def bnb_nf4() -> Case:
    return bnb4("nf4", nested=False)


@case
def bnb_nf4_double() -> Case:
    return bnb4("nf4", nested=True, rows=160)


@case
def bnb_nf4_ragged() -> Case:
    """Rows that begin in the middle of a byte and of a block."""
    return bnb4("nf4", nested=True, rows=21, columns=45)


@case
def bnb_fp4() -> Case:
    return bnb4("fp4", nested=False)


@case
def bnb_int8() -> Case:
    import bitsandbytes.functional as bnb

    codes, scale, _ = bnb.int8_vectorwise_quant(weights(dtype=torch.float16))
    stored = {
        f"{NAME}.weight": codes,
        f"{NAME}.SCB": scale,
        f"{NAME}.weight_format": torch.zeros((), dtype=torch.uint8),
    }
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    return stored, config, bnb.int8_vectorwise_dequant(codes, scale)


# four-bit floats


@case
def gpt_oss_mxfp4() -> Case:
    """A stack of two experts: packed by compressed-tensors (transformers' packer needs an accelerator), dequantised by transformers."""
    from transformers.integrations.mxfp4 import _convert_moe_packed_tensors

    experts = [
        compressed(
            "mxfp4-pack-quantized",
            weights(48, 64) * (1 + number),
            num_bits=4,
            type="float",
            strategy="group",
            group_size=32,
            scale_dtype=torch.uint8,
            zp_dtype=torch.uint8,
        )[0]
        for number in range(2)
    ]
    blocks = torch.stack([expert[f"{NAME}.weight_packed"].reshape(48, 2, 16) for expert in experts])
    scales = torch.stack([expert[f"{NAME}.weight_scale"] for expert in experts])
    name = "model.layers.0.mlp.experts.gate_up_proj"
    expected = _convert_moe_packed_tensors(blocks, scales)
    if expected.shape[1] == 64:  # input × output, as the model multiplies
        expected = expected.transpose(1, 2)
    return (
        {f"{name}_blocks": blocks, f"{name}_scales": scales},
        {"quantization_config": {"quant_method": "mxfp4"}},
        expected,
    )


@case
def modelopt_nvfp4() -> Case:
    from modelopt.torch.quantization.qtensor import NVFP4QTensor

    tensor, scale, overall = NVFP4QTensor.quantize(weights(), 16)
    expected = tensor.dequantize(dtype=torch.float32, scale=scale, double_scale=overall, block_sizes={-1: 16})
    stored = {
        f"{NAME}.weight": tensor._quantized_data,
        f"{NAME}.weight_scale": scale,
        f"{NAME}.weight_scale_2": overall.reshape(()),
        f"{NAME}.input_scale": torch.tensor(0.01),
    }
    return stored, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, expected


@case
def modelopt_fp8() -> Case:
    from modelopt.torch.quantization.qtensor import FP8QTensor

    matrix = weights()
    tensor, scale = FP8QTensor.quantize(matrix, matrix.abs().max() / 448)
    expected = tensor.dequantize(dtype=torch.float32, scale=scale)
    stored = {
        f"{NAME}.weight": tensor._quantized_data,
        f"{NAME}.weight_scale": scale.reshape(()),
        f"{NAME}.input_scale": torch.tensor(0.01),
    }
    return stored, {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, expected


# MLX


def mlx(mode: str, bits: int, group: int) -> Case:
    import mlx.core as mx

    parts = mx.quantize(mx.array(weights().numpy()), group_size=group, bits=bits, mode=mode)
    decoded = mx.dequantize(*parts, group_size=group, bits=bits, mode=mode, dtype=mx.float32)
    names = ("weight", "scales", "biases")
    stored = {f"{NAME}.{name}": torch.from_numpy(np.array(part)) for name, part in zip(names, parts, strict=False)}
    settings = {"group_size": group, "bits": bits, "mode": mode}
    return stored, {"quantization": settings}, torch.from_numpy(np.array(decoded))


@case
def mlx_4() -> Case:
    return mlx("affine", 4, 64)


@case
def mlx_8() -> Case:
    return mlx("affine", 8, 32)


@case
def mlx_6() -> Case:
    return mlx("affine", 6, 64)


@case
def mlx_5() -> Case:
    return mlx("affine", 5, 64)


@case
def mlx_3() -> Case:
    return mlx("affine", 3, 64)


@case
def mlx_2() -> Case:
    return mlx("affine", 2, 32)


@case
def mlx_mxfp4() -> Case:
    return mlx("mxfp4", 4, 32)


@case
def mlx_nvfp4() -> Case:
    return mlx("nvfp4", 4, 16)


@case
def mlx_mxfp8() -> Case:
    return mlx("mxfp8", 8, 32)


# HQQ


def hqq(bits: int, group: int, axis: int) -> Case:
    """HQQ's quantiser and dequantiser; the settings stored as its ``state_dict`` stores them."""
    from hqq.core.quantize import Quantizer
    from hqq.core.utils import encode_safetensor_type

    codes, meta = Quantizer.quantize(
        weights(), nbits=bits, group_size=group, axis=axis, compute_dtype=torch.float32, device="cpu"
    )
    expected = Quantizer.dequantize(codes, {**meta, "compute_dtype": torch.float32})
    settings = {**meta, "compute_dtype": torch.float32, "stores_quant_config": True, "offload_meta": False}
    stored = {f"{NAME}.W_q": codes.data}
    stored |= {f"{NAME}.{key}": encode_safetensor_type(value) for key, value in settings.items() if value is not None}
    params = {"nbits": bits, "group_size": group, "axis": axis}
    config = {"quant_method": "hqq", "quant_config": {"weight_quant_params": params}}
    return {key: value.contiguous() for key, value in stored.items()}, {"quantization_config": config}, expected


@case
def hqq_4() -> Case:
    return hqq(4, 64, 1)


@case
def hqq_4_axis_0() -> Case:
    return hqq(4, 64, 0)


@case
def hqq_3() -> Case:
    return hqq(3, 64, 1)


@case
def hqq_2() -> Case:
    return hqq(2, 32, 1)


@case
def hqq_1() -> Case:
    return hqq(1, 64, 1)


@case
def hqq_8() -> Case:
    return hqq(8, 64, 1)


# torchao and quanto


def torchao(settings: object) -> Case:
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import quantize_

    linear = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    linear.weight.data = weights()
    quantize_(linear, settings)
    stored, _ = flatten_tensor_state_dict({f"{NAME}.weight": linear.weight.data})
    return stored, {"quantization_config": {"quant_method": "torchao"}}, linear.weight.dequantize()


@case
def torchao_int8() -> Case:
    from torchao.quantization import Int8WeightOnlyConfig

    return torchao(Int8WeightOnlyConfig(version=2))


@case
def torchao_fp8() -> Case:
    from torchao.quantization import Float8WeightOnlyConfig

    return torchao(Float8WeightOnlyConfig())


@case
def torchao_intx() -> Case:
    from torchao.quantization import IntxWeightOnlyConfig, PerGroup

    return torchao(IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)))


@case
def quanto_int8() -> Case:
    from optimum.quanto import AbsmaxOptimizer, qint8, quantize_weight

    matrix = weights()
    scale = AbsmaxOptimizer()(matrix, qint8, 0)
    tensor = quantize_weight(matrix, qint8, 0, scale)
    stored = {f"{NAME}.weight._data": tensor._data, f"{NAME}.weight._scale": tensor._scale}
    return stored, {"quantization_config": {"quant_method": "quanto", "weights": "int8"}}, tensor.dequantize()


def write(folder: Path, made: Case) -> int:
    stored, config, expected = made
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, sort_keys=True) + "\n")
    if expected.dtype == torch.bfloat16:
        values = expected.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16).astype(np.float32)
        np.savez_compressed(
            folder / "expected.npz", values=values.view(np.uint32).__rshift__(16).astype(np.uint16), kind="bf16"
        )
    else:
        np.savez_compressed(
            folder / "expected.npz", values=expected.numpy(), kind=str(expected.dtype).removeprefix("torch.")
        )
    return sum(path.stat().st_size for path in folder.iterdir())


def main(out: Path, wanted: list[str]) -> None:
    total = 0
    for name, make in CASES.items():
        if not wanted or name in wanted:
            torch.manual_seed(0)
            total += write(out / name, make())
            sys.stdout.write(f"{name}\n")
    sys.stdout.write(f"{total} bytes\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
