"""What was ruled out and what was not, in words; operations that share one text share one entry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from homolog.report.language import t
from homolog.report.words import OPERATIONS, say, tell

__all__ = ["Exclusion", "list_not_ruled_out", "list_ruled_out", "within_sentence"]


@dataclass(frozen=True, slots=True)
class Exclusion:
    """One or more operations, and the text that holds for all of them."""

    name: str
    text: str


def list_ruled_out(comparison: Mapping[str, Any]) -> list[Exclusion]:
    """Operations that would have been found, with the share above which that holds."""
    return _gather((entry["operation"], entry.get("text")) for entry in comparison.get("ruled_out") or ())


def list_not_ruled_out(comparison: Mapping[str, Any]) -> list[Exclusion]:
    """Operations that may have happened all the same, with the reason where there is one."""
    why = comparison.get("not_ruled_out_why") or {}
    return _gather((name, why.get(name)) for name in comparison.get("not_ruled_out") or ())


def _gather(entries: Iterable[tuple[str, str | None]]) -> list[Exclusion]:
    names: dict[str, list[str]] = {}
    for operation, text in entries:
        names.setdefault(tell(text), []).append(say(OPERATIONS, operation))
    return [
        Exclusion(t(", ").join([first, *(within_sentence(name) for name in rest)]), text)
        for text, (first, *rest) in names.items()
    ]


def within_sentence(name: str) -> str:
    """A name within a sentence; FFN stays as it is."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]
