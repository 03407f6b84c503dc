"""Arrays of every kind and every bit pattern."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from tests.checkpoint.writers import NUMPY_KINDS, STORAGES, AnyArray

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name != "__metadata__"
)


@st.composite
def arrays(draw: st.DrawFn, kinds: tuple[str, ...] = tuple(NUMPY_KINDS)) -> AnyArray:
    """One array of up to three axes, NaN and Inf among its numbers."""
    dtype = np.dtype(NUMPY_KINDS[draw(st.sampled_from(kinds))])
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    if dtype == np.bool_:
        raw = bytes(byte & 1 for byte in raw)
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


@st.composite
def turned_arrays(draw: st.DrawFn) -> AnyArray:
    """Arrays of kinds that torch has storages for, some with their axes in another order than in memory."""
    array = draw(arrays(tuple(STORAGES)))
    return array.transpose(draw(st.permutations(range(array.ndim))))


def models(of: st.SearchStrategy[AnyArray]) -> st.SearchStrategy[dict[str, AnyArray]]:
    """A few arrays by name."""
    return st.dictionaries(NAMES, of, min_size=1, max_size=6)


def as_float32(array: AnyArray) -> AnyArray:
    """What reading the array must yield; a scalar is one row."""
    with np.errstate(all="ignore"):
        return array.astype(np.float32).reshape(array.shape or (1,))
