"""Every format against the library that writes it: the same numbers, and no more read than the rows need.

The reference values are made by ``make_reference.py`` beside this file, which says which code of which library made them.
"""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.open import open_checkpoint

REFERENCE = Path(__file__).parent / "reference"
CASES = sorted(folder.name for folder in REFERENCE.iterdir())
NAME = "model.layers.0.mlp.up_proj.weight"
STACK = "model.layers.0.mlp.experts.gate_up_proj"

ROUNDED = {"bf16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}
"""The precision in which the reference was computed: ours is rounded to it before the two are compared bit by bit."""


def expected_of(case: str) -> tuple[Array, str]:
    with np.load(REFERENCE / case / "expected.npz") as saved:
        kind = str(saved["kind"])
        values = saved["values"]
    if kind == "bf16":
        values = values.view(ml_dtypes.bfloat16)
    return values.astype(np.float32), kind


def stored_name(checkpoint: Checkpoint) -> str:
    (name,) = checkpoint.tensors
    assert name in (NAME, STACK)
    return name


def as_rows(checkpoint: Checkpoint, expected: Array) -> Array:
    """The expected matrix in the order in which it is stored."""
    info = checkpoint.tensors[stored_name(checkpoint)]
    crosswise = info.transposed and info.name == NAME
    matrix = expected.T if crosswise else expected
    assert info.shape == matrix.shape
    return matrix


def same(ours: Array, theirs: Array, kind: str) -> bool:
    return np.array_equal(ours.astype(ROUNDED[kind]).astype(np.float32), theirs, equal_nan=True)


@pytest.mark.parametrize("case", CASES)
def test_the_matrix_is_the_libraries_own(case: str) -> None:
    expected, kind = expected_of(case)
    with open_checkpoint(REFERENCE / case / "model.safetensors") as checkpoint:
        ours = checkpoint.read_rows(stored_name(checkpoint))
        matrix = as_rows(checkpoint, expected)
    assert ours.dtype == np.float32
    assert same(ours, matrix, kind), float(np.abs(ours - matrix).max())


@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_the_matrix(case: str) -> None:
    with open_checkpoint(REFERENCE / case / "model.safetensors") as checkpoint:
        name = stored_name(checkpoint)
        whole = checkpoint.read_rows(name)
        height = whole.shape[0]
        for start, stop in ((0, 1), (height - 1, height), (1, height - 1), (1, 1), (5 % height, height)):
            assert np.array_equal(checkpoint.read_rows(name, start, stop), whole[start:stop], equal_nan=True)
        ids = [height - 1, 0, 7 % height, 0, 3 % height]
        assert np.array_equal(checkpoint.read_rows_at(name, ids), whole[ids], equal_nan=True)
        assert checkpoint.read_bytes(name, 1, 2) == whole[1:2].astype("<f4").tobytes()
        if whole.ndim == 3:
            assert np.array_equal(checkpoint.read_block(name, [1], 5, 9), whole[1, 5:9])
        with pytest.raises(IndexError):
            checkpoint.read_rows(name, 0, height + 1)


@pytest.mark.parametrize("case", CASES)
def test_a_few_rows_cost_a_few_rows(case: str) -> None:
    """Half of the rows in half of the bytes, beside small tables, shapes, and groups of columns."""
    with open_checkpoint(REFERENCE / case / "model.safetensors") as checkpoint:
        name = stored_name(checkpoint)
        info = checkpoint.tensors[name]
        before = checkpoint.meter.bytes
        rows = max(1, info.shape[0] // 2)
        checkpoint.read_rows(name, 0, rows)
        read = checkpoint.meter.bytes - before
    if case.startswith("hqq"):  # a byte holds rows from all bands of the matrix
        assert read <= info.nbytes
    else:
        assert read <= info.nbytes * 0.55 + 2500


@pytest.mark.parametrize("case", CASES)
def test_it_says_how_the_numbers_are_kept(case: str) -> None:
    with open_checkpoint(REFERENCE / case / "model.safetensors") as checkpoint:
        info = checkpoint.tensors[stored_name(checkpoint)]
        notes = " ".join(checkpoint.notes)
    kind = info.lattice.split(",")[0]
    assert re.fullmatch(r"int[1-8]|fp8 \(E4M3\)|fp4|nf4|mxfp[48]|nvfp4", kind)
    assert info.lattice in notes
    assert "config.json says" not in notes
    assert info.dtype == "F32"
    assert info.transposed == case.startswith(("gptq", "awq", "gpt-oss"))


@pytest.mark.parametrize("case", CASES)
def test_what_is_stored_is_read_once_and_not_decoded(case: str) -> None:
    path = REFERENCE / case / "model.safetensors"
    with open_checkpoint(path) as checkpoint:
        name = stored_name(checkpoint)
        before = checkpoint.meter.bytes
        blocks = list(checkpoint.read_stored(name, 1000))
        assert b"".join(blocks) == b"".join(checkpoint.read_stored(name, 1 << 20))
        assert 2 * sum(map(len, blocks)) == checkpoint.meter.bytes - before
        assert sum(map(len, blocks)) == checkpoint.tensors[name].nbytes
