"""Families as data: one TOML file each in ``architectures/``, loaded once into frozen dataclasses.

A family says which tensor names it knows, what each tensor does, and what its axes count. Adding a family is adding a
file; docs/adding-a-family.md explains the keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from homolog.errors import UsageError
from homolog.roles.rules import Architecture
from homolog.roles.schema import parse_architecture

__all__ = ["load_architectures", "parse_architectures"]


@cache
def load_architectures() -> tuple[Architecture, ...]:
    """All families of the package, sorted by id. Raises `UsageError` where a file does not follow the schema."""
    folder = files("homolog.roles") / "architectures"
    return parse_architectures(
        {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".toml")}
    )


def parse_architectures(texts: Mapping[str, str]) -> tuple[Architecture, ...]:
    """The families of some files, given by name, sorted by id; one may extend another, in any order. Abstract ones are left out."""
    done: dict[str, Architecture] = {}
    waiting = sorted(texts)
    while waiting:
        later = []
        for name in waiting:
            family = parse_architecture(name, texts[name], done)
            if family is None:
                later.append(name)
            elif family.id in done:
                raise UsageError(f"{name}: at id: found {family.id!r} a second time, expected an id of its own")
            else:
                done[family.id] = family
        if len(later) == len(waiting):
            known = ", ".join(sorted(done)) or "none"
            raise UsageError(f"{later[0]}: at extends: found a family that no file defines, expected one of {known}")
        waiting = later
    return tuple(done[key] for key in sorted(done) if not done[key].abstract)
