"""Tells a weight file's format from its first bytes, never from its name, and reads its table of tensors."""

from __future__ import annotations

from functools import partial

from homolog.checkpoint.gguf.header import MAGIC, read_gguf
from homolog.checkpoint.npz import is_npz, read_npz
from homolog.checkpoint.onnx.place import open_beside
from homolog.checkpoint.onnx.read import read_onnx
from homolog.checkpoint.ranged import Contents
from homolog.checkpoint.safetensors import read_safetensors
from homolog.checkpoint.source import FileSource, Source
from homolog.checkpoint.torchbin.archive import Archive
from homolog.checkpoint.torchbin.layouts import read_torch_legacy, read_torch_zip
from homolog.errors import IncompleteCheckpoint, MalformedCheckpoint, UnsupportedFormat

__all__ = ["read_contents"]

_EXPECTED = "a safetensors, GGUF, torch, ONNX or npz weight file"
_AFTER_VERSION = tuple(
    bytes([number << 3 | kind]) for number, kind in ((2, 2), (3, 2), (4, 2), (5, 0), (6, 2), (7, 2), (8, 2), (14, 2))
)
"""First bytes of the fields that may stand second in an ONNX model."""
_FOREIGN = (
    (b"GGUF"[::-1], "a GGUF file with its first four bytes back to front"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"<", "an HTML or XML page"),
)


def read_contents(source: Source) -> Contents:
    """The tensors of one weight file in place.

    Raises ``UnsupportedFormat`` for other files, ``IncompleteCheckpoint`` for a Git LFS pointer, and what the format's reader raises.
    """
    if source.size == 0:
        raise MalformedCheckpoint(source.path, at="file", found="0 bytes", expected=_EXPECTED)
    start = source.read(0, min(source.size, 64))
    if start.startswith(MAGIC):
        extents, metadata = read_gguf(source)
        return Contents("gguf", extents, metadata=metadata)
    if start.startswith(b"PK\x03\x04"):
        if start[30:].startswith(b"homolog.sketch.json"):
            expected = "the weights themselves: a sketch is for compare and inspect, and can be made of weights only"
            raise UnsupportedFormat(source.path, at="first bytes", found="a sketch", expected=expected)
        return _read_zip(source)
    if start.startswith(b"\x80") and len(start) > 1 and 2 <= start[1] <= 5 and start[8:9] != b"{":
        extents, notes = read_torch_legacy(source)
        return Contents("torch-legacy", extents, tuple(notes))
    if start[8:9] != b"{" and _is_onnx(source, start):
        return _read_onnx(source)
    if start[8:9] == b"{" or source.path.suffix == ".safetensors" or len(start) < 9:
        _refuse_pointer(source, start)
        return Contents("safetensors", read_safetensors(source))
    _refuse_pointer(source, start)
    kind = next((kind for magic, kind in _FOREIGN if start.startswith(magic)), f"a file that starts with {start[:8]!r}")
    raise UnsupportedFormat(source.path, at="first bytes", found=kind, expected=_EXPECTED)


def _read_zip(source: Source) -> Contents:
    archive = Archive(source)
    if is_npz(archive):
        extents, notes = read_npz(source, archive)
        return Contents("npz", extents, tuple(notes))
    extents, notes = read_torch_zip(source, archive)
    return Contents("torch-zip", extents, tuple(notes))


def _is_onnx(source: Source, start: bytes) -> bool:
    """A model message begins with the version of its format; what follows is another field of it."""
    return start[:1] == b"\x08" and start[2:3] in _AFTER_VERSION and (start[1] < 64 or source.path.suffix == ".onnx")


def _read_onnx(source: Source) -> Contents:
    weights = read_onnx(source, partial(open_beside, source) if isinstance(source, FileSource) else None)
    return Contents("onnx", weights.extents, weights.notes)


def _refuse_pointer(source: Source, start: bytes) -> None:
    if start.startswith(b"version https://git-lfs"):
        expected = "the weights themselves: fetch them with 'git lfs pull'"
        raise IncompleteCheckpoint(source.path, at="file", found="a Git LFS pointer", expected=expected)
