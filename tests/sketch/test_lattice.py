"""Rounding that the numbers themselves show: found where it is, never where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tests.checkpoint.quant.quantisers import FORMATS, quantise_folder
from tests.checkpoint.writers import encode_safetensors

from homolog import compare
from homolog.checkpoint.base import Array
from homolog.checkpoint.open import open_checkpoint
from homolog.sketch.lattice import find_lattice

ZOO = Path("tests/zoo")
SEEN = {
    "int4-groups": "int4, a scale for every 32 numbers",
    "gptq": "int4, a scale for every 32 numbers",
    "awq": "int4, a scale for every 32 numbers",
    "mlx": "int4, a scale for every 32 numbers",
    "hqq": "int4, a scale for every 64 numbers",
    "nf4": "nf4, a scale for every 64 numbers",
    "mxfp4": "fp4",
    "nvfp4": "fp4",
}
UNSEEN = {"fp8-block", "int8-rows", "bnb-int8", "gptq-act-order"}
"""Eight bits do not show in rows of 64 to 128 numbers, and groups that are scattered over the row look like none."""


def bf16(values: Array) -> Array:
    return np.asarray(values.astype(ml_dtypes.bfloat16), dtype=np.float32)


def draw(seed: int = 0, rows: int = 8, columns: int = 2048) -> Array:
    return np.asarray(0.02 * np.random.default_rng(seed).standard_t(6, size=(rows, columns)), dtype=np.float32)


def test_no_model_of_the_zoo_is_taken_for_rounded() -> None:
    """Every matrix of every model, eight rows at a time; all were trained in float32 and saved as bf16."""
    looked = 0
    for folder in sorted(path for path in ZOO.iterdir() if path.is_dir()):
        with open_checkpoint(folder) as checkpoint:
            for name, info in checkpoint.tensors.items():
                if len(info.shape) == 2:
                    assert find_lattice(checkpoint.read_rows(name)[-8:]) == "", f"{folder.name}: {name}"
                    looked += 1
    assert looked > 1000


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_dequantised_copy_shows_what_it_was(form: str, tmp_path: Path) -> None:
    assert (form in SEEN) != (form in UNSEEN)
    with open_checkpoint(quantise_folder(ZOO / "a", tmp_path / form, form)) as checkpoint:
        for layer in range(5):
            name = f"model.layers.{layer}.mlp.up_proj.weight"
            rows = checkpoint.read_rows(name)
            rows = rows.T if checkpoint.tensors[name].transposed else rows
            assert find_lattice(bf16(rows)) == SEEN.get(form, "")


@pytest.mark.parametrize("width", [512, 2048, 5120])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_numbers_as_training_leaves_them_show_nothing(width: int, dtype: type) -> None:
    rows = np.asarray(draw(1, columns=width).astype(dtype), dtype=np.float32)
    assert find_lattice(rows) == ""


def test_eight_bits_show_in_wide_rows() -> None:
    rows = draw(2)
    row_scale = np.abs(rows).max(1, keepdims=True)
    assert find_lattice(bf16(np.rint(rows / row_scale * 127) * row_scale / 127)) == "int8, a scale for every row"
    codes = (rows / row_scale * 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert find_lattice(bf16(codes * row_scale / 448)) == "fp8, a scale for every row"
    blocks = np.repeat(np.abs(rows.reshape(8, -1, 128)).max((0, 2)) / 448, 128)
    codes = (rows / blocks).astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
    assert find_lattice(bf16(codes * blocks)).startswith("fp8")


def test_pruned_constant_broken_and_small_rows_show_nothing() -> None:
    pruned = draw(3).reshape(8, -1, 4)
    pruned[np.argsort(np.argsort(np.abs(pruned), axis=2), axis=2) < 2] = 0
    assert find_lattice(bf16(pruned.reshape(8, -1))) == ""
    assert find_lattice(np.zeros((8, 128), dtype=np.float32)) == ""
    assert find_lattice(np.full((8, 128), 0.5, dtype=np.float32)) == ""
    assert find_lattice(np.full((8, 128), np.nan, dtype=np.float32)) == ""
    assert find_lattice(np.empty((0, 128), dtype=np.float32)) == ""
    assert find_lattice(draw(columns=24)[:, :7]) == ""


def test_training_after_rounding_hides_it() -> None:
    rows = draw(4, columns=256)
    scale = np.repeat(np.abs(rows.reshape(8, -1, 32)).max(2) / 7, 32, axis=1)
    rounded = np.rint(rows / scale) * scale
    assert find_lattice(bf16(rounded)) == "int4, a scale for every 32 numbers"
    assert find_lattice(bf16(rounded + 0.01 * draw(5, columns=256))) == ""


def test_a_dequantised_copy_is_named_by_its_lattice(tmp_path: Path) -> None:
    """Against its origin and against the independent twin."""
    copy = tmp_path / "copy"
    shutil.copytree(ZOO / "a", copy)
    with open_checkpoint(quantise_folder(ZOO / "a", tmp_path / "nf4", "nf4")) as checkpoint:
        arrays = {name: checkpoint.read_rows(name).astype(ml_dtypes.bfloat16) for name in checkpoint.tensors}
    (copy / "model.safetensors").write_bytes(encode_safetensors(arrays))
    found = compare(ZOO / "a", copy)
    assert found.verdict.verdict == "related"
    assert [step.kind for step in found.operations] == ["quantised"]
    assert "lie on the levels of nf4, a scale for every 64 numbers" in found.operations[0].detail
    twin = compare(ZOO / "b", copy)
    assert twin.verdict.verdict == "independent"
    assert twin.operations == ()
