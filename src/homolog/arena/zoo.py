"""A folder of trained models with their truth records: who descends from whom, and who began from the same random numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from zlib import crc32

from homolog.errors import UsageError

__all__ = ["Record", "Zoo", "read_zoo"]

_DEVELOPED_ON = frozenset("abqs")
"""Lineages that were looked at while the statistics were made."""

_NEEDED = ("name", "kind", "ancestors", "seed", "std", "shape")


@dataclass(frozen=True)
class Record:
    """One model of the zoo, by its ``truth.json``."""

    folder: Path
    truth: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.truth["name"])

    @property
    def kind(self) -> str:
        """What was done to its parent, or ``base``."""
        return str(self.truth["kind"])

    @property
    def family(self) -> frozenset[str]:
        """The model and its ancestors: two models are related exactly if their families meet."""
        return frozenset([self.name, *self.truth["ancestors"]])

    @property
    def teacher(self) -> str:
        """The model whose predictions it learned; empty if it read the text itself. A student inherits nothing."""
        return str(self.truth.get("recipe", {}).get("teacher", ""))

    @property
    def root(self) -> str:
        """The base it goes back to; itself if it is one."""
        return str(self.truth["ancestors"][-1]) if self.truth["ancestors"] else self.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weight files: a model that was made anew is another model."""
        sha = hashlib.sha256()
        for path in sorted(self.folder.glob("*.safetensors")):
            sha.update(path.read_bytes())
        return sha.hexdigest()[:16]


@dataclass(frozen=True)
class Zoo:
    """The models of a folder, by name."""

    records: Mapping[str, Record]

    def lineage(self, name: str) -> str:
        """What ``name`` goes back to: the first base, by name, of all that began from the same random numbers.

        Everything that goes back to one initialisation is one lineage, and counts once.
        """
        start = self._start(name)
        bases = [record.name for record in self.records.values() if record.name == record.root]
        return min((base for base in bases if self._start(base) == start), default=self.records[name].root)

    def is_held_out(self, lineage: str) -> bool:
        """Whether no threshold may be chosen on this lineage.

        As its truth record says; else half of those that the statistics were not developed on, drawn by their names, so that nobody
        chose them: about a third of all.
        """
        record = self.records.get(lineage)
        if record is not None and "held_out" in record.truth:
            return bool(record.truth["held_out"])
        return lineage not in _DEVELOPED_ON and crc32(lineage.encode()) % 2 == 0

    def _start(self, name: str) -> tuple[Any, ...]:
        root = self.records.get(self.records[name].root, self.records[name])
        shape = root.truth["shape"]
        return (root.truth["seed"], root.truth["std"], shape["family"], shape["width"])


def read_zoo(folder: Path) -> Zoo:
    """All models below ``folder`` that have a truth record.

    Raises ``UsageError`` if there is none, or for a record that lacks what the arena needs.
    """
    records: dict[str, Record] = {}
    for path in sorted(folder.glob("*/truth.json")):
        try:
            truth = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UsageError(f"{path}: not JSON: {error}") from None
        missing = [key for key in _NEEDED if not isinstance(truth, dict) or key not in truth]
        if missing:
            raise UsageError(f"{path}: a truth record without {', '.join(missing)}")
        record = Record(path.parent, truth)
        records[record.name] = record
    if not records:
        raise UsageError(f"{folder}: no model with a truth.json below it; --zoo names the folder of the zoo")
    return Zoo(records)
