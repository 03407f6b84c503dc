"""Typed reading of a TOML table, with errors that say in which file and at which key."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from homolog.errors import UsageError
from homolog.roles.names import Template, template
from homolog.roles.role import Space

__all__ = ["Table"]

T = TypeVar("T")

_WORDS: Mapping[type, str] = {str: "a string", int: "a whole number", bool: "true or false"}


class Table:
    """One table of a family file, with errors that say where it stands."""

    def __init__(self, file: str, place: str, data: Mapping[str, Any], known: Collection[str]) -> None:
        self.file, self.place, self.data = file, place, data
        for key in data:
            if key not in known:
                raise self.error(key, found="an unknown key", expected=f"one of {', '.join(known)}")

    def error(self, key: str, *, found: str, expected: str) -> UsageError:
        """An error at one key of this table."""
        return UsageError(f"{self.file}: at {self.place}{key}: found {found}, expected {expected}")

    def get(self, key: str, kind: type[T], default: T | None = None) -> T:
        """The value of a key, which must be of this kind."""
        value = self.data.get(key, default)
        if type(value) is not kind:
            found = "nothing" if value is None else repr(value)
            raise self.error(key, found=found, expected=_WORDS[kind])
        return value

    def strings(self, key: str) -> tuple[str, ...]:
        """A list of at least one string."""
        value = self.data.get(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise self.error(key, found="nothing" if value is None else repr(value), expected="a list of strings")
        return tuple(value)

    def sub(self, key: str, known: Collection[str]) -> Table:
        """A table inside this one."""
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise self.error(key, found=repr(value), expected="a table")
        return Table(self.file, f"{self.place}{key}.", value, known)

    def tables(self, key: str, known: Collection[str]) -> list[Table]:
        """A list of tables."""
        value = self.data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.error(key, found=repr(value), expected="a list of tables")
        return [
            Table(self.file, f"{self.place}{key}[{n}] ({item.get('name', '')}).", item, known)
            for n, item in enumerate(value)
        ]

    def template(self, key: str) -> Template:
        """A tensor name."""
        try:
            return template(self.get(key, str))
        except ValueError as error:
            raise self.error(key, found=str(error), expected="words joined by dots") from None

    def templates(self, key: str) -> tuple[Template, ...]:
        """One spelling of a tensor name, or a list of them."""
        value = self.data.get(key)
        spellings = value if isinstance(value, list) else [value]
        return tuple(Table(self.file, self.place, {key: item}, (key,)).template(key) for item in spellings)

    def space(self, key: str, value: str) -> Space:
        """A space by its name; ``key`` says where the name stands."""
        try:
            return Space(value)
        except ValueError:
            known = ", ".join(space.value for space in Space)
            raise self.error(key, found=repr(value), expected=f"one of {known}") from None
