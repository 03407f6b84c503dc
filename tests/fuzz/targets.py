"""What is fuzzed: each target takes bytes, and passes if they open and read, or end in a ``CheckpointError``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tests.checkpoint.writers import encode_safetensors
from tests.fuzz.sketches import read_sketch_bytes

from homolog.checkpoint.base import Checkpoint, Meter
from homolog.checkpoint.extent import Extent
from homolog.checkpoint.formats import read_contents
from homolog.checkpoint.gguf.facts import check_pieces, read_facts, read_tokens
from homolog.checkpoint.gguf.header import read_gguf
from homolog.checkpoint.gguf.undo import undo_conversion
from homolog.checkpoint.jsontext import parse_small_json
from homolog.checkpoint.npz import read_npz
from homolog.checkpoint.onnx.read import read_onnx
from homolog.checkpoint.ranged import Contents, RangedCheckpoint
from homolog.checkpoint.safetensors import read_safetensors
from homolog.checkpoint.shards import join_shards, read_index
from homolog.checkpoint.source import FilePool
from homolog.checkpoint.torchbin.archive import Archive
from homolog.checkpoint.torchbin.feed import Feed
from homolog.checkpoint.torchbin.layouts import read_torch_legacy, read_torch_zip
from homolog.checkpoint.torchbin.machine import run_pickle
from homolog.checkpoint.torchbin.state import PlacedStorage, flatten_state, place_tensor
from homolog.errors import CheckpointError, IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat
from homolog.sketch.token_table import read_token_table

_LARGEST_READ = 1 << 16


class BytesSource:
    """A file in memory."""

    def __init__(self, data: bytes, name: str = "fuzzed") -> None:
        self._data = data
        self.path = Path(name)

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, offset: int, length: int) -> bytes:
        assert offset >= 0, "a read before the start"
        assert length >= 0, "a read of less than nothing"
        if offset + length > len(self._data):
            raise MalformedCheckpoint(self.path, at=f"byte {offset}", found="the end", expected=f"{length} bytes")
        return self._data[offset : offset + length]


def read_some(contents: Contents) -> None:
    """Read the first and last row and a few more of every small tensor; nothing may fail but what cannot be read at all."""
    read_rows_of(
        RangedCheckpoint(Path("fuzzed"), contents, files=(), folder=None, config={}, pool=FilePool(), meter=Meter())
    )


def read_rows_of(checkpoint: Checkpoint) -> None:
    """As `read_some`, of an opened checkpoint."""
    for name, info in list(checkpoint.tensors.items())[:16]:
        rows = info.shape[0] if info.shape else 1
        if not rows or info.size // rows > _LARGEST_READ:
            continue
        try:
            last = checkpoint.read_rows(name, rows - 1)
        except UnsupportedFormat:
            continue
        assert last.shape == (1, *info.shape[1:])
        picked = checkpoint.read_rows_at(name, [rows - 1, 0, rows // 2])
        assert picked.shape == (3, *info.shape[1:])
        assert picked[0].tobytes() == last[0].tobytes(), "two ways to one row disagree"
        if info.size <= _LARGEST_READ:
            assert len(checkpoint.read_bytes(name)) == info.nbytes


def expect_typed_errors(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, passing where it ends in a ``CheckpointError`` of bounded length."""

    @functools.wraps(target)
    def guarded(data: bytes) -> None:
        try:
            target(data)
        except CheckpointError as error:
            if len(str(error)) > 4096:
                raise AssertionError("an error as long as the file") from error

    return guarded


def _safetensors(data: bytes) -> None:
    """The first byte chooses: a file, an index with its shard in memory, or a config."""
    kind, body = data[:1], data[1:]
    if kind == b"i":
        weight_map = read_index(BytesSource(body))
        files = [Path(name) for name in sorted(set(weight_map.values()))]

        def read_shard(file: Path) -> Mapping[str, Extent]:
            return read_safetensors(BytesSource(_SHARD, file.name))

        join_shards(files, read_shard, weight_map, Path("index"))
    elif kind == b"c":
        assert isinstance(parse_small_json(body, Path("config.json")), dict)
    else:
        read_some(Contents("safetensors", read_safetensors(BytesSource(body))))


def _torch_zip(data: bytes) -> None:
    extents, notes = read_torch_zip(BytesSource(data))
    read_some(Contents("torch-zip", extents, tuple(notes)))


def _torch_legacy(data: bytes) -> None:
    extents, notes = read_torch_legacy(BytesSource(data))
    read_some(Contents("torch-legacy", extents, tuple(notes)))


def _unpickler(data: bytes) -> None:
    """A pickle alone; every storage that it names is at hand, in full length, as far as that is a few kB."""
    source = BytesSource(bytes(4096))
    pickled = run_pickle(Feed.of_bytes(data, source))
    tensors, notes = flatten_state(pickled.value, source)
    placed = {
        key: PlacedStorage(0, min(4096, storage.root_count * storage.dtype.itemsize))
        for key, storage in pickled.storages.items()
    }
    extents = {name: place_tensor(name, tensor, placed, source) for name, tensor in tensors.items()}
    read_some(Contents("torch-zip", extents, tuple(notes)))


def _gguf(data: bytes) -> None:
    """A file, with all that is made of its metadata: facts, tokens, and the undoing of the conversion."""
    extents, metadata = read_gguf(BytesSource(data))
    contents = Contents("gguf", extents, metadata=metadata)
    tokens = read_tokens(metadata)
    if tokens is not None:
        read_token_table(tokens)
    facts = read_facts(metadata)
    inner = RangedCheckpoint(
        Path("fuzzed"), contents, files=(), folder=None, config=facts, pool=FilePool(), meter=Meter(), tokenizer=tokens
    )
    read_rows_of(undo_conversion(inner, metadata))
    if "split.no" in metadata:
        check_pieces([Path("one"), Path("two")], [metadata, {"split.no": 1, "split.count": 2}], len(extents))


def _onnx(data: bytes) -> None:
    """A model; a file of 64 bytes lies beside it."""

    def open_beside(name: str) -> BytesSource:
        if name != "beside":
            raise IncompleteCheckpoint("fuzzed", at="external data", found="no such file", expected="one")
        return BytesSource(bytes(range(64)), name)

    weights = read_onnx(BytesSource(data), open_beside)
    read_some(Contents("onnx", weights.extents, weights.notes))


def _npz(data: bytes) -> None:
    source = BytesSource(data)
    extents, notes = read_npz(source, Archive(source))
    read_some(Contents("npz", extents, tuple(notes)))


def _sketch(data: bytes) -> None:
    read_sketch_bytes(BytesSource(data))


def read_any_format(data: bytes) -> None:
    """A file whose format its first bytes tell."""
    read_some(read_contents(BytesSource(data)))


_SHARD = encode_safetensors({"a": np.zeros(2, dtype=np.uint8), "b": np.ones(1, dtype=np.float32)})

TARGETS: dict[str, Callable[[bytes], None]] = {
    "safetensors": expect_typed_errors(_safetensors),
    "torch_zip": expect_typed_errors(_torch_zip),
    "torch_legacy": expect_typed_errors(_torch_legacy),
    "unpickler": expect_typed_errors(_unpickler),
    "onnx": expect_typed_errors(_onnx),
    "npz": expect_typed_errors(_npz),
    "gguf": expect_typed_errors(_gguf),
    "sketch": expect_typed_errors(_sketch),
}
