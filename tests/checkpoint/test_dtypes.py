"""Each kind of number widens to the float32 that numpy and ml_dtypes say it is, for every bit pattern, without a warning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.strategies import as_float32
from tests.checkpoint.writers import NUMPY_KINDS, pack_safetensors

from homolog.checkpoint.dtypes import DTYPES
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import UnsupportedFormat


@pytest.mark.parametrize("kind", sorted(NUMPY_KINDS))
def test_every_pattern_widens_exactly(kind: str) -> None:
    dtype = np.dtype(NUMPY_KINDS[kind])
    if dtype.itemsize <= 2:
        raw = np.arange(1 << 8 * dtype.itemsize).astype(f"<u{dtype.itemsize}").tobytes()
    else:
        raw = np.random.default_rng(0).bytes(1 << 14)
    if kind == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    array = np.frombuffer(raw, dtype=dtype)
    stored = np.frombuffer(raw, dtype=DTYPES[kind].storage)
    widened = DTYPES[kind].widen(stored)
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, as_float32(array))


def test_any_byte_but_zero_is_true() -> None:
    np.testing.assert_array_equal(DTYPES["BOOL"].widen(np.array([0, 1, 2, 255], dtype=np.uint8)), [0, 1, 1, 1])


def test_beyond_float32_becomes_infinite() -> None:
    np.testing.assert_array_equal(DTYPES["F64"].widen(np.array([1e300, -1e300, np.nan])), [np.inf, -np.inf, np.nan])


@pytest.mark.parametrize(("kind", "nbytes"), [("F4", 2), ("F6_E2M3", 3), ("F6_E3M2", 3), ("C64", 32), ("C128", 64)])
def test_kinds_that_are_only_named_list_but_do_not_read(tmp_path: Path, kind: str, nbytes: int) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(pack_safetensors({"w": {"dtype": kind, "shape": [4], "data_offsets": [0, nbytes]}}, bytes(nbytes)))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tensors["w"].dtype == kind
        with pytest.raises(UnsupportedFormat, match=kind):
            checkpoint.read_rows("w")
