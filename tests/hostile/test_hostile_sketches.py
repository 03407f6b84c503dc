"""A sketch that was cut short, edited, blown up or made up: one typed error each, in bounded time and memory."""

from __future__ import annotations

import hashlib
import json
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from tests.naive.sketches import read_members

from homolog.errors import CheckpointError, MalformedCheckpoint, UnsupportedFormat
from homolog.pipeline import compare
from homolog.sketch.container import MANIFEST, encode_array, pack
from homolog.sketch.make import make_sketch
from homolog.sketch.opened import open_model

ZOO = Path(__file__).parents[1] / "zoo"
SECONDS, BYTES = 2.0, 300_000_000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "good.hsk"
    make_sketch(ZOO / "a", path, full=True, dimensions=16)
    return path


def refuse(path: Path, kind: type[CheckpointError] = MalformedCheckpoint) -> CheckpointError:
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            open_model(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < SECONDS
    assert peak < BYTES
    assert type(caught.value) is kind, str(caught.value)
    assert caught.value.at
    assert len(str(caught.value)) < 1500 + len(str(path))
    return caught.value


def _edited(good: Path, tmp_path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """With the digests written anew: what only the checks behind them can find."""
    members = read_members(good)
    change(members)
    path = tmp_path / "edited.hsk"
    path.write_bytes(pack(members))
    return path


def _manifest(members: dict[str, bytes], change: Mapping[str, Any]) -> None:
    document = json.loads(members[MANIFEST])
    for key, value in change.items():
        inner = document
        *way, last = key.split(".")
        for step in way:
            inner = inner[step]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value
    members[MANIFEST] = json.dumps(document).encode()


def test_every_cut_is_found(good: Path, tmp_path: Path) -> None:
    body = good.read_bytes()
    cut = tmp_path / "cut.hsk"
    for length in [0, 1, 3, 4, 29, 64, 500, 4096, len(body) // 2, len(body) - 30, len(body) - 1]:
        cut.write_bytes(body[:length])
        refuse(cut)


def test_every_single_edit_is_found(good: Path, tmp_path: Path) -> None:
    """Of members, their digests, or the directory: of the archive's own fields those that nobody reads are free."""
    body, random = good.read_bytes(), Random(1)
    with zipfile.ZipFile(good) as archive:
        spans = [(entry.header_offset + 30 + len(entry.filename), entry.file_size) for entry in archive.infolist()]
    edited = tmp_path / "edited.hsk"
    for start, size in spans:
        for place in {start, start + size - 1, start + random.randrange(max(size, 1))}:
            changed = bytearray(body)
            changed[place] ^= 1 << random.randrange(8)
            edited.write_bytes(changed)
            refuse(edited)


def test_another_version_is_refused_with_what_to_do(good: Path, tmp_path: Path) -> None:
    path = _edited(good, tmp_path, lambda members: _manifest(members, {"version": 2}))
    error = refuse(path, UnsupportedFormat)
    assert error.found == "a sketch of version 2"
    assert "version 1" in error.expected
    with pytest.raises(UnsupportedFormat):
        compare(path, ZOO / "a")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "something.else"},
        {"version": "1"},
        {"version": True},
        {"options.dimensions": 10**9},
        {"options.seed": -1},
        {"dims.layers": 10**9},
        {"dims.width": 65},
        {"dims.vocab": 7},
        {"blocks": []},
        {"blocks": [[0, -1, 0, 128, 10**9, 0]]},
        {"blocks": [[0, -1, 0, 128, 128, 0]] * 5},
        {"blocks": [[9, -1, 0, 128, 128, 0]]},
        {"blocks": [[0, -1, 0, 128]]},
        {"blocks": {"0": 1}},
        {"heads": [[0, 2, 0, 16, 0]]},
        {"routers": [[0, 8, 8]]},
        {"channels": []},
        {"channels": [["norm.attn", "weight", 0, -1, 0, "x" * 3000]]},
        {"spreads": ["q", "z", "k", "v"]},
        {"tables": {"embed": {"precision": 0.1, "flaw": 0}, "../x": {"precision": 0.1, "flaw": 0}}},
        {"tables": {"embed": {"precision": float("nan"), "flaw": 0}}},
        {"tables": {"embed": {"precision": 0.1, "flaw": 99}}},
        {"tokens.classes": []},
        {"source.digest": "sha256:xyz"},
        {"source.parameters": -1},
        {"source": KeyError},
        {"traits.ordered": [1]},
        {"warnings": "none"},
        {"warnings": [1]},
        {"lattice": 4},
        {"lattice": "int4\x1b[2J"},
        {"lattice": "int4 " * 100},
    ],
)
def test_what_the_manifest_cannot_say(good: Path, tmp_path: Path, change: Mapping[str, Any]) -> None:
    refuse(_edited(good, tmp_path, lambda members: _manifest(members, change)))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 100_000, b'"text"', b"\xff\xfe", b'{"a":' * 50_000, b'{"version": ' + b"9" * 100_000 + b"}"],
)
def test_a_manifest_that_is_no_manifest(good: Path, tmp_path: Path, body: bytes) -> None:
    refuse(_edited(good, tmp_path, lambda members: members.update({MANIFEST: body})))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("units.up", np.zeros((640, 16), dtype=np.int16)),
        ("units.up", np.zeros((640, 16), dtype=">i2")),
        ("units.up", np.zeros((640, 17), dtype=np.int8)),
        ("units.up", np.zeros((639, 16), dtype=np.int8)),
        ("units.up", np.zeros(640 * 16, dtype=np.int8)),
        ("units.up", np.zeros((640, 16, 1), dtype=np.int8)),
        ("units.up", np.asfortranarray(np.zeros((640, 16), dtype=np.int8))),
        ("units.up.scale", np.zeros(640, dtype=np.float64)),
        ("units.profile", np.zeros((640, 2), dtype=np.float32)),
        ("units.profile.down", np.zeros((640, 3), dtype=np.float32)),
        ("units.digest", np.zeros((5, 15), dtype=np.uint8)),
        ("tokens.id", np.zeros(100_000, dtype=np.uint32)),
        ("tokens.untrained.class", np.full(37, 200, dtype=np.uint8)),
        ("embed.columns", np.zeros((10, 64), dtype=np.float32)),
        ("channels", np.zeros((11, 65), dtype=np.uint16)),
        ("spreads", np.zeros((4, 6), dtype=np.float32)),
    ],
)
def test_arrays_of_other_kinds_and_shapes(good: Path, tmp_path: Path, name: str, array: np.ndarray[Any, Any]) -> None:
    def change(members: dict[str, bytes]) -> None:
        members[f"{name}.npy"] = encode_array(array)
        if array.flags.f_contiguous and not array.flags.c_contiguous:
            members[f"{name}.npy"] = members[f"{name}.npy"].replace(
                b"'fortran_order': False", b"'fortran_order': True "
            )

    refuse(_edited(good, tmp_path, change))


