"""Families as data: one TOML file each in ``architectures/``, loaded once into frozen dataclasses.

A family says which tensor names it knows, what each tensor does, and what its axes count. Adding a family is adding a
file; docs/adding-a-family.md explains the keys.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from homolog.errors import UsageError
from homolog.roles.rules import Architecture
from homolog.roles.schema import parse_architecture

__all__ = ["load_architectures"]


@cache
def load_architectures() -> tuple[Architecture, ...]:
    """All families of the package, sorted by id. Raises `UsageError` where a file does not follow the schema."""
    folder = files("homolog.roles") / "architectures"
    texts = {entry.name: entry.read_text("utf-8") for entry in folder.iterdir() if entry.name.endswith(".toml")}
    done: dict[str, Architecture] = {}
    waiting = sorted(texts)
    while waiting:
        later = []
        for name in waiting:
            family = parse_architecture(name, texts[name], done)
            if family is None:
                later.append(name)
            else:
                done[family.id] = family
        if len(later) == len(waiting):
            raise UsageError(
                f"{later[0]}: at extends: found a family that no file defines, expected one of {sorted(done)}"
            )
        waiting = later
    return tuple(done[key] for key in sorted(done))
