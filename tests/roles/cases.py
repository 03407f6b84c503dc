"""The tensor names of real model classes, as ``names/make.py`` wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.roles.names.folded import unfold

__all__ = ["CASES", "Case", "case"]


@dataclass(frozen=True, slots=True)
class Case:
    """One tiny instance of a model class."""

    family: str
    name: str
    config: dict[str, Any]
    tensors: dict[str, list[int]]

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def _read() -> list[Case]:
    cases = []
    for file in sorted((Path(__file__).parent / "names").glob("*.json")):
        for name, data in json.loads(file.read_text("utf-8"))["cases"].items():
            cases.append(Case(file.stem, name, data["config"], unfold(data["tensors"])))
    return cases


CASES = _read()


def case(family: str, name: str) -> Case:
    """One case by family and name."""
    return next(one for one in CASES if (one.family, one.name) == (family, name))
