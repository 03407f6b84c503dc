"""Tensor names folded: ``layers.{0-2}.weight`` for names that differ in one number only, as the JSON files hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import product

__all__ = ["fold", "unfold"]

Shapes = dict[str, list[int]]

_RANGE = re.compile(r"\{(\d+)-(\d+)\}")


def fold(tensors: Mapping[str, list[int]]) -> Shapes:
    """Names of equal shape that differ in their numbers, as one name, where they are all that the ranges of numbers allow."""
    groups: dict[tuple[tuple[str, ...], tuple[int, ...]], list[tuple[int, ...]]] = {}
    for name, shape in tensors.items():
        words = tuple("#" if word.isdigit() else word for word in name.split("."))
        groups.setdefault((words, tuple(shape)), []).append(
            tuple(int(word) for word in name.split(".") if word.isdigit())
        )
    folded: Shapes = {}
    for (words, size), numbers in groups.items():
        shape = list(size)
        ranges = [range(min(column), max(column) + 1) for column in zip(*numbers, strict=True)]
        if sorted(numbers) == [*product(*ranges)]:
            folded[_spell(words, [f"{{{r[0]}-{r[-1]}}}" if len(r) > 1 else str(r[0]) for r in ranges])] = shape
        else:
            folded |= {_spell(words, [str(number) for number in each]): shape for each in numbers}
    return dict(sorted(folded.items()))


def unfold(tensors: Mapping[str, list[int]]) -> Shapes:
    """The names one by one."""
    names: Shapes = {}
    for name, shape in tensors.items():
        ranges = [range(int(low), int(high) + 1) for low, high in _RANGE.findall(name)]
        pieces = _RANGE.sub("#", name).split("#")
        for numbers in product(*ranges):
            names["".join(piece + str(number) for piece, number in zip(pieces, (*numbers, ""), strict=True))] = shape
    return dict(sorted(names.items()))


def _spell(words: tuple[str, ...], numbers: list[str]) -> str:
    left = iter(numbers)
    return ".".join(next(left) if word == "#" else word for word in words)
