"""JSON from hostile files: a scanner that builds nothing it was not asked for, and a bounded way to read a small document whole.

The scanner works on bytes, keeps no stack and matches with possessive patterns, so that neither nesting nor long strings cost memory.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from homolog.errors import MalformedCheckpoint

__all__ = ["NUMBER", "STRING", "Scanner", "parse_small_json"]

STRING = rb'"([^"\\\x00-\x1f]*+(?:\\["\\/bfnrtu][^"\\\x00-\x1f]*+){0,1000000}+)"'
"""Pattern of a string with at most a million escapes, its text in a group."""
NUMBER = rb"(?:0|[1-9][0-9]{0,18})(?![0-9.eE])"
"""Pattern of a whole number without sign, fraction or exponent, below 10^19."""

_SPACE = re.compile(rb"[ \t\r\n]*+")
_KEY = re.compile(rb"[ \t\r\n]*+" + STRING + rb"[ \t\r\n]*+:[ \t\r\n]*+")
_TOKEN = re.compile(rb"[ \t\r\n]*+(?:" + STRING + rb"|([\[{])|([\]}])|-?[0-9][-+0-9.eE]*+|true|false|null|[:,])")
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{]|[\]}]', re.DOTALL)

_DEEPEST = 64
_MOST_PARTS = 500_000
_MOST_SKIPPED = 20_000
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
        at = f"{self._at}, byte {self._origin + self.place}"
        return MalformedCheckpoint(self._path, at=at, found=found, expected=expected)

    def take(self, pattern: re.Pattern[bytes], expected: str) -> re.Match[bytes]:
        """Take what the pattern matches."""
        match = pattern.match(self._text, self.place)
        if match is None:
            raise self.fail(self._glimpse(), expected)
        self.place = match.end()
        return match

    def accept(self, mark: bytes) -> bool:
        """Take one punctuation mark if it is next, white space before it."""
        place = self._skip_space()
        if self._text[place : place + 1] != mark:
            return False
        self.place = place + 1
        return True

    def expect(self, mark: bytes, after: str) -> None:
        """Take one punctuation mark."""
        if not self.accept(mark):
            raise self.fail(self._glimpse(), f"{mark.decode()!r} {after}")

    def key(self, what: str, longest: int) -> str:
        """Take one key and its colon."""
        return self.decode(self.take(_KEY, f"a string, {what}, and ':'")[1], what, longest)

    def decode(self, raw: bytes, what: str, longest: int) -> str:
        """The text of a string whose inside is ``raw``."""
        if len(raw) > longest:
            raise self.fail(f"a string of {len(raw)} bytes", f"{what} of at most {longest} bytes")
        try:
            text = str(json.loads(b'"%s"' % raw)) if b"\\" in raw else raw.decode()
            text.encode()
        except ValueError as error:
            raise self.fail(f"bytes that are not text ({error.__class__.__name__})", f"{what} in UTF-8") from error
        return text

    def skip_value(self, what: str) -> None:
        """Pass over one small value of any kind; brackets must pair, the rest need not be JSON to the letter."""
        closers: list[bytes] = []
        for _ in range(_MOST_SKIPPED):
            token = self.take(_TOKEN, what)
            if token[2]:
                closers.append(b"]" if token[2] == b"[" else b"}")
            elif token[3] and (not closers or closers.pop() != token[3]):
                raise self.fail(f"an unpaired {token[3].decode()!r}", what)
            if not closers:
                return
        raise self.fail(f"more than {_MOST_SKIPPED} values", what)

    def finish(self) -> None:
        """Nothing but white space may follow."""
        if self._skip_space() != len(self._text):
            raise self.fail(self._glimpse(), "the end of the text")

    def _skip_space(self) -> int:
        match = _SPACE.match(self._text, self.place)
        if match is not None:
            self.place = match.end()
        return self.place

    def _glimpse(self) -> str:
        rest = self._text[self.place : self.place + 32]
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
