"""Bad GGUF files: one typed error each, within the time and memory of the other formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint.gguf_writer import Stored, encode_gguf, info, plain, text
from tests.hostile.test_hostile_files import refuse

from homolog.errors import CheckpointError, MalformedCheckpoint, UnsupportedFormat

NUMBERS = plain("w", np.arange(8, dtype=np.float32))
GOOD = encode_gguf({"general.architecture": "llama"}, [NUMBERS])
COUNTS = struct.Struct("<IQQ")


def head(tensors: int, keys: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + COUNTS.pack(version, tensors, keys) + rest


def key(kind: int, body: bytes, name: str = "k") -> bytes:
    return head(0, 1, text(name) + struct.pack("<I", kind) + body)


def array(kind: int, count: int, body: bytes = b"") -> bytes:
    return key(9, struct.pack("<IQ", kind, count) + body)


def one(shape: tuple[int, ...] = (8,), kind: str | int = "F32", data: bytes = bytes(32), **given: Any) -> bytes:
    return encode_gguf({}, [Stored("w", shape, kind, data)], **given)


NESTED = struct.pack("<IQ", 9, 1) * 1000
FILES: dict[str, tuple[bytes, type[CheckpointError]]] = {
    "magic and no more": (b"GGUF", MalformedCheckpoint),
    "a magic of other case": (b"gguf" + GOOD[4:], UnsupportedFormat),
    "version 1": (head(0, 0, version=1), UnsupportedFormat),
    "version 4": (head(0, 0, version=4), UnsupportedFormat),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), UnsupportedFormat),
    "2^60 tensors": (one(counts=(1 << 60, 0)), MalformedCheckpoint),
    "2^64 - 1 keys": (one(counts=(1, (1 << 64) - 1)), MalformedCheckpoint),
    "more tensors than there are": (one(counts=(2, 0)), MalformedCheckpoint),
    "more keys than there are": (encode_gguf({"a": 1}, [], counts=(0, 2)), MalformedCheckpoint),
    "a key of 2^63 bytes": (head(0, 1, struct.pack("<Q", 1 << 63) + bytes(64)), MalformedCheckpoint),
    "a key without a name": (key(0, b"\1", name=""), MalformedCheckpoint),
    "a key that is no text": (head(0, 1, text(b"\xff") + struct.pack("<IB", 0, 1)), MalformedCheckpoint),
    "a key twice": (head(0, 2, (text("k") + struct.pack("<IB", 0, 1)) * 2), MalformedCheckpoint),
    "a key of 100 kB": (key(0, b"\1", name="k" * 100_000), MalformedCheckpoint),
    "a value of kind 13": (key(13, bytes(8)), MalformedCheckpoint),
    "a truth value of 2": (key(7, b"\2"), MalformedCheckpoint),
    "truth values of 255": (array(7, 3, b"\xff" * 3), MalformedCheckpoint),
    "a string of 2^64 - 1 bytes": (key(8, b"\xff" * 8 + bytes(64)), MalformedCheckpoint),
    "an array of 2^62 numbers": (array(4, 1 << 62), MalformedCheckpoint),
    "an array of 2^40 strings": (array(8, 1 << 40, bytes(4096)), MalformedCheckpoint),
    "an array of 2^40 arrays": (array(9, 1 << 40, bytes(4096)), MalformedCheckpoint),
    "a thousand arrays inside each other": (key(9, NESTED), MalformedCheckpoint),
    "36,000 arrays in arrays": (
        array(9, 4, b"".join(struct.pack("<IQ", 9, 9_000) + struct.pack("<IQ", 0, 0) * 9_000 for _ in range(4))),
        MalformedCheckpoint,
    ),
    "three million empty strings": (array(8, 3_000_000, bytes(24_000_000)), MalformedCheckpoint),
    "an alignment of 0": (encode_gguf({"general.alignment": 0}, [NUMBERS]), MalformedCheckpoint),
    "an alignment of 33": (encode_gguf({"general.alignment": 33}, [NUMBERS]), MalformedCheckpoint),
    "an alignment of 2^31": (encode_gguf({"general.alignment": 1 << 31}, [NUMBERS]), MalformedCheckpoint),
    "an alignment in words": (encode_gguf({"general.alignment": "x" * 5000}, [NUMBERS]), MalformedCheckpoint),
    "an unknown quantisation": (one(kind=33), UnsupportedFormat),
    "a quantisation of 2^32 - 1": (one(kind=(1 << 32) - 1), UnsupportedFormat),
    "a row that is no whole block": (one((33,), "Q8_0"), MalformedCheckpoint),
    "five axes": (one((1, 1, 1, 1, 8)), MalformedCheckpoint),
    "2^32 axes": (head(1, 0, text("w") + b"\xff" * 64), MalformedCheckpoint),
    "sizes whose product wraps around": (one((1 << 63, 2)), MalformedCheckpoint),
    "an empty axis beside a huge one": (one((0, 1 << 62), data=b""), MalformedCheckpoint),
    "numbers beyond the file": (one((1 << 40,)), MalformedCheckpoint),
    "blocks beyond the file": (one((1 << 20, 256), "IQ1_S"), MalformedCheckpoint),
    "an offset beyond the file": (one(offsets=[1 << 50]), MalformedCheckpoint),
    "an overlap": (
        encode_gguf({}, [NUMBERS, plain("v", np.ones(8, dtype=np.float32))], offsets=[0, 0]),
        MalformedCheckpoint,
    ),
    "an offset between two alignments": (
        encode_gguf({}, [NUMBERS, plain("v", np.ones(8, dtype=np.float32))], offsets=[0, 16]),
        MalformedCheckpoint,
    ),
    "a hole": (
        encode_gguf({}, [NUMBERS, plain("v", np.ones(8, dtype=np.float32))], offsets=[0, 64]),
        MalformedCheckpoint,
    ),
    "one name twice": (encode_gguf({}, [NUMBERS, NUMBERS]), MalformedCheckpoint),
    "a name that is no text": (head(1, 0, info(NUMBERS, 0).replace(b"w", b"\xff") + bytes(64)), MalformedCheckpoint),
    "a name of 1 MB": (encode_gguf({}, [plain("w" * (1 << 20), np.ones(8, dtype=np.float32))]), MalformedCheckpoint),
    "no tensors where they should be": (GOOD[:-32], MalformedCheckpoint),
    "the last byte lost": (GOOD[:-1], MalformedCheckpoint),
}


@pytest.mark.parametrize("name", FILES)
def test_bad_files_end_in_one_typed_error(tmp_path: Path, name: str) -> None:
    data, kind = FILES[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    error = refuse(path, kind)
    assert str(path) in str(error)


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_files_that_end_anywhere_are_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(GOOD[:cut])
    refuse(path, MalformedCheckpoint)
