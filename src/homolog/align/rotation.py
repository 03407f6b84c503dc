"""The frame of two bodies: the orthogonal map between two residual streams, found from FFN units alone.

A guess from numbers that no rotation changes is made better by matching again and again: gates that point the same way in the frame so
far are partners, and the frame is the orthogonal map that carries partners onto each other best. Neither embeddings nor the index of a
unit are looked at.

Where gates stand beside their opposites (see `homolog.align.canonical`) a gate's sign means nothing. Then partners are the gates of the
largest cosine in size, and the first guess takes the signs from the matched gates themselves: if R carries each gate of A to plus or minus
its partner, the products of two gates of A and of their partners have equal size, and their signs say whether the two were flipped alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from homolog.align.body import Block, Body
from homolog.align.invariants import describe_all
from homolog.align.matching import unit_rows
from homolog.align.residual import Frame
from homolog.checkpoint.base import Array

__all__ = ["WIDEST", "fit_body_frame", "main_directions", "nearest_rotation", "shorten"]

_ROUNDS = 30
WIDEST = 256
"""Directions in which units are compared; of wider streams those with the largest second moment of all units."""

_MOST_UNITS = 4096
"""Units of each model that the frame is fitted to: those of the largest effect of every FFN."""

_MOST_SIGNED = 1024
"""Pairs of units whose signs are told from each other: it takes a decomposition."""

_TEMPERATURE, _RIDGE, _BLOCK_POWER = 4.0, 0.5, 3.0
"""Of the first guess: how fast a partner's weight falls with the squared distance of invariants, what is added to their variance before
they are made uncorrelated, and how much more a pair of FFNs counts whose units resemble each other. Set on lineage a."""

Parts = Sequence[Array]


def fit_body_frame(a: Body, b: Body, *, signless: bool = False) -> tuple[Frame, float]:
    """The frame, and how well gates agree in it: the mean squared cosine of partners over the units that could have one.

    With ``signless`` gates are compared up to their sign. Both bodies need a block, and must be gated both or neither (ValueError).
    Deterministic.
    """
    if not a.blocks or not b.blocks or a.gated != b.gated:
        raise ValueError("bodies of one kind, with at least one block each, can be aligned")
    basis_a, basis_b = _directions_of(a), _directions_of(b)
    x = [[part @ basis_a for part in shorten(block, len(a.blocks), gated=a.gated)] for block in a.blocks]
    y = [[part @ basis_b for part in shorten(block, len(b.blocks), gated=b.gated)] for block in b.blocks]
    gates_a, gates_b = (unit_rows(np.concatenate([parts[0] for parts in side])) for side in (x, y))
    guess = _guess_signless(x, y) if signless else _guess(x, y)
    turn, fit = _rematch(gates_a, gates_b, guess, signless=signless)
    # x @ (basis_a turn) and y @ basis_b share a frame; with a stream wider than the other, its surplus directions have no partner.
    return Frame(basis_a @ turn, basis_b), fit


def _guess(a: Sequence[Parts], b: Sequence[Parts]) -> Array:
    """Procrustes on every possible pair of units, weighted by how alike their invariants are among all pairs of the two FFNs."""
    known_a, known_b = _uncorrelated(describe_all(a), describe_all(b))
    scores = np.zeros((len(a), len(b)))
    moments = np.zeros((len(a), len(b), a[0][0].shape[1], b[0][0].shape[1]), dtype=np.float32)
    gates_a, gates_b = ([unit_rows(parts[0]) for parts in side] for side in (a, b))
    for i, x in enumerate(known_a):
        for j, y in enumerate(known_b):
            weights = _soft_partners(x, y)
            scores[i, j] = weights.sum() / min(weights.shape)
            moments[i, j] = gates_a[i].T @ (weights @ gates_b[j])
    scores = (scores / scores.max()) ** _BLOCK_POWER
    return nearest_rotation(np.einsum("ij,ijkl->kl", scores.astype(np.float32), moments))


def _guess_signless(a: Sequence[Parts], b: Sequence[Parts]) -> Array:
    """Procrustes on pairs of units whose invariants find each other, their gates turned the same way by the signs of their products."""
    known_a, known_b = _uncorrelated(describe_all(a), describe_all(b))
    gates_a, gates_b = ([unit_rows(parts[0]) for parts in side] for side in (a, b))
    found: list[tuple[Array, Array, Array]] = []
    for y, theirs in zip(known_b, gates_b, strict=True):
        best: tuple[float, tuple[Array, Array, Array]] | None = None
        for x, mine in zip(known_a, gates_a, strict=True):
            weights = _soft_partners(x, y)
            partner = weights.argmax(axis=1)
            mutual = np.flatnonzero(weights.argmax(axis=0)[partner] == np.arange(len(partner)))
            weight = weights[mutual, partner[mutual]]
            score = float(weight.sum()) / min(weights.shape)
            if best is None or score > best[0]:
                best = score, (weight * np.float32(score**_BLOCK_POWER), mine[mutual], theirs[partner[mutual]])
        if best is not None:
            found.append(best[1])
    weight, x, y = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = np.argsort(-weight, kind="stable")[:_MOST_SIGNED]
    weight, x, y = weight[kept], x[kept], y[kept]
    alike = (x @ x.T) * (y @ y.T) * np.sqrt(np.outer(weight, weight))
    np.fill_diagonal(alike, 0)
    signs = np.linalg.eigh(alike)[1][:, -1]
    return nearest_rotation((x * (np.sqrt(weight) * signs)[:, None]).T @ y)


def _uncorrelated(a: list[Array], b: list[Array]) -> tuple[list[Array], list[Array]]:
    """Invariants in a basis in which they do not correlate, so that many versions of one number do not outvote the rest."""
    together = np.concatenate([*a, *b])
    values, vectors = np.linalg.eigh((together.T @ together) / len(together))
    change = (vectors / np.sqrt(np.maximum(values, 0) + _RIDGE)).astype(np.float32)
    return [x @ change for x in a], [y @ change for y in b]


def _soft_partners(x: Array, y: Array) -> Array:
    """Weights (n, m): for each pair the share it has of its row's likeness times the share it has of its column's."""
    squares = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", y, y)[None, :]
    likeness = (2.0 * (x @ y.T) - squares) / np.float32(_TEMPERATURE)
    rows = np.exp(likeness - likeness.max(axis=1, keepdims=True))
    columns = np.exp(likeness - likeness.max(axis=0, keepdims=True))
    return np.asarray(rows / rows.sum(axis=1, keepdims=True) * (columns / columns.sum(axis=0)), dtype=np.float32)


def _rematch(a: Array, b: Array, turn: Array, *, signless: bool) -> tuple[Array, float]:
    """Rounds of matching unit gates (n, d) and (m, e) in the frame so far and fitting it to the partners found."""
    before: npt.NDArray[np.intp] | None = None
    fit = 0.0
    for _ in range(_ROUNDS):
        signed = (a @ turn) @ b.T
        mutual, partners, weights = _find_partners(np.asarray(np.abs(signed) if signless else signed))
        fit = float(weights.sum()) / min(len(a), len(b))
        found = np.concatenate([mutual, partners])
        if before is not None and np.array_equal(found, before):
            break
        before = found
        if signless:
            weights = np.asarray(weights * np.sign(signed[mutual, partners]), dtype=np.float32)
        turn = nearest_rotation(np.asarray((a[mutual] * weights[:, None]).T @ b[partners]))
    return turn, fit


def _find_partners(cosine: Array) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], Array]:
    """Mutual nearest gates, A's and B's, and the squares of their cosines."""
    best_b, best_a = cosine.argmax(axis=1), cosine.argmax(axis=0)
    mutual = np.flatnonzero(best_a[best_b] == np.arange(len(cosine)))
    partners = best_b[mutual]
    return mutual, partners, np.maximum(cosine[mutual, partners], 0.0) ** 2


def nearest_rotation(moment: Array) -> Array:
    """The (partial) isometry nearest to ``moment`` (d, e): its polar factor (Schönemann 1966)."""
    u, _, vt = np.linalg.svd(moment, full_matrices=False)
    return np.asarray(u @ vt, dtype=np.float32)


def _directions_of(body: Body) -> Array:
    """An orthonormal basis (d, t) that turns with the stream: all of a narrow one, the main directions of all units of a wide one."""
    if body.width <= WIDEST:
        return np.eye(body.width, dtype=np.float32)
    total = np.zeros((body.width, body.width), dtype=np.float32)
    for block in body.blocks:
        for part in shorten(block, len(body.blocks), gated=body.gated):
            unit = unit_rows(part)
            total += unit.T @ unit
    return main_directions(total)


def main_directions(moment: Array) -> Array:
    """The eigenvectors (d, `WIDEST`) of the largest eigenvalues of a second moment (d, d), ascending: they turn with the stream."""
    _, vectors = np.linalg.eigh(moment)
    return np.ascontiguousarray(vectors[:, -WIDEST:], dtype=np.float32)


def shorten(block: Block, blocks: int, *, gated: bool) -> tuple[Array, ...]:
    """The parts of the units of a block with the largest effect, as many as each of ``blocks`` blocks may have."""
    parts = block.units.parts if gated else (block.units.gate, block.units.down)
    most = max(16, _MOST_UNITS // blocks)
    if len(block.units) <= most:
        return parts
    kept = block.units.strongest(most)
    return tuple(part[kept] for part in parts)
