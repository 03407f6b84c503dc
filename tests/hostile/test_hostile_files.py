"""Every bad file ends in one typed error that says file, place, found and expected, within a second and 200 MB."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.writers import (
    AnyArray,
    Leaf,
    encode_index,
    encode_safetensors,
    encode_torch_legacy,
    encode_torch_zip,
    finish,
    legacy_head,
    name,
    pack_legacy,
    pack_safetensors,
    pack_zip,
    pickle_state,
    text,
    write_zip,
)

from homolog.checkpoint.open import open_checkpoint
from homolog.errors import (
    CheckpointError,
    CheckpointNotFound,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    UnsafeCheckpoint,
    UnsupportedFormat,
)

ARRAYS: dict[str, AnyArray] = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "v": np.zeros(3, dtype=np.float16)}
LEAF = Leaf("0", "F32", 6, (2, 3), (3, 1))
BLOCK = {"0": bytes(24)}
SECONDS = 1.0
BYTES = 200_000_000


def refuse(path: Path, kind: type[CheckpointError]) -> CheckpointError:
    """Open for the time, at best of three on a busy machine, then for the memory, and return the error."""
    seconds = SECONDS
    for _ in range(3):
        started = time.process_time()
        with pytest.raises(CheckpointError) as caught:
            open_checkpoint(path)
        seconds = min(seconds, time.process_time() - started)
        if seconds < SECONDS:
            break
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            open_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    error = caught.value
    assert type(error) is kind, str(error)
    assert seconds < SECONDS
    assert peak < BYTES
    assert error.at
    assert error.found
    assert error.expected
    assert len(str(error)) < 1500 + len(str(path))
    return error


def _entry(shape: object = (2,), offsets: object = (0, 2), dtype: object = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _one(**fields: object) -> bytes:
    return pack_safetensors({"w": _entry(**fields)}, b"ab")


EMPTY = b'{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
HEADERS: dict[str, tuple[bytes, type[CheckpointError]]] = {
    "zero length": (b"", MalformedCheckpoint),
    "six bytes": (b"abcdef", MalformedCheckpoint),
    "a length and no more": (struct.pack("<Q", 2), MalformedCheckpoint),
    "a header of 2^40 bytes": (pack_safetensors({}, length=1 << 40), MalformedCheckpoint),
    "a header of 2^64 - 1 bytes": (pack_safetensors({}, length=(1 << 64) - 1), MalformedCheckpoint),
    "a truncated header": (encode_safetensors(ARRAYS)[:60], MalformedCheckpoint),
    "truncated tensors": (encode_safetensors(ARRAYS)[:-1], MalformedCheckpoint),
    "bytes after the tensors": (encode_safetensors(ARRAYS) + b"x", MalformedCheckpoint),
    "nested brackets": (pack_safetensors(b"[" * 200_000), MalformedCheckpoint),
    "nested brackets as an entry": (pack_safetensors(b'{"w":' + b"[" * 200_000), MalformedCheckpoint),
    "nested objects": (pack_safetensors(b'{"w":' * 200_000), MalformedCheckpoint),
    "nested brackets as a shape": (pack_safetensors(b'{"w":{"shape":' + b"[" * 200_000), MalformedCheckpoint),
    "no JSON": (pack_safetensors(b"{'w': 1}"), MalformedCheckpoint),
    "white space before the header": (pack_safetensors(b" {}"), MalformedCheckpoint),
    "a list": (pack_safetensors([]), MalformedCheckpoint),
    "a trailing comma": (
        pack_safetensors(b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},}'),
        MalformedCheckpoint,
    ),
    "a second object": (pack_safetensors(b"{}{}"), MalformedCheckpoint),
    "one name twice": (pack_safetensors(b'{"w":%s,"w":%s}' % (EMPTY, EMPTY)), MalformedCheckpoint),
    "a name that is no text": (pack_safetensors(b'{"\xff":{}}'), MalformedCheckpoint),
    "half a surrogate pair": (pack_safetensors(b'{"\\ud800":{}}'), MalformedCheckpoint),
    "a name of 1 MB": (pack_safetensors({"x" * (1 << 20): _entry()}, b"ab"), MalformedCheckpoint),
    "an entry that is a number": (pack_safetensors({"w": 1}), MalformedCheckpoint),
    "a field missing": (pack_safetensors({"w": {"dtype": "U8", "shape": [2]}}, b"ab"), MalformedCheckpoint),
    "a field twice": (pack_safetensors(b'{"w":{"dtype":"U8","shape":[0],"shape":[0]}}'), MalformedCheckpoint),
    "a field too many": (pack_safetensors({"w": {**_entry(), "more": 1}}, b"ab"), MalformedCheckpoint),
    "metadata that is no object": (pack_safetensors({"__metadata__": []}), MalformedCheckpoint),
    "metadata that is no text": (pack_safetensors({"__metadata__": {"a": 1}}), MalformedCheckpoint),
    "metadata twice": (pack_safetensors(b'{"__metadata__":{},"__metadata__":{}}'), MalformedCheckpoint),
    "an unknown kind of number": (_one(dtype="Q9"), UnsupportedFormat),
    "a kind of number that is a number": (_one(dtype=8), MalformedCheckpoint),
    "a wrong size for the kind": (_one(dtype="F32"), MalformedCheckpoint),
    "half a byte": (_one(dtype="F4", shape=[5]), MalformedCheckpoint),
    "a negative size": (_one(shape=[-2]), MalformedCheckpoint),
    "a size that is a fraction": (_one(shape=[2.0]), MalformedCheckpoint),
    "a size with an exponent": (
        pack_safetensors(b'{"w":{"dtype":"U8","shape":[2e0],"data_offsets":[0,2]}}', b"ab"),
        MalformedCheckpoint,
    ),
    "a size that is a truth value": (_one(shape=[True, 2]), MalformedCheckpoint),
    "a size with a leading zero": (
        pack_safetensors(b'{"w":{"dtype":"U8","shape":[02],"data_offsets":[0,2]}}', b"ab"),
        MalformedCheckpoint,
    ),
    "a size of 2^64": (_one(shape=[1 << 64]), MalformedCheckpoint),
    "sizes whose product wraps around to 2": (_one(shape=[(1 << 63) + 1, 2]), MalformedCheckpoint),
    "a size of a thousand digits": (_one(shape=[10**999]), MalformedCheckpoint),
    "an empty axis beside a huge one": (_one(shape=[0, 1 << 62], offsets=[0, 0]), MalformedCheckpoint),
    "40 axes": (_one(shape=[1] * 39 + [2]), MalformedCheckpoint),
    "100 axes": (_one(shape=[1] * 99 + [2]), MalformedCheckpoint),
    "offsets back to front": (_one(offsets=[2, 0]), MalformedCheckpoint),
    "one offset": (_one(offsets=[0]), MalformedCheckpoint),
    "three offsets": (_one(offsets=[0, 2, 2]), MalformedCheckpoint),
    "a negative offset": (_one(offsets=[-2, 0]), MalformedCheckpoint),
    "an offset beyond the file": (_one(offsets=[1 << 50, (1 << 50) + 2]), MalformedCheckpoint),
    "an overlap": (pack_safetensors({"w": _entry(), "v": _entry(offsets=[1, 3])}, b"abc"), MalformedCheckpoint),
    "one place for two": (pack_safetensors({"w": _entry(), "v": _entry()}, b"ab"), MalformedCheckpoint),
    "a hole at the start": (pack_safetensors({"w": _entry(offsets=[1, 3])}, b"abc"), MalformedCheckpoint),
    "a hole between": (pack_safetensors({"w": _entry(), "v": _entry(offsets=[3, 5])}, b"abcde"), MalformedCheckpoint),
}


@pytest.mark.parametrize("fault", HEADERS)
def test_headers(tmp_path: Path, fault: str) -> None:
    data, kind = HEADERS[fault]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    assert refuse(path, kind).path == path


COSTLY_HEADERS: dict[str, Callable[[], bytes]] = {
    "one string": lambda: b'{"' + b"x" * 99_000_000,
    "one string of escapes": lambda: b'{"' + b"\\n" * 49_500_000,
    "white space": lambda: b"{" + b" " * 99_000_000,
    "commas in a shape": lambda: b'{"w":{"shape":[' + b"1," * 49_500_000,
}


@pytest.mark.parametrize("content", COSTLY_HEADERS)
def test_headers_as_long_as_they_may_be(tmp_path: Path, content: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack_safetensors(COSTLY_HEADERS[content]()))
    refuse(path, MalformedCheckpoint)


def _edited(data: bytes, mark: bytes, place: int, value: bytes, last: bool = True) -> bytes:
    """Overwrite bytes at a distance from a zip record's mark."""
    start = (data.rindex(mark) if last else data.index(mark)) + place
    return data[:start] + value + data[start + len(value) :]


