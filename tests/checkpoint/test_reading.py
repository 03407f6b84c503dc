"""Whatever the format: what was written is what is read, by whole, by range and by row."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.checkpoint.strategies import arrays, as_float32, models, turned_arrays
from tests.checkpoint.writers import (
    AnyArray,
    encode_index,
    encode_safetensors,
    encode_torch_legacy,
    encode_torch_zip,
    kind_of,
)
from tests.naive.read_safetensors import read_safetensors

from homolog.checkpoint import source
from homolog.checkpoint.base import Checkpoint, Meter
from homolog.checkpoint.open import open_checkpoint

Model = dict[str, AnyArray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("written")


def _write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _check(checkpoint: Checkpoint, model: Model) -> None:
    assert list(checkpoint.tensors) == sorted(model)
    assert checkpoint.parameters == sum(array.size for array in model.values())
    assert checkpoint.nbytes == sum(array.nbytes for array in model.values())
    for name, array in model.items():
        expected = as_float32(array)
        info = checkpoint.tensors[name]
        assert (info.shape, info.dtype, info.nbytes) == (array.shape, kind_of(array), array.nbytes)
        read = checkpoint.read_rows(name)
        assert read.dtype == np.float32
        assert read.shape == expected.shape
        np.testing.assert_array_equal(read, expected)
        assert checkpoint.read_bytes(name) == array.tobytes()
        for row in range(len(expected)):
            np.testing.assert_array_equal(checkpoint.read_rows(name, row, row + 1), expected[row : row + 1])
        for depth in range(1, array.ndim if array.size else 1):
            last = tuple(length - 1 for length in array.shape[:depth])
            block = expected[last]
            np.testing.assert_array_equal(checkpoint.read_block(name, last), block)
            np.testing.assert_array_equal(checkpoint.read_block(name, last, 0, 1), block[:1])


@given(
    model=models(arrays()), metadata=st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2)
)
def test_safetensors_come_back_as_they_were_written(
    folder: Path, model: Model, metadata: dict[str, str] | None
) -> None:
    path = _write(folder / "model.safetensors", encode_safetensors(model, metadata))
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "safetensors"
        _check(checkpoint, model)
        for name, slow in read_safetensors(path).items():
            np.testing.assert_array_equal(checkpoint.read_rows(name).reshape(slow.shape), slow)


@pytest.mark.parametrize(("layout", "encode"), [("torch-zip", encode_torch_zip), ("torch-legacy", encode_torch_legacy)])
@given(model=models(turned_arrays()))
def test_torch_files_come_back_as_they_were_written(
    folder: Path, layout: str, encode: Callable[[Model], bytes], model: Model
) -> None:
    model = {f"{place}{name}": array for place, (name, array) in enumerate(model.items())}
    with open_checkpoint(_write(folder / "model.bin", encode(model))) as checkpoint:
        assert checkpoint.format == layout
        _check(checkpoint, model)


@pytest.mark.parametrize("turned", [False, True], ids=["row by row", "transposed"])
@given(data=st.data(), rows=st.integers(1, 40), width=st.sampled_from([1, 3, 600, 3000]))
def test_picked_rows_equal_fancy_indexing(
    folder: Path, turned: bool, data: st.DataObject, rows: int, width: int
) -> None:
    array = np.arange(rows * width, dtype=np.float32).reshape(rows, width)
    array = array.reshape(width, rows).T if turned else array
    ids = data.draw(st.lists(st.integers(0, rows - 1), max_size=12))
    with open_checkpoint(_write(folder / "picked.bin", encode_torch_zip({"w": array}))) as checkpoint:
        np.testing.assert_array_equal(checkpoint.read_rows_at("w", ids), array[np.asarray(ids, dtype=np.int64)])


@given(model=models(arrays()), seed=st.integers(0, 99), count=st.integers(1, 4))
def test_key_order_and_shards_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, model: Model, seed: int, count: int
) -> None:
    home = tmp_path_factory.mktemp("sharded")
    names = list(model)
    random.Random(seed).shuffle(names)
    shards = {f"model-{place + 1:05}-of-{count:05}.safetensors": names[place::count] for place in range(count)}
    for file, held in shards.items():
        (home / file).write_bytes(encode_safetensors({name: model[name] for name in held}))
    weight_map = {name: file for file, held in shards.items() for name in held}
    (home / "config.json").write_text("{}")
    without = open_checkpoint(home)
    (home / "model.safetensors.index.json").write_bytes(encode_index(weight_map))
    with without, open_checkpoint(home) as checkpoint:
        _check(checkpoint, model)
        _check(without, model)
        assert checkpoint.tensors == without.tensors


@given(gaps=st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_meter_counts_each_range_once_and_joins_neighbours(folder: Path, gaps: list[int]) -> None:
    width = 256  # 1 kB a row: up to four rows between two wanted ones are cheaper to read than a second request
    array = np.zeros((100, width), dtype=np.float32)
    with open_checkpoint(_write(folder / "metered.safetensors", encode_safetensors({"w": array}))) as checkpoint:
        ids = list(np.cumsum(gaps))
        before = (checkpoint.meter.bytes, checkpoint.meter.requests)
        checkpoint.read_rows_at("w", [int(i) for i in reversed(ids)])
        joined = sum(gap for gap in gaps[1:] if gap <= 5)
        apart = sum(gap > 5 for gap in gaps[1:])
        assert checkpoint.meter.bytes - before[0] == (joined + 1 + apart) * width * 4
        assert checkpoint.meter.requests - before[1] == 1 + apart


def test_meter_counts_the_header_and_the_digest_follows_what_was_read(tmp_path: Path) -> None:
    raw = encode_safetensors({"w": np.arange(12, dtype=np.float32).reshape(4, 3)})
    digests = set()
    for home in ("one", "two"):
        (tmp_path / home).mkdir()
        with open_checkpoint(_write(tmp_path / home / "w.safetensors", raw)) as checkpoint:
            opened = checkpoint.meter.bytes
            assert opened < len(raw) + 64
            checkpoint.read_rows("w", 1, 3)
            assert checkpoint.meter.bytes == opened + 2 * 3 * 4
            digests.add(checkpoint.meter.hexdigest())
            checkpoint.read_rows("w", 0, 1)
            assert checkpoint.meter.hexdigest() not in digests
    assert len(digests) == 1


def test_large_tensors_are_read_in_blocks(tmp_path: Path) -> None:
    array = np.arange(3 << 20, dtype=np.float32).reshape(3 << 10, 1 << 10)
    with open_checkpoint(
        _write(tmp_path / "large.safetensors", encode_safetensors({"w": array, "t": array[:8]}))
    ) as checkpoint:
        before = checkpoint.meter.requests
        np.testing.assert_array_equal(checkpoint.read_rows("w"), array)
        assert checkpoint.meter.requests - before == 4
        np.testing.assert_array_equal(checkpoint.read_rows_at("w", range(0, 3000, 2)), array[:3000:2])


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (0, 5), (3, 2), (5, None)])
def test_rows_outside_are_an_index_error(tmp_path: Path, start: int, stop: int | None) -> None:
    with open_checkpoint(_write(tmp_path / "m.safetensors", encode_safetensors({"w": np.zeros((4, 2))}))) as checkpoint:
        with pytest.raises(IndexError, match="of w, which has 4"):
            checkpoint.read_rows("w", start, stop)
        with pytest.raises(IndexError):
            checkpoint.read_rows_at("w", [0, 4])
        with pytest.raises(KeyError):
            checkpoint.read_rows("v")
        assert checkpoint.read_rows("w", 4).shape == (0, 2)
        assert checkpoint.read_rows_at("w", []).shape == (0, 2)


def test_threads_read_the_same_where_a_system_knows_no_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_HAS_PREAD", False)
    rows = np.arange(40_000, dtype=np.float32).reshape(400, 100)
    path = _write(tmp_path / "w.safetensors", encode_safetensors({"w": rows}))
    with open_checkpoint(path) as checkpoint, ThreadPoolExecutor(4) as threads:
        starts = random.Random(1).choices(range(399), k=400)
        for start, block in zip(
            starts, threads.map(lambda at: checkpoint.read_rows("w", at, at + 1), starts), strict=True
        ):
            np.testing.assert_array_equal(block, rows[start : start + 1])


def test_a_file_that_shrinks_is_malformed_not_short(tmp_path: Path) -> None:
    from homolog.errors import MalformedCheckpoint

    path = _write(tmp_path / "m.safetensors", encode_safetensors({"w": np.zeros((4, 2))}))
    with open_checkpoint(path) as checkpoint:
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(MalformedCheckpoint, match="before the end"):
            checkpoint.read_rows("w")


def test_bytes_read_twice_count_once_among_the_distinct() -> None:
    meter = Meter()
    for where, start, size in (("x", 0, 10), ("x", 5, 10), ("x", 30, 5), ("x", 0, 10), ("y", 0, 7), ("x", 2, 3)):
        meter.record(where, start, bytes(size))
    assert meter.bytes == 45
    assert meter.count_distinct(["x"]) == 20
    assert meter.count_distinct(["x", "y", "z"]) == 27
