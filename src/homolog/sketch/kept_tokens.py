"""Which token rows a sketch keeps, before it is known what it will be compared with.

The choice looks at the tokens alone, never at a weight or at the place of a row: two models with one tokenizer keep the same tokens, also
where the rows of one were reordered. Short tokens come first, because most tokenizers share them and most texts hold them.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from homolog.sketch.anchors import SPARE, Anchors
from homolog.sketch.vocabulary import Vocabulary

__all__ = ["MOST_ORDINARY", "MOST_UNTRAINED", "KeptTokens", "Shared", "choose_tokens", "join_tokens"]

MOST_ORDINARY, MOST_UNTRAINED = 512, 128

Ids = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """Rows of the token tables by id and by token, each token as the first eight bytes of its BLAKE2b digest."""

    height: int
    """Rows of the whole embedding; 0 if there is none."""
    source: str | None
    """Where the tokens were read; ``None`` without a tokenizer: then the keys are 0, and rows are told by their ids."""
    ids: Ids
    keys: Keys
    untrained_ids: Ids
    untrained_keys: Keys
    classes: tuple[str, ...]
    """For each never-trained token why it is one."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The tokens that two sketches share: positions among the kept rows of A and of B, pairwise the same token."""

    anchors: Anchors
    ordinary: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]
    untrained: tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def choose_tokens(vocabulary: Vocabulary | None, height: int, like: KeptTokens | None = None) -> KeptTokens:
    """Choose rows of an embedding of ``height`` rows: those of ``like`` where it is given, as far as this model has them."""
    if not height:
        return _empty(0, None)
    if vocabulary is None or (like is not None and like.source is None):
        same = like is not None and like.height == height
        ids = like.ids if like is not None and same else np.arange(min(height, MOST_ORDINARY), dtype=np.int64)
        return KeptTokens(height, None, ids, np.zeros(len(ids), dtype=np.uint64), *_nothing(), ())
    ordinary = {
        token: row
        for token, row in vocabulary.ids.items()
        if row < height and token not in vocabulary.untrained and not token.startswith(b"\0")
    }
    untrained = {token: row for token, row in vocabulary.ids.items() if row < height and token in vocabulary.untrained}
    first, reasons = _pick(ordinary, MOST_ORDINARY, like.keys if like else None), vocabulary.untrained
    second = _pick(untrained, MOST_UNTRAINED, like.untrained_keys if like else None)
    rows = [(_key(token), row, reasons[token]) for token, row in second]
    free = max(vocabulary.ids.values(), default=-1) + 1
    rows += [(_key(b"\0\0spare row %d" % row), row, SPARE) for row in range(free, min(height, free + MOST_UNTRAINED))]
    rows = rows[:MOST_UNTRAINED]
    return KeptTokens(
        height,
        vocabulary.source,
        np.array([row for _, row in first], dtype=np.int64),
        np.array([_key(token) for token, _ in first], dtype=np.uint64),
        np.array([row for _, row, _ in rows], dtype=np.int64),
        np.array([key for key, _, _ in rows], dtype=np.uint64),
        tuple(reason for _, _, reason in rows),
    )


def join_tokens(a: KeptTokens, b: KeptTokens) -> Shared:
    """The rows that both keep: by token where both know theirs, by position where the embeddings are equally tall."""
    none = np.empty(0, dtype=np.intp)
    if not a.height or not b.height:
        anchors = Anchors((), (), (), (), (), "not joined", "no token embedding", "no token embedding")
        return Shared(anchors, (none, none), (none, none))
    if a.source is None or b.source is None:
        return _join_by_position(a, b)
    ordinary = _meet(a.keys, b.keys)
    untrained = _meet(a.untrained_keys, b.untrained_keys)
    agree = [i for i, (x, y) in enumerate(zip(*untrained, strict=True)) if a.classes[x] == b.classes[y]]
    untrained = (untrained[0][agree], untrained[1][agree])
    anchors = Anchors(
        tuple(a.ids[ordinary[0]].tolist()),
        tuple(b.ids[ordinary[1]].tolist()),
        tuple(a.untrained_ids[untrained[0]].tolist()),
        tuple(b.untrained_ids[untrained[1]].tolist()),
        tuple(a.classes[position] for position in untrained[0]),
        f"by the bytes of the tokens ({a.source}, {b.source}), among those that the sketches keep",
        None if len(ordinary[0]) else "no token in common among those that the sketches keep",
        None if len(untrained[0]) else "the sketches share no token that training text cannot contain",
    )
    return Shared(anchors, ordinary, untrained)


def _join_by_position(a: KeptTokens, b: KeptTokens) -> Shared:
    none = np.empty(0, dtype=np.intp)
    lacking = " and ".join(name for name, side in (("A", a), ("B", b)) if side.source is None)
    why = f"no tokenizer that homolog reads beside the weights of {lacking}"
    if a.height != b.height:
        how = f"{why}, and the embeddings differ in height"
        return Shared(Anchors((), (), (), (), (), "not joined", how, why), (none, none), (none, none))
    first, second = _meet(a.ids, b.ids)
    rows = tuple(a.ids[first].tolist())
    how = "by position, as there is no tokenizer to join by"
    reason = None if rows else "the sketches keep no row in common"
    return Shared(Anchors(rows, rows, (), (), (), how, reason, why), (first, second), (none, none))


def _meet(x: npt.NDArray[np.generic], y: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Positions of equal entries, in the order of ``x``."""
    _, first, second = np.intersect1d(x, y, return_indices=True)
    order = np.argsort(first)
    return first[order], second[order]


def _pick(tokens: dict[bytes, int], most: int, wanted: Keys | None) -> list[tuple[bytes, int]]:
    if wanted is not None:
        known = {int(key): place for place, key in enumerate(wanted)}
        found = [(known[key], token) for token in tokens if (key := _key(token)) in known]
        return [(token, tokens[token]) for _, token in sorted(found)]
    ordered = sorted((len(token), _key(token), token) for token in tokens)
    return [(token, tokens[token]) for _, _, token in ordered[:most]]


def _key(token: bytes) -> int:
    return int.from_bytes(blake2b(token, digest_size=8).digest(), "little")


def _nothing() -> tuple[Ids, Keys]:
    return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)


def _empty(height: int, source: str | None) -> KeptTokens:
    return KeptTokens(height, source, *_nothing(), *_nothing(), ())
