"""Where a family could lie in a checkpoint: the prefix of its body, and the top of the model above it."""

from __future__ import annotations

from dataclasses import dataclass

from homolog.roles.names import Key, NameTable, Template
from homolog.roles.rules import Architecture, Ignore

__all__ = ["Place", "Target", "best_place", "targets"]

_MOST_ANCESTORS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A family laid onto a checkpoint: where its body and its top begin."""

    family: Architecture
    body: str
    top: str
    known: int
    """How many names the family then knows."""
    expected: int
    """How many tensors its layers need at least, if they are numbered from 0."""


@dataclass(frozen=True, slots=True)
class Target:
    """One spelling of a rule, or of names to ignore."""

    spelling: Template
    preferred: int
    """Among the spellings of its rule, 0 is the best."""
    rule: int
    """Its number in the family, -1 for names to ignore."""
    ignore: Ignore | None = None


def targets(family: Architecture, *, top: bool) -> dict[Key, list[Target]]:
    """What the family says of each key below its body, or below its top."""
    keys: dict[Key, list[Target]] = {}
    for number, rule in enumerate(family.rules):
        if rule.top is top:
            for preferred, spelling in enumerate(rule.names):
                keys.setdefault(spelling.key, []).append(Target(spelling, preferred, number))
    for ignore in family.ignores:
        if ignore.top is top:
            for spelling in ignore.names:
                keys.setdefault(spelling.key, []).append(Target(spelling, 0, -1, ignore))
    return keys


def best_place(family: Architecture, table: NameTable) -> Place | None:
    """The best way to lay the family onto the names; ``None`` if no name looks like its layers."""
    body_keys, top_keys = targets(family, top=False), targets(family, top=True)
    needed = sum(
        rule.required and not (rule.variant or rule.stack) and rule.names[0].layer >= 0 for rule in family.rules
    )
    best: Place | None = None
    for body in table.prefixes_before(family.anchor):
        groups = table.below(body)
        layers = 1 + max(holes[family.anchor.layer] for _, holes in groups[family.anchor.key])
        in_body = sum(len(groups[key]) for key in groups.keys() & body_keys.keys())
        for top in _tops(family, body):
            above = table.below(top)
            known = in_body + sum(len(above[key]) for key in above.keys() & top_keys.keys())
            if best is None or known > best.known:
                best = Place(family, body, top, known, layers * needed)
    return best


def _tops(family: Architecture, body: str) -> list[str]:
    """Where the top of the model may lie, above its body."""
    if "*" in family.bases:
        steps = body.split(".")[:-1]
        return ["".join(f"{step}." for step in steps[:depth]) for depth in range(min(len(steps), _MOST_ANCESTORS) + 1)]
    bases = [base for base in ("", *family.bases) if body == base or f".{body}".endswith(f".{base}")]
    return sorted((body[: len(body) - len(base)] for base in bases), key=len)
