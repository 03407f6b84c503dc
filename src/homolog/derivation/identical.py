"""Are two checkpoints the same numbers? Role by role and bit by bit, whatever the names, files and order they are stored in."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from homolog.checkpoint.base import Checkpoint
from homolog.roles.read import read_units, read_vector
from homolog.roles.role import Anatomy, View
from homolog.sketch.digests import digest_tensors
from homolog.sketch.opened import SketchFile

__all__ = ["digests_agree", "same_numbers"]

_LARGEST = 2**30
"""Bytes of a checkpoint that is read in full without being asked to, where every sampled number is equal to a sketch's."""

_BLOCK = 2**22


def same_numbers(a: Checkpoint, b: Checkpoint, anatomy_a: Anatomy, anatomy_b: Anatomy) -> bool:
    """Whether both have the same roles, with the same shapes and the same values (as float32) throughout. Reads until they differ.

    Tensors without a role (a vision tower beside the language model) must be equal where both models have them under one name.
    """
    if set(anatomy_a.views) != set(anatomy_b.views):
        return False
    pairs = [(anatomy_a.views[role], anatomy_b.views[role]) for role in sorted(anatomy_a.views)]
    if any(sorted(zip(x.axes, x.shape, strict=True)) != sorted(zip(y.axes, y.shape, strict=True)) for x, y in pairs):
        return False
    return all(_same(a, b, x, y) for x, y in pairs) and all(
        _same_tensor(a, b, name) for name in sorted(anatomy_a.unused.keys() & anatomy_b.unused.keys())
    )


def digests_agree(models: tuple[Checkpoint, Checkpoint], anatomies: tuple[Anatomy, Anatomy], *, full: bool) -> bool:
    """Whether both have the same tensors in the same roles, by digests: where a sketch with a digest of every tensor is at hand.

    What is stored in another layout or precision is not the same tensor. A checkpoint on the other side is read in full if it is not
    large, or if ``full`` asks for it. ``False`` where that cannot be known.
    """
    known = [model.stored.tensors if isinstance(model, SketchFile) else () for model in models]
    large = any(model.nbytes > _LARGEST for model in models if not isinstance(model, SketchFile))
    if any(tensors is None for tensors in known) or (large and not full):
        return False
    sides = [
        tensors or digest_tensors(model, anatomy, None, _silent)
        for tensors, model, anatomy in zip(known, models, anatomies, strict=True)
    ]
    first, second = ({(t.roles, t.dtype, t.shape, t.sha256) for t in tensors if t.roles} for tensors in sides)
    return first == second


def _silent(_: str, __: int, ___: int) -> None:
    """No progress is shown."""


def _same(a: Checkpoint, b: Checkpoint, x: View, y: View) -> bool:
    for start, stop in _steps(x):
        if len(x.shape) == 1:
            first, second = read_vector(a, x, start, stop), read_vector(b, y, start, stop)
        else:
            first, second = (read_units(model, view, x.axes[0], start, stop) for model, view in ((a, x), (b, y)))
        if first.tobytes() != second.tobytes():
            return False
    return True


def _same_tensor(a: Checkpoint, b: Checkpoint, name: str) -> bool:
    """Whether a tensor of both is the same, byte by byte where both store the same kind of numbers."""
    x, y = a.tensors[name], b.tensors[name]
    if x.shape != y.shape:
        return False
    step = max(1, _BLOCK // max(prod(x.shape[1:]), 1))
    length = (x.shape[0] if x.shape else 1) if prod(x.shape) else 0
    ranges = [(start, min(start + step, length)) for start in range(0, length, step)]
    if x.dtype == y.dtype:
        return all(a.read_bytes(name, *rows) == b.read_bytes(name, *rows) for rows in ranges)
    return all(a.read_rows(name, *rows).tobytes() == b.read_rows(name, *rows).tobytes() for rows in ranges)


def _steps(view: View) -> Iterator[tuple[int, int]]:
    step = max(1, _BLOCK // max(prod(view.shape[1:]), 1))
    for start in range(0, view.shape[0], step):
        yield start, min(start + step, view.shape[0])
