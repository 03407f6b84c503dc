"""Tensor names as dotted segments: templates such as ``layers.{layer}.norm1.weight``, and a table to look them up.

Names come from a file that a suspect may have written, so nothing here backtracks: a name is split once, whole-number
segments become placeholders, and the rest is a dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["Key", "NameTable", "Template", "is_index", "shorten", "template"]

_PLACES = ("{layer}", "{expert}")
_HOLE = "."
"""In the place of a number; no segment can hold a dot."""
_LONGEST_INDEX = 5
"""No model has a hundred thousand layers or experts; a longer number is a name like any other."""

_LONGEST_NAME = 120

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


def shorten(name: str) -> str:
    """A name as it may stand in a sentence: at most 120 characters, no control characters."""
    shown = "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])
    return shown if len(name) <= _LONGEST_NAME else f"{shown}…"


@dataclass(slots=True)
class NameTable:
    """The names of a checkpoint, split once, and grouped by key below each prefix that is asked for."""

    names: tuple[str, ...]
    _split: dict[str, Key] = field(init=False)
    _below: dict[str, dict[Key, list[tuple[str, tuple[int, ...]]]]] = field(init=False, default_factory=dict)
    _ends: dict[Key, list[str]] = field(init=False, default_factory=dict)
    _before: dict[Template, tuple[str, ...]] = field(init=False, default_factory=dict)
    _counts: dict[tuple[str, ...], int] = field(init=False, default_factory=dict)

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._split = {name: tuple(name.split(".")) for name in self.names}
        self._below = {}
        self._ends = {}
        self._before = {}
        self._counts = {}
        for name, segments in self._split.items():
            self._ends.setdefault(_end(segments), []).append(name)

    def prefixes_before(self, anchor: Template, most: int = 4) -> tuple[str, ...]:
        """What stands before names that end like ``anchor``: the commonest prefixes, each with its last dot."""
        prefixes = self._before.get(anchor)
        if prefixes is None:
            size = len(anchor.key)
            counts: dict[str, int] = {}
            for name in self._ends.get(_end(anchor.key), ()):
                tail = self._split[name][-size:]
                key, holes = _generalise(tail)
                if key == anchor.key and anchor.fits(holes):
                    prefix = name[: len(name) - sum(map(len, tail)) - size + 1]
                    counts[prefix] = counts.get(prefix, 0) + 1
            prefixes = tuple(sorted(counts, key=lambda prefix: (-counts[prefix], len(prefix), prefix)))
            self._before[anchor] = prefixes
        return prefixes[:most]

    def count_below(self, prefixes: tuple[str, ...]) -> int:
        """How many names start with any of the prefixes."""
        count = self._counts.get(prefixes)
        if count is None:
            count = self._counts[prefixes] = sum(name.startswith(prefixes) for name in self.names)
        return count

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


def _end(segments: Key) -> Key:
    """The last two segments, by which names that may end like a template are found."""
    return tuple(_HOLE if is_index(segment) else segment for segment in segments[-2:])


def _generalise(segments: Key) -> tuple[Key, tuple[int, ...]]:
    key = tuple(_HOLE if is_index(segment) else segment for segment in segments)
    return key, tuple(int(segment) for segment, shown in zip(segments, key, strict=True) if shown == _HOLE)