END, ENTRY, LOCAL = b"PK\x05\x06", b"PK\x01\x02", b"PK\x03\x04"
GOOD_ZIP = encode_torch_zip(ARRAYS)
GOOD_LEGACY = encode_torch_legacy(ARRAYS)
STATE = finish(pickle_state({"w": LEAF}))
KEY_TWICE = finish(b"](" + text("0") * 2 + b"e")
ALL_ONES = b"\xff" * 4

TORCH: dict[str, tuple[bytes, type[CheckpointError]]] = {
    "a truncated archive": (GOOD_ZIP[:-30], MalformedCheckpoint),
    "an archive of four bytes": (LOCAL, MalformedCheckpoint),
    "a directory that claims 60,000 members": (_edited(GOOD_ZIP, END, 8, b"\x60\xea\x60\xea"), MalformedCheckpoint),
    "a directory beyond the file": (_edited(GOOD_ZIP, END, 16, b"\xff\xff\xff\x7f"), MalformedCheckpoint),
    "a directory of 4 GB": (_edited(GOOD_ZIP, END, 12, ALL_ONES), MalformedCheckpoint),
    "several volumes": (_edited(GOOD_ZIP, END, 4, b"\1\0"), MalformedCheckpoint),
    "a directory cut short": (_edited(_edited(GOOD_ZIP, END, 12, struct.pack("<I", 300)), END, 8, b"\5\0\5\0"), MalformedCheckpoint),
    "sizes in a zip64 field that is not there": (_edited(GOOD_ZIP, ENTRY, 42, ALL_ONES), MalformedCheckpoint),
    "a member that overlaps another": (_edited(GOOD_ZIP, ENTRY, 42, bytes(4)), MalformedCheckpoint),
    "a member running into the directory": (_edited(GOOD_ZIP, ENTRY, 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f"), MalformedCheckpoint),
    "a stored member of two sizes": (_edited(GOOD_ZIP, ENTRY, 24, b"\xff\xff"), MalformedCheckpoint),
    "an encrypted member": (_edited(GOOD_ZIP, ENTRY, 8, b"\1\0"), UnsupportedFormat),
    "a member packed in an odd way": (_edited(GOOD_ZIP, ENTRY, 10, b"\x0c\0"), UnsupportedFormat),
    "a member's own header that is none": (_edited(GOOD_ZIP, LOCAL, 0, b"XX"), MalformedCheckpoint),
    "a member's own header with another name": (_edited(GOOD_ZIP, LOCAL, 30, b"X", last=False), MalformedCheckpoint),
    "a member's own header with another size": (_edited(GOOD_ZIP, LOCAL, 18, b"\1", last=False), MalformedCheckpoint),
    "no pickle": (write_zip({"archive/data/0": b"abcd"}), UnsupportedFormat),
    "two pickles": (write_zip({"a/data.pkl": STATE, "b/data.pkl": STATE}), UnsupportedFormat),
    "a TorchScript program": (write_zip({"a/data.pkl": STATE, "a/constants.pkl": b""}), UnsupportedFormat),
    "another archive": (write_zip({"word/document.xml": b""}), UnsupportedFormat),
    "big-endian numbers": (pack_zip(STATE, BLOCK, order=b"big"), UnsupportedFormat),
    "deflated numbers": (pack_zip(STATE, BLOCK, deflate=["data/0"]), UnsupportedFormat),
    "a storage missing": (pack_zip(STATE, {}), MalformedCheckpoint),
    "a storage too short": (pack_zip(STATE, {"0": bytes(23)}), MalformedCheckpoint),
    "a pickle cut short": (pack_zip(STATE[:-20], BLOCK), MalformedCheckpoint),
    "broken deflated bytes": (
        _edited(pack_zip(STATE, BLOCK, deflate=["data.pkl"]), b"data.pkl", 8, b"\xff\xff\xff", last=False),
        MalformedCheckpoint,
    ),
    "a deflated pickle of 40 MB": (pack_zip(finish(b"N0" * (20 << 20)), BLOCK, deflate=["data.pkl"]), MalformedCheckpoint),
    "a truncated old file": (GOOD_LEGACY[:-1], MalformedCheckpoint),
    "an old file cut in its pickle": (GOOD_LEGACY[:200], MalformedCheckpoint),
    "an old file of one byte": (b"\x80", MalformedCheckpoint),
    "a pickle of something else": (pack_legacy(STATE, {}, {}, head=legacy_head(magic=5)), UnsupportedFormat),
    "an old file of another protocol": (pack_legacy(STATE, {}, {}, head=legacy_head(protocol=1002)), MalformedCheckpoint),
    "an old big-endian file": (pack_legacy(STATE, {}, {}, head=legacy_head(little=b"\x89")), UnsupportedFormat),
    "an old file without keys": (legacy_head() + STATE + finish(b"N"), MalformedCheckpoint),
    "an old file that lists too few keys": (pack_legacy(STATE, {}, {}), MalformedCheckpoint),
    "an old file with a key that is none": (legacy_head() + STATE + finish(b"](Ne"), MalformedCheckpoint),
    "an old file with a key twice": (legacy_head() + STATE + KEY_TWICE + struct.pack("<q", 6) + bytes(99), MalformedCheckpoint),
    "an old storage of another length": (pack_legacy(STATE, BLOCK, {"0": 7}), MalformedCheckpoint),
    "an old storage of negative length": (pack_legacy(STATE, BLOCK, {"0": -6}), MalformedCheckpoint),
    "an old storage of 2^63 - 1 numbers": (pack_legacy(STATE, BLOCK, {"0": (1 << 63) - 1}), MalformedCheckpoint),
    "a call": (pack_zip(finish(name("os.system") + b"(" + text("true") + b"tR"), {}), UnsafeCheckpoint),
}  # fmt: skip


@pytest.mark.parametrize("fault", TORCH)
def test_torch_files(tmp_path: Path, fault: str) -> None:
    data, kind = TORCH[fault]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(data)
    assert refuse(path, kind).path == path


def _laughs() -> bytes:
    """Sixty dictionaries, each holding the one before ten times: 10^60 leaves in 5 kB."""
    body = b"}q\x00"
    for level in range(1, 60):
        body += b"}q%c(" % level + b"".join(text(f"k{j}") + b"h%c" % (level - 1) for j in range(10)) + b"u"
    return body.replace(b"}q\x00", b"](}q\x00", 1) + b"e" + b"0" + b"h\x3b"


BOMBS: dict[str, Callable[[], bytes]] = {
    "a billion laughs": _laughs,
    "lists in lists": lambda: b"]" + b"](" * 900,
    "tuples in tuples": lambda: b")" + b"\x85" * 299_000,
    "dictionaries in the memo": lambda: b"}\x94" * 149_000,
    "opcodes without end": lambda: b"N0" * 10_000_000,
    "strings of 1 MB": lambda: (b"X\0\0\x10\0" + b"x" * (1 << 20)) * 31,
    "wide strings of 1 MB": lambda: (b"X\0\0\x10\0" + b"x" * ((1 << 20) - 4) + "\U0001f600".encode()) * 31,
    "one long tuple passed again and again": lambda: (
        name("torch.device") + b"\x94(" + b"N" * 200_000 + b"t\x940" + b"h\x00h\x01R" * 90_000
    ),
    "one long list measured again and again": lambda: (
        name("torch.Size") + b"\x94](" + b"K\x01" * 200_000 + b"e\x85\x940" + b"h\x00h\x01R" * 90_000
    ),
    "one wide dictionary in a thousand others": lambda: (
        b"}\x94(" + b"".join(text(f"k{j:06}") + b"N" for j in range(100_000)) + b"u\x94"
        b"}(" + b"".join(text(f"m{j}") + b"h\x00" for j in range(1000)) + b"u\x940}(" + text("a") + b"h\x00" + text("b") + b"h\x02u"
    ),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_pickle_bombs(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pack_zip(finish(BOMBS[bomb](), 4), {}))
    refuse(path, MalformedCheckpoint)


@pytest.mark.parametrize("bomb", ["a billion laughs", "opcodes without end", "wide strings of 1 MB"])
def test_pickle_bombs_in_the_old_layout(tmp_path: Path, bomb: str) -> None:
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pack_legacy(finish(BOMBS[bomb](), 4), {}, {}))
    refuse(path, MalformedCheckpoint)


INDICES: dict[str, tuple[Callable[[], bytes], type[CheckpointError]]] = {
    "a path out of the folder": (lambda: encode_index({"w": "../../etc/passwd"}), UnsafeCheckpoint),
    "a missing shard": (lambda: encode_index({"w": "absent.safetensors"}), IncompleteCheckpoint),
    "no weight_map": (lambda: b'{"metadata": {}}', MalformedCheckpoint),
    "an empty weight_map": (lambda: encode_index({}), MalformedCheckpoint),
    "two weight_maps": (lambda: b'{"weight_map": {"a": "b"}, "weight_map": {"a": "b"}}', MalformedCheckpoint),
    "a weight_map that is a list": (lambda: b'{"weight_map": []}', MalformedCheckpoint),
    "a file that is a number": (lambda: b'{"weight_map": {"a": 1}}', MalformedCheckpoint),
    "one tensor twice": (lambda: b'{"weight_map": {"a": "b", "a": "b"}}', MalformedCheckpoint),
    "nested metadata": (lambda: b'{"metadata": ' + b"[" * 200_000, MalformedCheckpoint),
    "unpaired brackets": (lambda: b'{"metadata": [}, "weight_map": {}}', MalformedCheckpoint),
    "metadata without end": (lambda: b'{"metadata": [' + b"1," * 30_000_000, MalformedCheckpoint),
    "400,000 tensors": (
        lambda: b'{"weight_map":{' + b",".join(b'"%d":"a"' % i for i in range(400_000)) + b"}}",
        MalformedCheckpoint,
    ),
    "3,000 shards": (lambda: encode_index({f"w{i}": f"s{i}" for i in range(3000)}), MalformedCheckpoint),
    "65 MB": (lambda: b" " * (65 << 20), MalformedCheckpoint),
    "nothing": (lambda: b"", MalformedCheckpoint),
    "two objects": (lambda: b'{"weight_map": {"a": "b"}}{}', MalformedCheckpoint),
}


@pytest.mark.parametrize("fault", INDICES)
def test_indices(tmp_path: Path, fault: str) -> None:
    make, kind = INDICES[fault]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_bytes(make())
    refuse(tmp_path, kind)


@pytest.mark.parametrize("path", ["absent", "absent/model.safetensors", "x" * 5000, "nul\0byte", ""])
def test_paths_that_do_not_exist(tmp_path: Path, path: str) -> None:
    refuse(tmp_path / path if path else tmp_path, CheckpointNotFound)


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    refuse(tmp_path / "model.safetensors", CheckpointNotFound)
    (tmp_path / "config.json").write_text("{}")
    refuse(tmp_path, CheckpointNotFound)


def test_a_device_is_no_file() -> None:
    refuse(Path("/dev/zero"), CheckpointNotFound)


def test_nan_and_infinity_come_through(tmp_path: Path) -> None:
    array = np.array([[np.nan, np.inf], [-np.inf, 0]], dtype=np.float32)
    for encode in (encode_safetensors, encode_torch_zip, encode_torch_legacy):
        (tmp_path / "m.bin").write_bytes(encode({"w": array}))
        with open_checkpoint(tmp_path / "m.bin") as checkpoint:
            np.testing.assert_array_equal(checkpoint.read_rows("w"), array)
            np.testing.assert_array_equal(checkpoint.read_rows_at("w", [1, 0]), array[::-1])
