"""What a method is, what it says of a pair, and the model as methods read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from homolog.checkpoint.base import Array, Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.errors import HomologError
from homolog.roles.read import read_units, read_vector
from homolog.roles.resolve import resolve
from homolog.roles.role import Anatomy, Role, Space
from homolog.sketch.vocabulary import Vocabulary, read_vocabulary

__all__ = ["Method", "MethodScore", "Model", "NotApplicable", "Opinion", "shared_tokens"]


class NotApplicable(Exception):  # noqa: N818 - a pair that a method has nothing to say of is no error
    """The method's formula is not defined for this pair; the message says why."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """The answer of a method that decides for itself."""

    value: float
    says_related: bool | None
    seconds: float | None = None
    """What it cost, where the method knows better than a stopwatch around it."""
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MethodScore:
    """What a method says of a pair."""

    value: float | None
    """Larger means more related; ``None`` where the method does not apply."""
    own_threshold: float | None = None
    says_related: bool | None = None
    """At the method's own threshold; ``None`` where its authors state none."""
    reason: str | None = None
    """Why there is no value."""
    seconds: float | None = None
    peak_bytes: int | None = None
    retry: bool = False
    """Whether the reason may be gone next time: a program that is not installed, a method that failed."""


def _is_at_hand() -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Method:
    """One method. ``compute`` gives its value, or an `Opinion` where the method decides for itself."""

    name: str
    citation: str
    access: str
    """What it reads: ``weights``, ``weights and tokenizer`` …"""
    statistic: str
    """What the value is, in words."""
    compute: Callable[[Model, Model], float | Opinion]
    own_threshold: float | None = None
    """Value from which on the method's authors call a pair related."""
    threshold_source: str = "none is published"
    is_p_value: bool = False
    """Whether the value is -log10 p."""
    missing: Callable[[], str | None] = _is_at_hand
    """Why the method cannot be run on this machine, if so."""
    code: tuple[str, ...] = ("arena/methods",)
    """The parts of the package that make the answer: when they change, so may it."""
    needs_roles: bool = True
    """Whether it is run only on checkpoints whose tensors homolog recognises."""
    most: int | None = None
    """Of how many pairs of every truth and operation it is asked, where all of them would take too long; the table says so."""

    def score(self, a: Model, b: Model) -> MethodScore:
        """The method's word on B as a descendant of A; a reason instead where its formula is not defined, or where it fails."""
        absent = self.missing()
        if absent:
            return MethodScore(None, self.own_threshold, reason=absent, retry=True)
        if self.needs_roles and (a.anatomy.reason or b.anatomy.reason):
            return MethodScore(None, self.own_threshold, reason="the architecture is not recognised")
        try:
            found = self.compute(a, b)
        except NotApplicable as why:
            return MethodScore(None, self.own_threshold, reason=str(why))
        except (ArithmeticError, LookupError, ValueError, HomologError) as defect:
            # one defect of one method on one pair must not cost the run; the table shows it
            return MethodScore(
                None, self.own_threshold, reason=f"failed: {type(defect).__name__}: {defect}", retry=True
            )
        if isinstance(found, Opinion):
            return MethodScore(
                found.value + 0.0, self.own_threshold, found.says_related, None, found.seconds, found.peak_bytes
            )
        if not np.isfinite(found):
            return MethodScore(None, self.own_threshold, reason="the formula gives no finite number")
        return MethodScore(
            found + 0.0, self.own_threshold, None if self.own_threshold is None else found >= self.own_threshold
        )


class Model:
    """An open checkpoint with its anatomy, read whole matrices at a time: models of the arena are small."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.checkpoint: Checkpoint = open_checkpoint(path)
        self.anatomy: Anatomy = resolve(self.checkpoint)
        self.vocabulary: Vocabulary | None = read_vocabulary(self.checkpoint.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.checkpoint.close()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return self.anatomy.dims.layers

    @property
    def roles(self) -> Mapping[Role, tuple[int, ...]]:
        """Every role with the shape that `read` gives it."""
        return {
            role: view.shape[::-1] if view.axes[:1] == (Space.RESIDUAL,) and len(view.shape) == 2 else view.shape
            for role, view in self.anatomy.views.items()
        }

    def read(self, role: Role) -> Array:
        """A tensor with the residual axis last, whatever the file's order: ``(other, residual)`` or ``(n,)``.

        Raises `NotApplicable` where the model has no such tensor.
        """
        view = self.anatomy.views.get(role)
        if view is None:
            raise NotApplicable(f"no {role}")
        if len(view.shape) == 1:
            return read_vector(self.checkpoint, view)
        if len(view.shape) != 2 or view.axes[0] == view.axes[1]:
            raise NotApplicable(f"{role} is not stored as one matrix")
        return read_units(self.checkpoint, view, view.axes[1] if view.axes[0] == Space.RESIDUAL else view.axes[0])

    def attention(self, kind: str, layer: int) -> Array:
        """``q``, ``k``, ``v`` or ``o`` of a layer as ``(query heads · head dimension, residual)``.

        Keys and values of grouped heads are repeated for every query head that uses them.
        """
        matrix = self.read(Role(f"attn.{kind}", layer=layer))
        dims = self.anatomy.dims
        if kind in "kv" and dims.heads and dims.kv_heads and dims.kv_heads < dims.heads:
            heads = matrix.reshape(dims.kv_heads, -1, matrix.shape[1])
            return np.repeat(heads, dims.heads // dims.kv_heads, axis=0).reshape(-1, matrix.shape[1])
        return matrix

    def blocks(self, kind: str = "ffn.up") -> Sequence[Role]:
        """The weights of one kind in every FFN and expert, in order."""
        return sorted(role for role in self.anatomy.views if role.kind == kind and role.part == "weight")

    def embedding(self) -> Array:
        """The token embedding, ``(vocabulary, residual)``."""
        return self.read(Role("embed.token"))


def shared_tokens(a: Model, b: Model) -> tuple[list[int], list[int]]:
    """Rows of the two embeddings that stand for the same token, by ascending id in A; special and reserved tokens are left out.

    Without a tokenizer rows of equally tall embeddings are joined by their position. Raises `NotApplicable` if too few are left.
    """
    rows_a, rows_b = a.anatomy.dims.vocab, b.anatomy.dims.vocab
    if a.vocabulary and b.vocabulary:
        first, second = a.vocabulary, b.vocabulary
        joined = sorted(
            (i, second.ids[token])
            for token, i in first.ids.items()
            if token in second.ids and token not in first.untrained and not token.startswith(b"\0")
        )
        joined = [(i, j) for i, j in joined if i < rows_a and j < rows_b]
    elif rows_a == rows_b:
        joined = [(i, i) for i in range(rows_a)]
    else:
        raise NotApplicable("no tokenizer to join the vocabularies by")
    if len(joined) < 2:
        raise NotApplicable("no token in common")
    return [i for i, _ in joined], [j for _, j in joined]
