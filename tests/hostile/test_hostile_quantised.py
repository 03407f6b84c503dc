"""Quantised checkpoints whose parts do not fit each other: one typed error that names file, tensor, found and expected; nothing hangs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tests.checkpoint.quant.test_against_references import CASES, NAME, REFERENCE
from tests.checkpoint.writers import NUMPY_KINDS, AnyArray, encode_safetensors

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import CheckpointError, MalformedCheckpoint, UnsupportedFormat

MODULE = NAME.removesuffix("weight")
STACK = "model.layers.0.mlp.experts.gate_up_proj"
Parts = dict[str, AnyArray]


def parts_of(case: str) -> Parts:
    """The stored tensors, as arrays that can be written again."""
    raw = (REFERENCE / case / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    header.pop("__metadata__", None)
    parts = {}
    for name, entry in header.items():
        start, stop = (8 + length + offset for offset in entry["data_offsets"])
        parts[name] = np.frombuffer(raw[start:stop], dtype=NUMPY_KINDS[entry["dtype"]]).reshape(entry["shape"]).copy()
    return parts


def write(folder: Path, parts: Mapping[str, AnyArray], config: Any) -> Path:
    (folder / "config.json").write_text(json.dumps(config))
    path = folder / "model.safetensors"
    path.write_bytes(encode_safetensors(parts))
    return path


def config_of(case: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((REFERENCE / case / "config.json").read_text())
    return config


def read_all(path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        for name in checkpoint.tensors:
            checkpoint.read_rows(name)


def put(leaf: str, change: Callable[[AnyArray], AnyArray]) -> Callable[[Parts], str]:
    """Replaces one tensor; says its name."""

    def mutate(parts: Parts) -> str:
        name = next(name for name in parts if name.endswith(leaf))
        parts[name] = np.ascontiguousarray(change(parts[name]))
        return name

    return mutate


def drop(leaf: str) -> Callable[[Parts], str]:
    def mutate(parts: Parts) -> str:
        name = next(name for name in parts if name.endswith(leaf))
        del parts[name]
        return name

    return mutate


def filled(value: float) -> Callable[[AnyArray], AnyArray]:
    def change(array: AnyArray) -> AnyArray:
        out = array.copy()
        out.reshape(-1)[-1] = value
        return out

    return change


def cut(array: AnyArray) -> AnyArray:
    return array[:-1]


def narrowed(array: AnyArray) -> AnyArray:
    return array[..., :-1]


def text(value: object) -> Callable[[AnyArray], AnyArray]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return lambda _: np.frombuffer(raw, dtype=np.uint8).copy()


STATE = "bitsandbytes__nf4"
BAD: dict[str, tuple[str, Callable[[Parts], str]]] = {
    "fp8: scales one row short": ("deepseek-fp8-ragged", put("_scale_inv", lambda a: np.zeros((7, 2), np.float32))),
    "fp8: scales of three axes": ("deepseek-fp8", put("_scale_inv", lambda a: np.ones((1, 2, 1, 1), np.float32))),
    "fp8: scales that are whole numbers": ("deepseek-fp8", put("_scale_inv", lambda a: np.ones((1, 2), np.int64))),
    "fp8: a scale of NaN": ("deepseek-fp8", put("_scale_inv", filled(np.nan))),
    "fp8: an infinite scale": ("deepseek-fp8", put("_scale_inv", filled(np.inf))),
    "fp8: a scale of zero": ("deepseek-fp8", put("_scale_inv", filled(0))),
    "fp8: no scales at all": ("ct-fp8-channel", put("weight_scale", lambda a: a[:0])),
    "int8: scales of another length": ("ct-int8-channel", put("weight_scale", cut)),
    "int8: zeros of another length": ("ct-int8-asymmetric", put("zero_point", cut)),
    "int8: missing zeros": ("ct-int8-asymmetric", drop("zero_point")),
    "int4: a word short": ("ct-int4-group", put("weight_packed", narrowed)),
    "int4: missing scales": ("ct-int4-group", drop("weight_scale")),
    "int4: missing zeros": ("ct-int4-asymmetric", drop("zero_point")),
    "int4: zeros a word short": ("ct-int4-asymmetric", put("zero_point", cut)),
    "int4: a shape of other rows": ("ct-int4-group", put("weight_shape", lambda a: a + 1)),
    "int4: a shape of 2^62": ("ct-int4-group", put("weight_shape", filled(2**62))),
    "int4: a negative shape": ("ct-int4-group", put("weight_shape", filled(-128))),
    "int4: a shape of one number": ("ct-int4-group", put("weight_shape", cut)),
    "int4: groups beyond the scales": ("ct-int4-g-idx", put("g_idx", filled(4))),
    "int4: a negative group": ("ct-int4-g-idx", put("g_idx", filled(-2))),
    "int4: groups for other columns": ("ct-int4-g-idx", put("g_idx", cut)),
    "gptq: words a row short": ("gptq-4", put("qweight", cut)),
    "gptq: words a column short": ("gptq-4", put("qweight", narrowed)),
    "gptq: missing zeros": ("gptq-4", drop("qzeros")),
    "gptq: missing scales": ("gptq-4", drop("scales")),
    "gptq: zeros a row short": ("gptq-4", put("qzeros", cut)),
    "gptq: zeros of another kind": ("gptq-4", put("qzeros", lambda a: a.astype(np.int64))),
    "gptq: scales of one axis": ("gptq-4", put("scales", lambda a: a.reshape(-1))),
    "gptq: a group out of range": ("gptq-4-act-order", put("g_idx", filled(99))),
    "gptq: a negative group": ("gptq-4-act-order", put("g_idx", filled(-1))),
    "gptq: groups for other inputs": ("gptq-4", put("g_idx", cut)),
    "gptq: groups that are floats": ("gptq-4", put("g_idx", lambda a: a.astype(np.float32))),
    "gptq: a scale of NaN": ("gptq-4", put("scales", filled(np.nan))),
    "gptq: a scale of zero": ("gptq-4", put("scales", lambda a: a * 0)),
    "awq: words of another width": ("awq-gemm", put("qweight", narrowed)),
    "awq: zeros of other groups": ("awq-gemm", put("qzeros", cut)),
    "awq: an infinite scale": ("awq-gemm", put("scales", filled(np.inf))),
    "nf4: scales a block short": ("bnb-nf4", put("absmax", cut)),
    "nf4: codes a byte short": ("bnb-nf4", put("up_proj.weight", cut)),
    "nf4: no table": ("bnb-nf4", drop("quant_map")),
    "nf4: a table of three": ("bnb-nf4", put("quant_map", lambda a: a[:3])),
    "nf4: a table of NaN": ("bnb-nf4", put("quant_map", filled(np.nan))),
    "nf4: a scale of NaN": ("bnb-nf4", put("absmax", filled(np.nan))),
    "nf4: settings that are no JSON": (
        "bnb-nf4",
        put(STATE, text(b"{")),
    ),
    "nf4: settings nested too deep": ("bnb-nf4", put(STATE, text(b"[" * 4000))),
    "nf4: settings that are a list": ("bnb-nf4", put(STATE, text([1]))),
    "nf4: settings of 5 kB": ("bnb-nf4", put(STATE, text({"x": "y" * 5000}))),
    "nf4: no shape": ("bnb-nf4", put(STATE, text({"blocksize": 64}))),
    "nf4: a shape of 2^62": ("bnb-nf4", put(STATE, text({"blocksize": 64, "shape": [2**62, 2**62]}))),
    "nf4: a shape of truth values": ("bnb-nf4", put(STATE, text({"blocksize": 64, "shape": [True, 1]}))),
    "nf4: blocks of nothing": ("bnb-nf4", put(STATE, text({"blocksize": 0, "shape": [32, 128]}))),
    "nf4: an offset of NaN": (
        "bnb-nf4-double",
        put(STATE, text(b'{"blocksize":64,"shape":[160,128],"nested_blocksize":256,"nested_offset":NaN}')),
    ),
    "nf4: nested scales missing": ("bnb-nf4-double", drop("nested_absmax")),
    "nf4: nested scales a block short": ("bnb-nf4-double", put("nested_absmax", cut)),
    "nf4: nested table cut": ("bnb-nf4-double", put("nested_quant_map", cut)),
    "bnb int8: scales a row short": ("bnb-int8", put("SCB", cut)),
    "mxfp4: scales a block short": ("gpt-oss-mxfp4", put("_scales", narrowed)),
    "mxfp4: blocks of 15 bytes": ("gpt-oss-mxfp4", put("_blocks", narrowed)),
    "mxfp4: a scale of NaN": ("gpt-oss-mxfp4", put("_scales", filled(255))),
    "nvfp4: scales of another width": ("modelopt-nvfp4", put("weight_scale", narrowed)),
    "nvfp4: no scale of all": ("modelopt-nvfp4", drop("weight_scale_2")),
    "nvfp4: two scales of all": ("modelopt-nvfp4", put("weight_scale_2", lambda a: np.ones(2, np.float32))),
    "nvfp4: a scale of all of zero": ("ct-nvfp4", put("weight_global_scale", filled(0))),
    "nvfp4: a scale of all of NaN": ("ct-nvfp4", put("weight_global_scale", filled(np.nan))),
    "mlx: offsets missing": ("mlx-4", drop("biases")),
    "mlx: offsets of another width": ("mlx-4", put("biases", narrowed)),
    "mlx: an offset of NaN": ("mlx-4", put("biases", filled(np.nan))),
    "mlx: scales that do not divide the words": ("mlx-4", put("scales", lambda a: np.ones((32, 5), np.float32))),
    "mlx: scales of other rows": ("mlx-4", put("scales", cut)),
    "mlx: float scales in bytes, of odd groups": ("mlx-mxfp4", put("scales", lambda a: np.ones((32, 1), np.uint8))),
    "hqq: missing zeros": ("hqq-4", drop("zero")),
    "hqq: missing shape": ("hqq-4", drop("shape")),
    "hqq: zeros of another length": ("hqq-4", put("zero", cut)),
    "hqq: codes a row short": ("hqq-4", put("W_q", cut)),
    "hqq: five bits": ("hqq-4", put("nbits", lambda a: np.array(5, np.int32))),
    "hqq: a shape of 2^62": ("hqq-4", put("shape", filled(2**62))),
    "hqq: a zero of NaN": ("hqq-4", put("zero", filled(np.nan))),
    "torchao: scales a row short": ("torchao-int8", put("_weight_scale", cut)),
    "quanto: scales a row short": ("quanto-int8", put("_scale", cut)),
}


@pytest.mark.parametrize("fault", BAD)
def test_parts_that_do_not_fit_are_refused(fault: str, tmp_path: Path) -> None:
    case, mutate = BAD[fault]
    parts = parts_of(case)
    mutate(parts)
    path = write(tmp_path, parts, config_of(case))
    with pytest.raises(MalformedCheckpoint) as caught:
        read_all(path)
    error = caught.value
    assert error.path == path
    assert any(error.at.startswith(f"tensor {stem}") for stem in (MODULE.removesuffix("."), STACK)), error.at
    assert error.found
    assert error.expected
    assert len(str(error)) < 1500 + len(str(path))


def test_the_error_names_the_shard(tmp_path: Path) -> None:
    parts = parts_of("gptq-4")
    other = {name.replace("layers.0", "layers.1"): array for name, array in parts.items()}
    del other[f"{MODULE.replace('layers.0', 'layers.1')}qzeros"]
    files = {"model-00001-of-00002.safetensors": parts, "model-00002-of-00002.safetensors": other}
    for file, arrays in files.items():
        (tmp_path / file).write_bytes(encode_safetensors(arrays))
    weight_map = {name: file for file, arrays in files.items() for name in arrays}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MalformedCheckpoint) as caught:
        open_checkpoint(tmp_path)
    assert caught.value.path.name == "model-00002-of-00002.safetensors"


def test_other_orders_of_awq_are_named(tmp_path: Path) -> None:
    parts = parts_of("awq-gemm")
    parts[f"{MODULE}qweight"] = np.ascontiguousarray(parts[f"{MODULE}qweight"].T)
    config = config_of("awq-gemm")
    config["quantization_config"]["version"] = "gemv"
    with pytest.raises(UnsupportedFormat, match="gemv"):
        open_checkpoint(write(tmp_path, parts, config))


def test_a_matrix_may_not_be_there_twice(tmp_path: Path) -> None:
    parts = parts_of("gptq-4") | {NAME: np.ones((96, 64), dtype=np.float32)}
    with pytest.raises(MalformedCheckpoint, match="twice"):
        open_checkpoint(write(tmp_path, parts, {}))


HOSTILE_CONFIGS: list[Any] = [
    {"quantization_config": 7},
    {"quantization_config": []},
    {"quantization_config": {"quant_method": ["gptq"], "bits": "4", "group_size": 1e300, "weight_block_size": [0, -1]}},
    {"quantization_config": {"config_groups": {"group_0": {"weights": {"num_bits": -4, "group_size": 2**70}}}}},
    {"quantization_config": {"config_groups": [1, 2], "quant_config": "x", "checkpoint_format": {"a": 1}}},
    {"quantization_config": {"quant_method": "x" * 100_000 + "\n", "bits": True, "symmetric": "no"}},
    {"quantization": {"group_size": {}, "bits": None, MODULE.removesuffix("."): {"bits": 0, "group_size": -1}}},
    {"text_config": {"quantization_config": {"quant_method": "awq"}}},
]


@pytest.mark.parametrize("config", HOSTILE_CONFIGS, ids=range(len(HOSTILE_CONFIGS)))
@pytest.mark.parametrize("case", ["deepseek-fp8", "gptq-4", "ct-int4-group", "mlx-4", "bnb-nf4", "modelopt-nvfp4"])
def test_a_hostile_config_changes_nothing_or_is_reported(case: str, config: Any, tmp_path: Path) -> None:
    """The tensors decide; what config.json says against them is a note, short and on one line."""
    path = write(tmp_path, parts_of(case), config)
    with open_checkpoint(path) as checkpoint, open_checkpoint(REFERENCE / case / "model.safetensors") as honest:
        (name,) = honest.tensors
        assert np.array_equal(checkpoint.read_rows(name), honest.read_rows(name))
        assert all(note.isprintable() and len(note) < 500 for note in checkpoint.notes)


def test_disagreement_is_reported(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq", "bits": 8}}
    with open_checkpoint(write(tmp_path, parts_of("gptq-4"), config)) as checkpoint:
        notes = " ".join(checkpoint.notes)
    assert "config.json says quant_method 'awq', the tensors are laid out as gptq" in notes
    assert "config.json says 8 bits, the tensors have 4" in notes


def test_a_promise_without_tensors_is_reported(tmp_path: Path) -> None:
    plain = {"w": np.ones((2, 2), dtype=ml_dtypes.bfloat16)}
    config = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    with open_checkpoint(write(tmp_path, plain, config)) as checkpoint:
        assert "no tensor is quantised" in " ".join(checkpoint.notes)
        assert np.array_equal(checkpoint.read_rows("w"), np.ones((2, 2)))


def test_a_name_beside_no_codes_is_no_format(tmp_path: Path) -> None:
    """Scales without codes, and tensors that are merely called so, are left alone."""
    parts: Parts = {
        "layer.scale": np.ones(4, dtype=np.float32),
        "layer.weight": np.ones((4, 4), dtype=np.float32),
        "norm.weight_scale": np.ones(4, dtype=np.float32),
        "attn.logit_scale": np.ones(1, dtype=np.float32),
        "text_blocks": np.ones((2, 2), dtype=np.float32),
    }
    with open_checkpoint(write(tmp_path, parts, {})) as checkpoint:
        assert set(checkpoint.tensors) == set(parts)
        assert checkpoint.notes == ()


def test_a_zero_block_may_have_a_zero_scale(tmp_path: Path) -> None:
    parts = parts_of("bnb-nf4")
    table = parts[f"{NAME}.quant_map"]
    zero = int(np.flatnonzero(table == 0)[0])
    parts[f"{NAME}.absmax"][0] = 0
    parts[NAME].reshape(-1)[:32] = zero << 4 | zero
    with open_checkpoint(write(tmp_path, parts, {})) as checkpoint:
        assert not checkpoint.read_rows(NAME, 0, 1)[0, :64].any()


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("deepseek-fp8",)])
def test_noise_in_the_small_tensors_ends_in_values_or_one_error(case: str, tmp_path: Path) -> None:
    """Random bytes in everything but the codes: no crash, no warning, no number beyond what floats can be."""
    random = np.random.default_rng(11)
    parts = parts_of(case)
    for name, array in parts.items():
        if array.size < 300 and random.random() < 0.7:
            noise = random.integers(0, 256, size=array.nbytes, dtype=np.uint8)
            parts[name] = noise.view(array.dtype).reshape(array.shape)
    path = write(tmp_path, parts, config_of(case))
    with contextlib.suppress(CheckpointError):
        read_all(path)
