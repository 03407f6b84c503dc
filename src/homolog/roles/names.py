"""Tensor names as dotted segments: templates such as ``layers.{layer}.norm1.weight``, and a table to look them up.

Names come from a file that a suspect may have written, so nothing here backtracks: a name is split once, whole-number
segments become placeholders, and the rest is a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["NameTable", "Template", "is_index", "template"]

_PLACES = ("{layer}", "{expert}")
_HOLE = "#"
_LONGEST_INDEX = 5
"""No model has a hundred thousand layers or experts; a longer number is a name like any other."""

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """A name with placeholders: its key, which of the holes is which, and what literal numbers the others must be."""

    text: str
    key: Key
    layer: int = -1
    """Which hole holds the layer, -1 for none."""
    expert: int = -1
    literals: tuple[tuple[int, int], ...] = ()
    """Holes that must hold a fixed number, as in ``classifier.0.weight``."""

    def fits(self, holes: tuple[int, ...]) -> bool:
        """Whether a name with this template's key means it."""
        return all(holes[hole] == number for hole, number in self.literals)

    def fill(self, layer: int = -1, expert: int = -1) -> str:
        """The name of one layer and expert."""
        return self.text.replace("{layer}", str(layer)).replace("{expert}", str(expert))


def template(text: str) -> Template:
    """Read a template. Raises ``ValueError`` if a placeholder is unknown, repeated, or not a whole segment."""
    key: list[str] = []
    holes: dict[str, int] = {}
    literals: list[tuple[int, int]] = []
    count = 0
    for segment in text.split("."):
        if segment in _PLACES:
            if segment in holes:
                raise ValueError(f"{segment} stands twice")
            holes[segment] = count
        elif is_index(segment):
            literals.append((count, int(segment)))
        elif "{" in segment or "}" in segment or not segment:
            raise ValueError(f"{segment!r} is neither a word nor one of {', '.join(_PLACES)}")
        else:
            key.append(segment)
            continue
        key.append(_HOLE)
        count += 1
    return Template(text, tuple(key), holes.get("{layer}", -1), holes.get("{expert}", -1), tuple(literals))


def is_index(segment: str) -> bool:
    """Whether a segment counts something: ASCII digits, no leading zero, at most five of them."""
    if not (0 < len(segment) <= _LONGEST_INDEX and segment.isascii() and segment.isdigit()):
        return False
    return segment == "0" or segment[0] != "0"


@dataclass(slots=True)
class NameTable:
    """The names of a checkpoint, split once, and grouped by key below each prefix that is asked for."""

    names: tuple[str, ...]
    _split: dict[str, Key] = field(init=False)
    _below: dict[str, dict[Key, list[tuple[str, tuple[int, ...]]]]] = field(init=False, default_factory=dict)
    _ends: dict[str, list[str]] = field(init=False, default_factory=dict)

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._split = {name: tuple(name.split(".")) for name in self.names}
        self._below = {}
        self._ends = {}
        for name, segments in self._split.items():
            self._ends.setdefault(segments[-1], []).append(name)

    def prefixes_before(self, anchor: Template, most: int = 4) -> tuple[str, ...]:
        """What stands before names that end like ``anchor``: the commonest prefixes, each with its last dot."""
        size = len(anchor.key)
        counts: dict[str, int] = {}
        for name in self._ends.get(anchor.key[-1], ()):
            segments = self._split[name]
            if len(segments) < size:
                continue
            key, holes = _generalise(segments[len(segments) - size :])
            if key == anchor.key and anchor.fits(holes):
                prefix = name[: len(name) - len(".".join(segments[len(segments) - size :]))]
                counts[prefix] = counts.get(prefix, 0) + 1
        return tuple(sorted(counts, key=lambda prefix: (-counts[prefix], len(prefix), prefix))[:most])

    def below(self, prefix: str) -> dict[Key, list[tuple[str, tuple[int, ...]]]]:
        """Names that start with ``prefix``, grouped by key, each with the numbers in its holes."""
        groups = self._below.get(prefix)
        if groups is None:
            groups = {}
            depth = prefix.count(".")
            for name, segments in self._split.items():
                if name.startswith(prefix):
                    key, holes = _generalise(segments[depth:])
                    groups.setdefault(key, []).append((name, holes))
            self._below[prefix] = groups
        return groups


def _generalise(segments: Key) -> tuple[Key, tuple[int, ...]]:
    holes = tuple(int(segment) for segment in segments if is_index(segment))
    return tuple(_HOLE if is_index(segment) else segment for segment in segments), holes
