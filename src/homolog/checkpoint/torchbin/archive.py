"""The few things of a zip archive that torch's layout needs: which members there are, and where the bytes of one lie.

The directory is checked against the file before anything is taken from it: members may not overlap, repeat a name, be encrypted, or
differ between the directory and their own header.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from homolog.checkpoint.source import Source
from homolog.errors import MalformedCheckpoint, UnsupportedFormat

__all__ = ["Archive", "Member"]

_STORED, _DEFLATED = 0, 8
_END, _END64, _LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY, _LOCAL = b"PK\x01\x02", b"PK\x03\x04"
_END_RECORD, _LOCATOR_RECORD = 22, 20
_LARGEST_DIRECTORY = 32 << 20
_MOST_MEMBERS = 200_000
_LONGEST_NAME = 4096


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the directory lists it."""

    name: str
    method: int
    flags: int
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes when unpacked."""
    header: int
    """Where its own header starts."""


class Archive:
    """The directory of a zip file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._directory_start, directory, count = self._read_end()
        self.members = self._parse(directory, count)
        self._check_overlap()

    def locate(self, member: Member) -> int:
        """Where the member's bytes start; its own header must agree with the directory."""
        fixed = self._source.read(member.header, 30)
        if fixed[:4] != _LOCAL:
            raise self._fail(member.header, f"{fixed[:4]!r}", f"the header of {member.name}")
        flags, method = struct.unpack("<HH", fixed[6:10])
        packed, size, name_length, extra_length = struct.unpack("<IIHH", fixed[18:30])
        start: int = member.header + 30 + name_length + extra_length
        if start + member.packed > self._directory_start:
            raise self._fail(member.header, f"{member.name} running into the directory", "members before the directory")
        name = self._source.read(member.header + 30, name_length)
        # Writers that learn the sizes late leave zero here (bit 3); zip64 leaves all ones.
        late = bool(flags & 8) and not packed and not size
        plain = (packed in (member.packed, 0xFFFFFFFF)) and (size in (member.size, 0xFFFFFFFF))
        if name != member.name.encode("utf-8", "surrogateescape") or method != member.method or not (late or plain):
            raise self._fail(member.header, "a header that contradicts the directory", f"that of {member.name}")
        return start

    def read(self, member: Member, longest: int) -> bytes:
        """All bytes of a small member, unpacked if need be."""
        if max(member.size, member.packed) > longest:
            raise self._fail(member.header, f"{member.name} of {member.size} bytes", f"at most {longest}")
        block = self._source.read(self.locate(member), member.packed)
        if member.method == _DEFLATED:
            unpacker = zlib.decompressobj(-15)
            try:
                block = unpacker.decompress(block, member.size + 1)
            except zlib.error as error:
                raise self._fail(member.header, f"{member.name}: {error}", "deflated bytes") from error
        if len(block) != member.size:
            raise self._fail(
                member.header, f"{member.name} with other than its {member.size} bytes", "the size it claims"
            )
        return block

    def _read_end(self) -> tuple[int, bytes, int]:
        """Start, bytes and member count of the directory."""
        size = self._source.size
        # torch leaves no comment at the end; only where there is one must the end record be searched for.
        for reach in (_END_RECORD, _END_RECORD + 65535):
            tail_start = max(0, size - reach - _LOCATOR_RECORD)
            tail = self._source.read(tail_start, size - tail_start)
            place = tail.rfind(_END, 0, max(0, len(tail) - _END_RECORD + len(_END)))
            if place >= 0:
                break
        else:
            raise self._fail(size, "no end of directory: the file is truncated", "a complete zip archive")
        disk, directory_disk, here, count, length, start = struct.unpack("<HHHHII", tail[place + 4 : place + 20])
        end = tail_start + place
        if place >= _LOCATOR_RECORD and tail[place - 20 : place - 16] == _LOCATOR64:
            record = struct.unpack("<Q", tail[place - 12 : place - 4])[0]
            if record + 56 > end:
                raise self._fail(end, f"a zip64 record at {record}", "one inside the file")
            block = self._source.read(record, 56)
            if block[:4] != _END64:
                raise self._fail(record, f"{block[:4]!r}", "a zip64 record")
            disk, directory_disk, here, count, length, start = struct.unpack("<IIQQQQ", block[16:56])
            end = record
        if disk or directory_disk or here != count:
            raise self._fail(end, "an archive in several volumes", "one volume")
        if start + length > end or length > _LARGEST_DIRECTORY or count > min(_MOST_MEMBERS, length // 46):
            raise self._fail(end, f"a directory of {count} members in {length} bytes at {start}", "one inside the file")
        return start, self._source.read(start, length), count

    def _parse(self, directory: bytes, count: int) -> dict[str, Member]:
        members: dict[str, Member] = {}
        place = 0
        for _ in range(count):
            if directory[place : place + 4] != _ENTRY or len(directory) - place < 46:
                raise self._fail(self._directory_start + place, "no directory entry", f"{count} of them")
            flags, method = struct.unpack("<HH", directory[place + 8 : place + 12])
            packed, size, name_length, extra_length, comment_length = struct.unpack(
                "<IIHHH", directory[place + 20 : place + 34]
            )
            header = struct.unpack("<I", directory[place + 42 : place + 46])[0]
            after_name = place + 46 + name_length
            name = directory[place + 46 : after_name].decode("utf-8", "surrogateescape")
            extra = directory[after_name : after_name + extra_length]
            size, packed, header = self._widen(extra, size, packed, header)
            if name in members or len(name) > _LONGEST_NAME:
                raise self._fail(
                    self._directory_start + place, f"the member {name!r} twice or too long", "short names, each once"
                )
            if flags & 1 or method not in (_STORED, _DEFLATED):
                raise UnsupportedFormat(
                    self._source.path,
                    at=f"member {name}",
                    found="an encrypted or oddly packed member",
                    expected="stored or deflated",
                )
            if method == _STORED and size != packed:
                raise self._fail(
                    self._directory_start + place, f"{name}: {packed} stored bytes for {size}", "equal sizes"
                )
            members[name] = Member(name, method, flags, packed, size, header)
            place = after_name + extra_length + comment_length
            if place > len(directory):
                raise self._fail(self._directory_start, "a directory that ends inside an entry", "whole entries")
        return members

    def _widen(self, extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
        """Take the fields that are all ones from the zip64 extra field, in their fixed order."""
        wide = [size, packed, header]
        if 0xFFFFFFFF not in wide:
            return size, packed, header
        while len(extra) >= 4:
            kind, length = struct.unpack("<HH", extra[:4])
            body, extra = extra[4 : 4 + length], extra[4 + length :]
            if kind != 1:
                continue
            for which in range(3):
                if wide[which] == 0xFFFFFFFF:
                    if len(body) < 8:
                        raise self._fail(self._directory_start, "a zip64 field cut short", "eight bytes for each size")
                    wide[which], body = int.from_bytes(body[:8], "little"), body[8:]
            return wide[0], wide[1], wide[2]
        raise self._fail(self._directory_start, "sizes of all ones", "a zip64 field with the real ones")

    def _check_overlap(self) -> None:
        end = 0
        for member in sorted(self.members.values(), key=lambda member: member.header):
            if member.header < end:
                raise self._fail(
                    member.header, f"{member.name} overlapping the member before", "members one after another"
                )
            end = member.header + 30 + len(member.name.encode("utf-8", "surrogateescape")) + member.packed
        if end > self._directory_start:
            raise self._fail(end, "a member running into the directory", "members before the directory")

    def _fail(self, place: int, found: str, expected: str) -> MalformedCheckpoint:
        return MalformedCheckpoint(self._source.path, at=f"zip archive, byte {place}", found=found, expected=expected)
