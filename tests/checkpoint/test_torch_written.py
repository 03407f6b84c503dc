"""Files that torch 2.13.0 wrote (``fixtures/make_fixtures.py``), in both layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import UnsafeCheckpoint

FIXTURES = Path(__file__).parent / "fixtures"
LAYOUTS = {"zip": "torch-zip", "legacy": "torch-legacy", "protocol4": "torch-zip"}


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_every_kind_that_torch_writes(layout: str) -> None:
    with open_checkpoint(FIXTURES / f"kinds.{layout}.pt") as checkpoint:
        assert checkpoint.format == LAYOUTS[layout]
        assert len({info.dtype for info in checkpoint.tensors.values()}) == 17
        for name in checkpoint.tensors:
            expected = np.minimum(np.arange(6), 1 if name == "bool" else 5).reshape(2, 3)
            np.testing.assert_array_equal(checkpoint.read_rows(name), expected)


@pytest.mark.parametrize("layout", ["zip", "legacy", "protocol4"])
def test_views_read_as_torch_shows_them(layout: str) -> None:
    base = np.arange(24).reshape(4, 6)
    table = np.arange(20).reshape(5, 4)
    expected = {
        "base": base,
        "cube": np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        "embed.weight": table,
        "empty": np.empty((0, 3)),
        "head.weight": table,
        "scalar": np.array([7]),
        "slice": base[1:3, 2:5],
        "spread": np.tile(np.arange(3), (4, 1)),
        "steps": base[::2, ::3],
        "turned": base.T,
    }
    with open_checkpoint(FIXTURES / f"views.{layout}.pt") as checkpoint:
        assert checkpoint.format == LAYOUTS[layout]
        assert list(checkpoint.tensors) == list(expected)
        assert checkpoint.notes == ()
        for name, array in expected.items():
            np.testing.assert_array_equal(checkpoint.read_rows(name), array)
            ids = list(range(len(array)))[::-1]
            np.testing.assert_array_equal(checkpoint.read_rows_at(name, ids), array[ids])
            assert len(checkpoint.read_bytes(name)) == checkpoint.tensors[name].nbytes


@pytest.mark.parametrize("layout", ["zip", "legacy"])
def test_a_training_state_is_unwrapped_and_says_so(layout: str) -> None:
    with open_checkpoint(FIXTURES / f"training.{layout}.pt") as checkpoint:
        assert list(checkpoint.tensors) == ["bias", "extra", "weight"]
        np.testing.assert_array_equal(checkpoint.read_rows("weight"), np.arange(6).reshape(2, 3))
        wrapped, prefixed = checkpoint.notes
        assert "'state_dict'" in wrapped
        assert "'module.'" in prefixed


def test_a_pickled_module_is_refused_by_name() -> None:
    with pytest.raises(UnsafeCheckpoint, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        open_checkpoint(FIXTURES / "module.pt")
    assert caught.value.at == "pickle, byte 2"
    assert "safetensors" in caught.value.expected
