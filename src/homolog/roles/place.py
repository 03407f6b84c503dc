"""Where a family could lie in a checkpoint: the prefix of its body, and the top of the model above it."""

from __future__ import annotations

from dataclasses import dataclass

from homolog.roles.names import NameTable
from homolog.roles.rules import Architecture

__all__ = ["Place", "best_place"]

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
    absent: int
    """How many of those are not there, if each name means what it looks like."""
    rules: frozenset[int]
    """The rules of which a spelling is there; -1 among them for names to ignore."""

    @property
    def signature(self) -> tuple[object, ...]:
        """Families with the same signature make the same of the tensors."""
        family = self.family
        used = frozenset(id(family.rules[number]) for number in self.rules if number >= 0)
        needed = frozenset(id(rule) for rule in family.rules if rule.required)
        ignores = tuple(id(ignore) for ignore in family.ignores)
        heads = family.config.get("heads")
        return (self.body, self.top, used, needed, ignores, family.needs, heads, family.anchor)


def best_place(family: Architecture, table: NameTable) -> Place | None:
    """The best way to lay the family onto the names; ``None`` if no name looks like its layers."""
    best: Place | None = None
    for body in table.prefixes_before(family.anchor):
        groups = table.below(body)
        layers = 1 + max(holes[family.anchor.layer] for _, holes in groups[family.anchor.key])
        in_body = [key for key in family.targets[False] if key in groups]
        apart = _apart(family, body, body, top=False)
        known = sum(len(groups[key]) for key in in_body) + (table.count_below(apart) if apart else 0)
        for top in _tops(family, body):
            above = table.below(top)
            on_top = [key for key in family.targets[True] if key in above]
            apart = _apart(family, top, body, top=True)
            total = known + sum(len(above[key]) for key in on_top) + (table.count_below(apart) if apart else 0)
            if best is None or total > best.known:
                rules = {target.rule for key in in_body for target in family.targets[False][key]}
                rules |= {target.rule for key in on_top for target in family.targets[True][key]}
                found = [sum(len(groups.get(name.key, ())) for name in rule.names) for rule in family.common]
                absent = sum(max(0, layers - count) for count in found)
                best = Place(family, body, top, total, layers * len(found), absent, frozenset(rules))
    return best


def _apart(family: Architecture, prefix: str, body: str, *, top: bool) -> tuple[str, ...]:
    """Prefixes of what the family leaves to other models, its own body and what its rules name never among them."""
    below = (below for ignore in family.ignores if ignore.top is top for below in ignore.below)
    named = tuple(name.text for rule in family.rules if rule.top is top for name in rule.names)
    return tuple(
        prefix + left
        for left in below
        if not body.startswith(prefix + left) and not any(name.startswith(left) for name in named)
    )


def _tops(family: Architecture, body: str) -> list[str]:
    """Where the top of the model may lie, above its body."""
    if "*" in family.bases:
        steps = body.split(".")[:-1]
        return ["".join(f"{step}." for step in steps[:depth]) for depth in range(min(len(steps), _MOST_ANCESTORS) + 1)]
    bases = [base for base in ("", *family.bases) if body == base or f".{body}".endswith(f".{base}")]
    return sorted((body[: len(body) - len(base)] for base in bases), key=len)
