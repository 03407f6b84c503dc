"""Blocks that belong together: gathered from the pairs that do, and what such a set is called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from homolog.sketch.sketch import UnitBlock

__all__ = ["gather", "name_kind"]


def gather(count: int, pairs: Sequence[tuple[int, int]]) -> Iterator[tuple[list[int], list[int]]]:
    """Sets of two and more of ``count`` things that ``pairs`` join, with the positions of the pairs that were needed to join them.

    Pairs count in the order given, so the strongest should come first. Sets come by their first member.
    """
    root = list(range(count))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    used: list[tuple[int, int]] = []
    for position, (i, j) in enumerate(pairs):
        a, b = find(i), find(j)
        if a != b:
            root[max(a, b)] = min(a, b)
            used.append((position, i))
    members: dict[int, list[int]] = {}
    for i in range(count):
        members.setdefault(find(i), []).append(i)
    for first, found in members.items():
        if len(found) > 1:
            yield found, [position for position, i in used if find(i) == first]


def name_kind(blocks: Sequence[UnitBlock], dense: Sequence[str]) -> str:
    """``experts`` of one layer, ``every_layer`` if no dense FFN of the model is left out, ``layers``, or ``blocks``."""
    layers = {block.layer for block in blocks}
    if len(layers) == 1:
        return "experts"
    if all(block.expert < 0 and not block.shared for block in blocks):
        return "every_layer" if len(blocks) == len(dense) else "layers"
    return "blocks"