@pytest.mark.parametrize(
    "header",
    [
        b"{'descr': '|O', 'fortran_order': False, 'shape': (640, 16), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (9999999999, 9999999999), }",
        b"{'descr': '|i1', 'fortran_order': False, 'shape': (-1, 16), }",
        b"__import__('os').system('true')",
        b"(" * 900,
    ],
)
def test_headers_of_arrays_are_not_evaluated(good: Path, tmp_path: Path, header: bytes) -> None:
    def change(members: dict[str, bytes]) -> None:
        text = header.ljust(117 if len(header) < 117 else len(header)) + b"\n"
        members["units.up.npy"] = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(640 * 16)

    refuse(_edited(good, tmp_path, change))


def _write_zip(path: Path, members: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> Path:
    sums = "".join(f"{hashlib.sha256(body).hexdigest()}  {name}\n" for name, body in members.items())
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, body in (*members.items(), ("SHA256SUMS", sums.encode())):
            archive.writestr(name, body)
    return path


def test_bombs_are_not_unpacked(good: Path, tmp_path: Path) -> None:
    members = read_members(good)
    bomb = _write_zip(tmp_path / "bomb.hsk", members | {"x.npy": bytes(200_000_000)}, method=zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 2_000_000
    assert "members" in refuse(bomb).found
    many = members | {f"{number}.npy": b"" for number in range(300)}
    refuse(_write_zip(tmp_path / "many.hsk", many))


def test_a_member_that_unpacks_to_more_than_it_says(good: Path, tmp_path: Path) -> None:
    members = read_members(good) | {"x.npy": bytes(50_000_000)}
    path = _write_zip(tmp_path / "liar.hsk", members, method=zipfile.ZIP_DEFLATED)
    body = path.read_bytes()
    path.write_bytes(body.replace((50_000_000).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    refuse(path)


def test_no_name_becomes_a_path(good: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for name in ("../../evil", "/etc/passwd", "a\\b", "x" * 5000):
        path = tmp_path / "paths.hsk"
        _write_zip(path, read_members(good) | {name: b"evil"})
        refuse(path)
        path.unlink()
    assert sorted(tmp_path.rglob("*")) == before


OPTIONAL = (".turned", "units.profile.down", "tensors.jsonl")


def test_members_that_are_missing_or_unlisted(good: Path, tmp_path: Path) -> None:
    for name in read_members(good):
        if name != MANIFEST and "units.gate" not in name and not any(part in name for part in OPTIONAL):
            refuse(_edited(good, tmp_path, lambda members, name=name: members.pop(name)))  # type: ignore[misc]
    members = read_members(good)
    bare = {name: body for name, body in members.items() if name != MANIFEST}
    refuse(_write_zip(tmp_path / "bare.hsk", bare))
    _write_zip(tmp_path / "unlisted.hsk", members)
    with zipfile.ZipFile(tmp_path / "unlisted.hsk", "a") as archive:
        archive.writestr("more.npy", b"")
    refuse(tmp_path / "unlisted.hsk")


@pytest.mark.parametrize("part", OPTIONAL)
def test_without_its_optional_members_it_is_another_sketch(good: Path, tmp_path: Path, part: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        for name in [name for name in members if part in name]:
            del members[name]

    comparison = compare(_edited(good, tmp_path, change), ZOO / "a-washed")
    assert comparison.verdict.verdict in ("related", "inconclusive")


def test_numbers_that_are_none_do_not_come_through(good: Path, tmp_path: Path) -> None:
    """NaN and Inf where numbers belong are flaws of a model: reported, and never part of a result."""

    def change(members: dict[str, bytes]) -> None:
        for name in ("units.up.scale", "units.profile", "channels", "spreads", "embed.columns", "values.scale"):
            shape = {"units.profile": (640, 3), "channels": (11, 64), "spreads": (4, 5), "embed.columns": (472, 64)}
            filled = np.full(shape.get(name, (640 if "units" in name else 160,)), np.inf, dtype=np.float32)
            filled.flat[::2] = np.nan
            members[f"{name}.npy"] = encode_array(filled)

    path = _edited(good, tmp_path, change)
    comparison = compare(path, ZOO / "a")
    assert comparison.verdict.verdict == "inconclusive"
    json.dumps(comparison.to_json(), allow_nan=False)


def test_other_archives_are_not_sketches(good: Path, tmp_path: Path) -> None:
    _write_zip(tmp_path / "other.hsk", {"word/document.xml": b"<a/>"})
    assert "other contents" in refuse(tmp_path / "other.hsk").found
    (tmp_path / "text.hsk").write_text("not a sketch at all, but a text that is long enough to be looked at")
    refuse(tmp_path / "text.hsk")
