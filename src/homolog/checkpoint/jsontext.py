"""JSON from hostile files: a scanner that builds nothing it was not asked for, and a bounded way to read a small document whole.

The scanner works on bytes, keeps no stack and matches with possessive patterns, so that neither nesting nor long strings cost memory.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from homolog.errors import MalformedCheckpoint

__all__ = ["Scanner", "parse_small_json"]

_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\["\\/bfnrtu][^"\\\x00-\x1f]*+)*+"')
_INTEGER = re.compile(rb"(?:0|[1-9][0-9]{0,18})(?![0-9.eE])")
_SCALAR = re.compile(rb"-?[0-9][-+0-9.eE]*+|true|false|null")
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]', re.DOTALL)

_DEEPEST = 64
_MOST_PARTS = 500_000
_LONGEST_STRING = 4096
_LARGEST_SMALL = 10 << 20


class Scanner:
    """Walks a JSON text; every method takes one thing from the front or raises ``MalformedCheckpoint``."""

    def __init__(self, text: bytes, path: Path, at: str, origin: int = 0) -> None:
        self._text = text
        self._path = path
        self._at = at
        self._origin = origin
        self.place = 0

    def fail(self, found: str, expected: str) -> MalformedCheckpoint:
        """The error for what stands here."""
        return MalformedCheckpoint(
            self._path, at=f"{self._at}, byte {self._origin + self.place}", found=found, expected=expected
        )

    def accept(self, mark: bytes) -> bool:
        """Take one punctuation mark if it is next."""
        place = self._skip_space()
        if self._text[place : place + 1] != mark:
            return False
        self.place = place + 1
        return True

    def expect(self, mark: bytes, after: str) -> None:
        """Take one punctuation mark."""
        if not self.accept(mark):
            raise self.fail(self._glimpse(), f"{mark.decode()!r} {after}")

    def string(self, what: str, longest: int = _LONGEST_STRING) -> str:
        """Take one string of bounded length."""
        self._skip_space()
        match = _STRING.match(self._text, self.place)
        if match is None:
            raise self.fail(self._glimpse(), f"a string: {what}")
        if match.end() - match.start() > longest + 2:
            raise self.fail(
                f"a string of {match.end() - match.start() - 2} bytes", f"{what} of at most {longest} bytes"
            )
        token = match.group()
        try:
            text = json.loads(token) if b"\\" in token else token[1:-1].decode()
            text.encode()
        except ValueError as error:
            raise self.fail(f"bytes that are not text ({error.__class__.__name__})", f"{what} in UTF-8") from error
        self.place = match.end()
        return str(text)

    def integer(self, what: str) -> int:
        """Take one plain whole number, without sign, fraction or exponent, below 10^19."""
        self._skip_space()
        match = _INTEGER.match(self._text, self.place)
        if match is None:
            raise self.fail(self._glimpse(), f"{what}: a whole number of at most 19 digits")
        self.place = match.end()
        return int(match.group())

    def integers(self, what: str, most: int) -> tuple[int, ...]:
        """Take one list of at most ``most`` whole numbers."""
        self.expect(b"[", f"before {what}")
        numbers: list[int] = []
        while not self.accept(b"]"):
            if numbers:
                self.expect(b",", f"or ']' in {what}")
            if len(numbers) == most:
                raise self.fail(f"more than {most} numbers", f"{what} of at most {most}")
            numbers.append(self.integer(what))
        return tuple(numbers)

    def skip_value(self, what: str) -> None:
        """Pass over one value of any kind, at most a few dozen levels deep."""
        closers: list[bytes] = []
        while True:
            opened = b"}" if self.accept(b"{") else b"]" if self.accept(b"[") else b""
            if opened:
                closers.append(opened)
                if len(closers) > _DEEPEST:
                    raise self.fail(f"more than {_DEEPEST} levels of nesting", what)
            else:
                self._skip_scalar(what)
            while closers and self.accept(closers[-1]):
                closers.pop()
                opened = b""
            if not closers:
                return
            if not opened:
                self.expect(b",", f"or {closers[-1].decode()!r} in {what}")
            if closers[-1] == b"}":
                self.skip_string(what)
                self.expect(b":", f"after a key in {what}")

    def skip_string(self, what: str) -> None:
        """Pass over one string of any length."""
        self._skip_space()
        match = _STRING.match(self._text, self.place)
        if match is None:
            raise self.fail(self._glimpse(), f"a string: {what}")
        self.place = match.end()

    def finish(self) -> None:
        """Nothing but white space may follow."""
        if self._skip_space() != len(self._text):
            raise self.fail(self._glimpse(), "the end of the text")

    def _skip_scalar(self, what: str) -> None:
        place = self._skip_space()
        match = _STRING.match(self._text, place) or _SCALAR.match(self._text, place)
        if match is None:
            raise self.fail(self._glimpse(), f"a value: {what}")
        self.place = match.end()

    def _skip_space(self) -> int:
        match = _SPACE.match(self._text, self.place)
        if match is not None:
            self.place = match.end()
        return self.place

    def _glimpse(self) -> str:
        rest = self._text[self.place : self.place + 24]
        return ascii(rest.decode("ascii", "backslashreplace")) if rest else "the end"


def parse_small_json(text: bytes, path: Path) -> dict[str, Any]:
    """Parse a small document, such as ``config.json``, whose outermost value must be an object."""
    if len(text) > _LARGEST_SMALL:
        raise MalformedCheckpoint(path, at="file", found=f"{len(text)} bytes", expected=f"at most {_LARGEST_SMALL}")
    depth = 0
    for parts, match in enumerate(_STRUCTURE.finditer(text)):
        mark = text[match.start()]
        depth += (mark in b"[{") - (mark in b"]}")
        if depth > _DEEPEST or parts > _MOST_PARTS:
            found = f"more than {_DEEPEST} levels of nesting" if depth > _DEEPEST else f"more than {_MOST_PARTS} values"
            raise MalformedCheckpoint(path, at=f"byte {match.start()}", found=found, expected="a small JSON object")
    try:
        parsed = json.loads(text.decode("utf-8-sig"))
    except ValueError as error:
        raise MalformedCheckpoint(path, at="file", found=f"no JSON: {error}", expected="a JSON object") from error
    if not isinstance(parsed, dict):
        raise MalformedCheckpoint(path, at="file", found=f"a JSON {type(parsed).__name__}", expected="a JSON object")
    return parsed
