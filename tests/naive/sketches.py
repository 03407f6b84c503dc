"""Slow oracles of what a sketch file holds, from docs/data-model.md alone: the standard library and plain loops."""

from __future__ import annotations

import ast
import hashlib
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

_FORMATS = {"|i1": "b", "|u1": "B", "<i2": "h", "<u2": "H", "<u4": "I", "<u8": "Q", "<f2": "e", "<f4": "f"}


def read_members(path: Path) -> dict[str, bytes]:
    """Every member, its digest checked."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        assert names[0] == "homolog.sketch.json"
        assert names[-1] == "SHA256SUMS"
        assert names[1:-1] == sorted(names[1:-1])
        for entry in archive.infolist():
            assert entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
        members = {name: archive.read(name) for name in names}
    lines = members.pop("SHA256SUMS").decode("ascii").splitlines()
    assert lines == [f"{hashlib.sha256(members[name]).hexdigest()}  {name}" for name in names[:-1]]
    return members


def read_array(body: bytes) -> tuple[tuple[int, ...], list[Any]]:
    """Shape and numbers of an npy file."""
    assert body[:8] == b"\x93NUMPY\x01\x00"
    length = struct.unpack("<H", body[8:10])[0]
    header = ast.literal_eval(body[10 : 10 + length].decode("ascii"))
    assert header["fortran_order"] is False
    kind = _FORMATS[header["descr"]]
    count = 1
    for size in header["shape"]:
        count *= size
    numbers = list(struct.unpack(f"<{count}{kind}", body[10 + length :]))
    if header["descr"] == "<u2":
        numbers = [struct.unpack("<f", struct.pack("<I", number << 16))[0] for number in numbers]
    return header["shape"], numbers


def read_rows(members: dict[str, bytes], name: str) -> list[list[float]]:
    """A scaled array as rows of numbers."""
    (count, length), numbers = read_array(members[f"{name}.npy"])
    _, scales = read_array(members[f"{name}.scale.npy"])
    return [[scales[row] * numbers[row * length + column] for column in range(length)] for row in range(count)]


def read_manifest(members: dict[str, bytes]) -> dict[str, Any]:
    """The JSON of a sketch."""
    document: dict[str, Any] = json.loads(members["homolog.sketch.json"].decode("ascii"))
    return document


def draw_signs(seed: int, width: int, dimensions: int) -> list[list[int]]:
    """The projection, sign by sign."""
    count = width * dimensions
    stream = hashlib.shake_256(f"homolog.sketch/1 signs {seed} {width} {dimensions}".encode()).digest((count + 7) // 8)
    signs = [-1 if stream[i // 8] >> (i % 8) & 1 else 1 for i in range(count)]
    return [signs[row * dimensions : (row + 1) * dimensions] for row in range(width)]
