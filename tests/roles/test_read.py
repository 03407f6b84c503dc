"""A role reads the same numbers however its tensor is stored: as rows, as columns, alone or fused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.roles.cases import CASES, Case
from tests.roles.memory import MemoryCheckpoint, of_shapes

from homolog.roles import read
from homolog.roles.read import count_units, read_units, read_units_at, read_vector
from homolog.roles.resolve import resolve
from homolog.roles.role import Role, Space, View


@dataclass(frozen=True)
class Stored:
    """A matrix (units, residual) laid into a tensor in some way."""

    checkpoint: MemoryCheckpoint
    view: View
    matrix: npt.NDArray[np.float32]


@st.composite
def stored(draw: st.DrawFn) -> Stored:
    units, residual = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    seed = draw(st.integers(0, 2**32 - 1))
    matrix = np.random.default_rng(seed).normal(size=(units, residual)).astype(np.float32)
    transposed = draw(st.booleans())
    block = matrix.T if transposed else matrix
    axes = (Space.RESIDUAL, Space.FFN) if transposed else (Space.FFN, Space.RESIDUAL)
    axis = draw(st.integers(0, 1))
    before, after = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    shapes = [tuple(length if at == axis else block.shape[at] for at in (0, 1)) for length in (before, after)]
    whole = np.concatenate([np.full(shapes[0], np.nan), block, np.full(shapes[1], np.nan)], axis=axis)
    checkpoint = MemoryCheckpoint({"w": whole.astype(np.float32)})
    cut = before or after
    stop = before + block.shape[axis] if cut else None
    view = View("w", axes, block.shape, axis if cut else 0, before if cut else 0, stop)
    return Stored(checkpoint, view, matrix)


@given(stored(), st.data())
def test_a_slab_of_units_is_the_slab_of_the_matrix(one: Stored, data: st.DataObject) -> None:
    units, residual = one.matrix.shape
    start = data.draw(st.integers(0, units))
    stop = data.draw(st.integers(start, units))
    low = data.draw(st.integers(0, residual))
    high = data.draw(st.integers(low, residual))
    assert count_units(one.view, Space.FFN) == units
    got = read_units(one.checkpoint, one.view, Space.FFN, start, stop)
    np.testing.assert_array_equal(got, one.matrix[start:stop])
    assert got.dtype == np.float32
    got = read_units(one.checkpoint, one.view, Space.FFN, start, stop, residual=slice(low, high))
    np.testing.assert_array_equal(got, one.matrix[start:stop, low:high])
    np.testing.assert_array_equal(read_units(one.checkpoint, one.view, Space.RESIDUAL), one.matrix.T)


@given(stored(), st.data())
def test_units_by_their_ids_come_in_the_order_asked_for(one: Stored, data: st.DataObject) -> None:
    units, residual = one.matrix.shape
    ids = data.draw(st.lists(st.integers(0, units - 1), max_size=12))
    low = data.draw(st.integers(0, residual))
    got = read_units_at(one.checkpoint, one.view, Space.FFN, ids, residual=slice(low, None))
    np.testing.assert_array_equal(got, one.matrix[ids, low:])


@given(stored(), st.integers(1, 5))
def test_reading_in_small_blocks_changes_nothing(one: Stored, numbers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "_BLOCK_NUMBERS", numbers)
        np.testing.assert_array_equal(read_units(one.checkpoint, one.view, Space.FFN), one.matrix)


@pytest.mark.parametrize("one", CASES, ids=str)
def test_every_role_reads_its_own_part_of_its_tensor(one: Case) -> None:
    checkpoint = of_shapes(one.tensors, one.config)
    for view in resolve(checkpoint).views.values():
        block = checkpoint.arrays[view.tensor][view.index]
        block = block.reshape(len(block), -1) if len(view.shape) == 2 else block
        run, period = (view.run, view.period) if view.run else (view.shape[view.axis], 0)
        places = [view.start + i // run * period + i % run for i in range(view.shape[view.axis])]
        assert places[-1] + 1 == (view.stop or block.shape[view.axis])
        expected = np.take(block, places, axis=view.axis)
        if len(view.shape) == 1:
            np.testing.assert_array_equal(read_vector(checkpoint, view), expected)
        elif view.axes[0] is not view.axes[1]:
            np.testing.assert_array_equal(read_units(checkpoint, view, view.axes[0]), expected)
            np.testing.assert_array_equal(read_units(checkpoint, view, view.axes[1]), expected.T)


def gpt2(units: int, residual: int) -> tuple[MemoryCheckpoint, View, npt.NDArray[np.float32]]:
    matrix = np.random.default_rng(0).normal(size=(residual, units)).astype(np.float32)
    checkpoint = MemoryCheckpoint({"h.0.mlp.c_fc.weight": matrix})
    return checkpoint, View("h.0.mlp.c_fc.weight", (Space.RESIDUAL, Space.FFN), matrix.shape), matrix


def test_units_stored_as_columns_are_sampled_by_a_slab_of_rows() -> None:
    checkpoint, view, matrix = gpt2(units=512, residual=128)
    got = read_units(checkpoint, view, Space.FFN, 0, 64, residual=slice(32, 48))
    np.testing.assert_array_equal(got, matrix[32:48, :64].T)
    assert (checkpoint.meter.requests, checkpoint.meter.bytes) == (1, 16 * 512 * 4)


def test_units_stored_as_rows_are_one_contiguous_read() -> None:
    checkpoint, view, matrix = gpt2(units=512, residual=128)
    np.testing.assert_array_equal(read_units(checkpoint, view, Space.RESIDUAL, 8, 24), matrix[8:24])
    assert (checkpoint.meter.requests, checkpoint.meter.bytes) == (1, 16 * 512 * 4)


def test_a_vector_is_cut_like_a_matrix() -> None:
    checkpoint = MemoryCheckpoint({"b": np.arange(12, dtype=np.float32)})
    view = View("b", (Space.KV,), (4,), 0, 4, 8)
    np.testing.assert_array_equal(read_vector(checkpoint, view), [4, 5, 6, 7])
    np.testing.assert_array_equal(read_vector(checkpoint, view, 1, 3), [5, 6])


def test_misuse_is_refused() -> None:
    checkpoint, view, _ = gpt2(units=8, residual=4)
    with pytest.raises(ValueError, match="has the axes residual × ffn: asked for kv"):
        read_units(checkpoint, view, Space.KV)
    with pytest.raises(IndexError, match="units 3:9 of 8"):
        read_units(checkpoint, view, Space.FFN, 3, 9)
    with pytest.raises(IndexError, match="units 0 to 8 of 8"):
        read_units_at(checkpoint, view, Space.FFN, [0, 8])
    with pytest.raises(IndexError, match="units -1 to 0 of 8"):
        read_units_at(checkpoint, view, Space.FFN, [0, -1])
    with pytest.raises(ValueError, match="a slab of the other axis is contiguous"):
        read_units(checkpoint, view, Space.FFN, residual=slice(0, 4, 2))
    with pytest.raises(ValueError, match="it is not a vector"):
        read_vector(checkpoint, view)
    bias = View("b", (Space.FFN,), (4,))
    with pytest.raises(IndexError, match="entries 2:5 of 4"):
        read_vector(checkpoint, bias, 2, 5)


def test_roles_say_in_words_where_they_belong() -> None:
    assert str(Role("ffn.up", layer=3, expert=7)) == "layer 3 expert 7 ffn.up weight"
    assert str(Role("ffn.up", layer=3, shared=True)) == "layer 3 shared expert ffn.up weight"
    assert str(Role("head", "bias", detail="qa")) == "head.qa bias"
