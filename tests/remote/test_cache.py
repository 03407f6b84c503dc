from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.checkpoint.cache import BlockCache

_FILE = bytes(range(256)) * 4


def _fill(cache: BlockCache, *spans: tuple[int, int]) -> None:
    blocks = cache.blocks("file")
    for start, stop in spans:
        blocks.add(start, _FILE[start:stop])


@given(
    spans=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 120)), max_size=12),
    asked=st.lists(st.tuples(st.integers(0, 900), st.integers(1, 120)), min_size=1, max_size=6),
)
def test_what_is_missing_and_what_is_kept_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    kept: set[int] = set()
    for start, length in spans:  # every other range by another process, whose view is its own
        _fill(BlockCache(folder), (start, start + length))
        kept |= {*range(start, start + length)}
    blocks = BlockCache(folder).blocks("file")
    for start, length in asked:
        missing = blocks.missing(start, start + length)
        assert {i for first, last in missing for i in range(first, last)} == {*range(start, start + length)} - kept
        assert blocks.read(start, start + length) == (None if missing else _FILE[start : start + length])
        for first, last in missing:
            blocks.add(first, _FILE[first:last])
        assert blocks.read(start, start + length) == _FILE[start : start + length]
        kept |= {*range(start, start + length)}


def test_versions_of_a_file_are_kept_apart(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path)
    cache.blocks("etag 1").add(0, b"old")
    assert cache.blocks("etag 2").read(0, 3) is None
    assert BlockCache(tmp_path).blocks("etag 1").read(0, 3) == b"old"


@pytest.mark.parametrize("damage", ["cut", "flip", "longer", "empty"])
def test_damage_is_found_and_fetched_again(tmp_path: Path, damage: str) -> None:
    _fill(BlockCache(tmp_path), (0, 100))
    (path,) = (path for path in tmp_path.rglob("*") if path.is_file())
    whole = path.read_bytes()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    path.write_bytes({"cut": whole[:50], "flip": flipped, "longer": whole + b"x", "empty": b""}[damage])
    blocks = BlockCache(tmp_path).blocks("file")
    assert blocks.read(10, 20) is None
    assert blocks.missing(10, 20) == [(10, 20)]


def test_the_oldest_goes_first_when_it_is_full(tmp_path: Path) -> None:
    for number in range(8):
        BlockCache(tmp_path, 10**9).blocks(f"file {number}").add(0, bytes(100_000))
    paths = sorted((path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate(paths):
        os.utime(path, (1000 + age, 1000 + age))
    BlockCache(tmp_path, 500_000).sweep()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths[-4:])


def test_writing_keeps_below_the_limit(tmp_path: Path) -> None:
    cache = BlockCache(tmp_path, 300_000)
    for number in range(20):
        cache.blocks("file").add(number * 50_000, bytes(50_000))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 300_000


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from homolog.checkpoint.cache import BlockCache\n"
        "Path.replace = lambda self, target: os.kill(os.getpid(), 9)\n"
        "BlockCache(Path(sys.argv[1])).blocks('file').add(0, bytes(1000))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name[0] for path in left] == ["."]
    _fill(BlockCache(tmp_path), (0, 10))
    assert not left[0].exists()
