"""Which rows of the two embeddings to read: shared ordinary tokens (anchors) and shared tokens that no training moved on purpose.

The choice looks at the tokenizers and the number of rows only, never at a weight, so it cannot be tuned to the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

from homolog.sketch.vocabulary import Vocabulary

__all__ = ["SPARE", "Anchors", "choose_anchors"]

SPARE = "a row beyond the tokenizer's last token"

_MOST_ANCHORS = 512
_MOST_UNTRAINED = 128


@dataclass(frozen=True, slots=True)
class Anchors:
    """Row ids in A and in B, pairwise the same token."""

    ordinary_a: tuple[int, ...]
    ordinary_b: tuple[int, ...]
    untrained_a: tuple[int, ...]
    untrained_b: tuple[int, ...]
    classes: tuple[str, ...]
    """For each never-trained token why it is one; only tokens of one class are exchangeable."""
    how: str
    """How the tokens were joined, in words."""
    no_ordinary: str | None = None
    """Why there are no ordinary anchors."""
    no_untrained: str | None = None
    """Why there are no never-trained tokens."""


def choose_anchors(a: Vocabulary | None, b: Vocabulary | None, rows_a: int, rows_b: int) -> Anchors:
    """Join two vocabularies whose embeddings have ``rows_a`` and ``rows_b`` rows.

    With both tokenizers at hand tokens are joined by their bytes. Without, rows of equally tall embeddings are joined by their
    position, which is a guess that can only cost power: no null hypothesis depends on it.
    """
    if not rows_a or not rows_b:
        return Anchors((), (), (), (), (), "not joined", "no token embedding", "no token embedding")
    if a is None or b is None:
        return _join_by_position(a, b, rows_a, rows_b)
    shared = sorted((i, b.ids[token], token) for token, i in a.ids.items() if token in b.ids)
    shared = [(i, j, token) for i, j, token in shared if i < rows_a and j < rows_b]
    ordinary = [
        (i, j) for i, j, t in shared if t not in a.untrained and t not in b.untrained and not t.startswith(b"\0")
    ]
    untrained = [(i, j, a.untrained[t]) for i, j, t in shared if t in a.untrained and t in b.untrained]
    first_free = max(max(a.ids.values(), default=-1), max(b.ids.values(), default=-1)) + 1
    untrained += [(i, i, SPARE) for i in range(first_free, min(rows_a, rows_b))]
    ordinary, untrained = ordinary[:_MOST_ANCHORS], untrained[:_MOST_UNTRAINED]
    return Anchors(
        tuple(i for i, _ in ordinary),
        tuple(j for _, j in ordinary),
        tuple(i for i, _, _ in untrained),
        tuple(j for _, j, _ in untrained),
        tuple(reason for _, _, reason in untrained),
        f"by the bytes of the tokens ({a.source}, {b.source})",
        None if ordinary else "no token in common",
        None if untrained else "the tokenizers share no token that training text cannot contain",
    )


def _join_by_position(a: Vocabulary | None, b: Vocabulary | None, rows_a: int, rows_b: int) -> Anchors:
    lacking = " and ".join(name for name, v in (("A", a), ("B", b)) if v is None)
    why = f"no tokenizer that homolog reads beside the weights of {lacking}"
    if rows_a != rows_b:
        return Anchors((), (), (), (), (), "not joined", f"{why}, and the embeddings differ in height", why)
    ids = tuple(range(min(rows_a, _MOST_ANCHORS)))
    return Anchors(ids, ids, (), (), (), "by position, as there is no tokenizer to join by", None, why)
