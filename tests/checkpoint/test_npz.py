"""numpy's archives: every kind, both orders of storage, stored in place or deflated."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.onnx_writers import encode_npy, encode_npz
from tests.checkpoint.writers import NUMPY_KINDS, AnyArray, encode_safetensors, write_zip

from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare

NUMPY_OWN = [kind for kind in NUMPY_KINDS if not kind.startswith("F8")]


@pytest.mark.parametrize("kind", NUMPY_OWN)
@pytest.mark.parametrize("deflate", [False, True])
def test_every_kind_is_read_stored_and_deflated(tmp_path: Path, kind: str, deflate: bool) -> None:
    array = np.arange(12).reshape(4, 3).astype(NUMPY_KINDS[kind])
    path = tmp_path / "model.npz"
    path.write_bytes(encode_npz({"a.weight": array}, deflate=deflate))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "npz"
        assert checkpoint.tensors["a.weight"].dtype == kind
        assert np.array_equal(checkpoint.read_rows("a.weight", 1, 3), array[1:3].astype(np.float32))
        assert checkpoint.read_bytes("a.weight") == array.tobytes()


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(tmp_path: Path, write: object) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, AnyArray] = {
        "rows": rng.standard_normal((5, 7)).astype(np.float32),
        "columns": np.asfortranarray(rng.standard_normal((5, 7)).astype(np.float64)),
        "scalar": np.array(3, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float16),
        "stack": rng.standard_normal((2, 3, 4)).astype(np.float32),
    }
    out = io.BytesIO()
    assert callable(write)
    write(out, **arrays)
    path = tmp_path / "model.npz"
    path.write_bytes(out.getvalue())
    with open_checkpoint(path) as checkpoint:
        assert set(checkpoint.tensors) == set(arrays)
        for name, array in arrays.items():
            assert checkpoint.tensors[name].shape == array.shape
            assert np.array_equal(checkpoint.read_rows(name), np.atleast_1d(array).astype(np.float32))


def test_stored_arrays_are_read_by_range(tmp_path: Path) -> None:
    array = np.random.default_rng(1).standard_normal((512, 256)).astype(np.float32)
    path = tmp_path / "model.npz"
    path.write_bytes(encode_npz({"a": array}))
    with open_checkpoint(path) as checkpoint:
        before = checkpoint.meter.bytes
        assert np.array_equal(checkpoint.read_rows("a", 7, 8), array[7:8])
        assert checkpoint.meter.bytes - before == 1024


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_header(tmp_path: Path, version: int) -> None:
    array = np.arange(6, dtype=np.float32)
    path = tmp_path / "model.npz"
    path.write_bytes(write_zip({"a.npy": encode_npy(array, version=version)}))
    with open_checkpoint(path) as checkpoint:
        assert np.array_equal(checkpoint.read_rows("a"), array)


def test_a_model_and_its_copy_in_an_npz_are_identical(tmp_path: Path) -> None:
    zoo = Path(__file__).parents[1] / "zoo" / "a"
    with open_checkpoint(zoo) as checkpoint:
        arrays = {name: checkpoint.read_rows(name) for name in checkpoint.tensors}
    (tmp_path / "model.npz").write_bytes(encode_npz(arrays))
    (tmp_path / "copy.safetensors").write_bytes(encode_safetensors(arrays))
    assert compare(tmp_path / "copy.safetensors", tmp_path / "model.npz").verdict.verdict == "identical"
    assert compare(zoo, tmp_path / "model.npz").verdict.verdict == "identical"
