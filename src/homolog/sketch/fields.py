"""Values out of a JSON document that anyone may have written: each of the kind and size that is asked for, or one typed error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from homolog.errors import MalformedCheckpoint
from homolog.sketch.container import Members

__all__ = ["Fields", "parse_json", "read_manifest"]

_LARGEST_MANIFEST = 4 * 2**20
_LONGEST_LINE = 1 << 20
_LONGEST_TEXT = 2000
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


class Fields:
    """One object or list of the document."""

    def __init__(self, values: Any, members: Members, at: str) -> None:
        self._values, self._members, self._at = values, members, at

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return isinstance(self._values, dict) and self._values.get(key) is not None

    def keys(self, most: int) -> list[str]:
        """The keys, at most so many."""
        if len(self._values) > most:
            raise self._fail("keys", f"{len(self._values)}", f"at most {most}")
        return sorted(self._values)

    def inside(self, key: str) -> Fields:
        """An object inside."""
        return Fields(self._get(key, dict, "an object"), self._members, f"{self._at}.{key}")

    def rows(self, key: str, most: int, length: int) -> Iterator[Fields]:
        """A list of lists of ``length`` values each."""
        rows = self._get(key, list, "a list")
        if len(rows) > most:
            raise self._fail(key, f"{len(rows)} entries", f"at most {most}")
        for number, row in enumerate(rows):
            yield Fields(row, self._members, f"{self._at}.{key}[{number}]").row(length)

    def row(self, length: int) -> Fields:
        """This, if it is a list of ``length`` values."""
        if not isinstance(self._values, list) or len(self._values) != length:
            raise self._fail("", type(self._values).__name__, f"a list of {length}")
        return self

    def text(self, key: str | int) -> str:
        """A string of bounded length."""
        text: str = self._get(key, str, "text")
        if len(text) > _LONGEST_TEXT:
            raise self._fail(key, f"{len(text)} characters", f"at most {_LONGEST_TEXT}")
        return text

    def texts(self, key: str | int, most: int) -> tuple[str, ...]:
        """A list of strings."""
        inner = Fields(self._list(key, most), self._members, f"{self._at}.{key}")
        return tuple(inner.text(number) for number in range(len(inner._values)))

    def integers(self, key: str | int, most: int) -> tuple[int, ...]:
        """A list of sizes."""
        inner = Fields(self._list(key, most), self._members, f"{self._at}.{key}")
        return tuple(inner.integer(number, 0, 2**62) for number in range(len(inner._values)))

    def sha256(self, key: str | int) -> str:
        """A digest."""
        text = self.text(key)
        if not _SHA256.fullmatch(text):
            raise self._fail(key, repr(text), "sha256: and 64 hexadecimal digits")
        return text

    def integer(self, key: str | int, low: int, high: int) -> int:
        """A whole number in these bounds."""
        value = self._get(key, int, "a whole number")
        if isinstance(value, bool) or not low <= value <= high:
            raise self._fail(key, f"{value!r:.40}", f"a whole number from {low} to {high}")
        return int(value)

    def number(self, key: str | int, low: float, high: float) -> float:
        """A number in these bounds."""
        value = self._get(key, int | float, "a number")
        if isinstance(value, bool) or not low <= value <= high:
            raise self._fail(key, f"{value!r:.40}", f"a number from {low} to {high}")
        return float(value)

    def truth(self, key: str | int) -> bool:
        """True or false, also written as 1 or 0."""
        value = self._get(key, int, "true or false")
        if value not in (0, 1):
            raise self._fail(key, f"{value!r:.40}", "true or false")
        return bool(value)

    def _list(self, key: str | int, most: int) -> list[Any]:
        values: list[Any] = self._get(key, list, "a list")
        if len(values) > most:
            raise self._fail(key, f"{len(values)} entries", f"at most {most}")
        return values

    def _get(self, key: str | int, kind: Any, expected: str) -> Any:
        if isinstance(key, str) and (not isinstance(self._values, dict) or key not in self._values):
            raise self._fail(key, "nothing", expected)
        value = self._values[key]
        if not isinstance(value, kind):
            raise self._fail(key, type(value).__name__, expected)
        return value

    def _fail(self, key: str | int, found: str, expected: str) -> MalformedCheckpoint:
        at = f"{self._at}[{key}]" if isinstance(key, int) else f"{self._at}.{key}".rstrip(".")
        return self._members.fail(at, found, expected)


def read_manifest(body: bytes, members: Members) -> Fields:
    """The document of a sketch."""
    if len(body) > _LARGEST_MANIFEST:
        raise members.fail("manifest", f"{len(body)} bytes", f"at most {_LARGEST_MANIFEST}")
    return Fields(parse_json(body, members, "manifest", dict), members, "manifest")


def parse_json(body: bytes, members: Members, at: str, kind: type) -> Any:
    """A document of one kind, of bounded size."""
    if len(body) > max(_LONGEST_LINE, _LARGEST_MANIFEST):
        raise members.fail(at, f"{len(body)} bytes", "fewer")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise members.fail(at, f"{error}", "JSON of reasonable depth") from None
    if not isinstance(document, kind):
        raise members.fail(at, type(document).__name__, kind.__name__)
    return document
