"""The container of a sketch: a zip archive of npy arrays and JSON, with a list of SHA-256 digests that ``sha256sum -c`` understands.

Members are stored, not compressed, with one date and in one order: the same contents give the same bytes, whatever wrote them. Reading
believes nothing: sizes are bounded before memory is taken, arrays are of the few kinds that are asked for, and no name becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.checkpoint.source import Source
from homolog.checkpoint.torchbin.archive import Archive
from homolog.errors import MalformedCheckpoint

__all__ = ["MANIFEST", "Members", "encode_array", "looks_like_sketch", "pack"]

MANIFEST, _SUMS = "homolog.sketch.json", "SHA256SUMS"
_LARGEST = 128 * 2**20
"""Bytes of all members together, unpacked."""
_MOST_MEMBERS = 200
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '(\|i1|<i2|\|u1|<u2|<u4|<u8|<f2|<f4)', 'fortran_order': False, 'shape': \(((?:\d{1,10}, ?)*\d{0,10})\), \} *\n"
)
_SUM = re.compile(rb"([0-9a-f]{64})  ([A-Za-z0-9_.]{1,80})\n")
_DATE = (1980, 1, 1, 0, 0, 0)

Raw = npt.NDArray[Any]


def looks_like_sketch(start: bytes) -> bool:
    """Whether a file that starts so is a sketch: a zip archive whose first member is the manifest."""
    name = MANIFEST.encode()
    return (
        start[:4] == b"PK\x03\x04" and start[26:28] == len(name).to_bytes(2, "little") and start[30:].startswith(name)
    )


def pack(members: Mapping[str, bytes]) -> bytes:
    """The archive: the manifest first, the other members by name, then their digests."""
    names = [MANIFEST, *sorted(members.keys() - {MANIFEST})]
    sums = "".join(f"{hashlib.sha256(members[name]).hexdigest()}  {name}\n" for name in names)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, body in (*((name, members[name]) for name in names), (_SUMS, sums.encode("ascii"))):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, body)
    return buffer.getvalue()


def encode_array(array: Raw) -> bytes:
    """An array as npy, version 1.0."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


class Members:
    """The members of an archive, checked against its list of digests.

    Raises ``MalformedCheckpoint`` where the archive is broken, too large, or holds other bytes than its list says.
    """

    def __init__(self, source: Source) -> None:
        self._path = source.path
        archive = Archive(source)
        listed = archive.members
        total = sum(member.size for member in listed.values())
        if len(listed) > _MOST_MEMBERS or total > _LARGEST:
            found = f"{len(listed)} members of {total} bytes"
            raise self.fail("archive", found, f"at most {_MOST_MEMBERS} of {_LARGEST} bytes")
        if _SUMS not in listed or MANIFEST not in listed:
            raise self.fail("archive", "a zip archive of other contents", f"{MANIFEST} and {_SUMS}")
        self._bodies = {name: archive.read(member, _LARGEST) for name, member in listed.items()}
        self.digest = hashlib.sha256(self._bodies[_SUMS]).hexdigest()
        self._check_sums(self._bodies.pop(_SUMS))

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every member."""
        return {name: len(body) for name, body in sorted(self._bodies.items())}

    def __contains__(self, name: str) -> bool:
        return name in self._bodies

    def body(self, name: str) -> bytes:
        """A member as it is; ``MalformedCheckpoint`` if there is none."""
        if name not in self._bodies:
            raise self.fail(name, "no such member", "it in the archive")
        return self._bodies[name]

    def array(self, name: str, kinds: Sequence[str], shape: tuple[int | None, ...]) -> Raw:
        """The array ``name`` of one of these dtypes and of this shape; ``None`` stands for any length.

        Raises ``MalformedCheckpoint`` for any other, and for what is no array.
        """
        body = self.body(f"{name}.npy")
        length = int.from_bytes(body[8:10], "little") if body.startswith(_MAGIC) else -1
        match = _HEADER.fullmatch(body[10 : 10 + length]) if 0 <= length <= 1024 else None
        if match is None:
            raise self.fail(name, f"{body[:12]!r}", "a plain npy array, version 1.0")
        dtype = np.dtype(match[1].decode())
        found = tuple(int(size) for size in re.findall(rb"\d+", match[2]))
        fits = len(found) == len(shape) and all(want in (None, have) for want, have in zip(shape, found, strict=False))
        if dtype.str not in kinds or not fits:
            wanted = f"{' or '.join(kinds)} of shape {tuple('any' if size is None else size for size in shape)}"
            raise self.fail(name, f"{dtype.str} of shape {found}", wanted)
        if len(body) - 10 - length != prod(found) * dtype.itemsize:
            raise self.fail(name, f"{len(body) - 10 - length} bytes for shape {found}", "as many as the shape needs")
        return np.frombuffer(body, dtype=dtype, offset=10 + length).reshape(found)

    def fail(self, at: str, found: str, expected: str) -> MalformedCheckpoint:
        """What to raise."""
        return MalformedCheckpoint(self._path, at=at, found=found, expected=expected)

    def _check_sums(self, sums: bytes) -> None:
        lines = [match.groups() for match in _SUM.finditer(sums)]
        listed = {name.decode(): digest.decode() for digest, name in lines}
        length = sum(len(name) + 67 for _, name in lines)
        if listed.keys() != self._bodies.keys() or len(lines) != len(listed) or length != len(sums):
            raise self.fail(_SUMS, "a list of other members", "the digest of every member")
        for name, body in self._bodies.items():
            found = hashlib.sha256(body).hexdigest()
            if found != listed[name]:
                raise self.fail(
                    name, f"contents of digest {found[:16]}…", f"{listed[name][:16]}…: the sketch was edited"
                )
