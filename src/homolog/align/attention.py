"""Agreement of the attention of two models: how alike the forms are that heads ask with, in a frame fitted to what they read and write.

What a head writes where it reads something is its OV form, how it chooses where to look is its QK form (`homolog.align.heads`). Of two
models the residual streams are joined by the orthogonal map in which OV forms are most alike; the frame of the embeddings, or of the FFNs,
is where the search begins. Then every head of one model has the head of the other whose OV form is most like its own for a partner, and
the cosine of the two *QK* forms is what counts: neither the frame nor the partner was chosen by them. In models that have nothing to do
with each other it is nearly zero, whatever the search found for OV forms.

FFNs are not looked at. Copies whose FFNs were learned anew, or were taken apart, show here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from homolog.align.agreement import NOTHING, DirectedAgreement
from homolog.align.body import spread
from homolog.align.heads import Attention, Forms, list_attention, read_attention
from homolog.align.matching import unit_rows
from homolog.align.residual import Frame
from homolog.align.rotation import WIDEST, main_directions, nearest_rotation
from homolog.checkpoint.base import Array, Checkpoint
from homolog.roles.role import Anatomy

__all__ = ["HeadAgreement", "Heads", "measure_heads", "merge_equal_heads", "read_heads"]

_LAYERS, _MOST, _NUMBERS = 64, 1024, 2**26
"""At most so many layers, evenly over the depth, and heads of all of them together: of a layer those of the largest OV forms. And how many
numbers are held of one model while it is read."""

_WIDE, _LAYERS_OF_WIDE = 1024, 16
"""Width from which fewer layers are looked at: heads of these take longer to decompose than all else that is done with them."""

_RANK = 16
"""Directions of a form that are kept, the largest first."""

_EQUAL = 0.95
"""Cosine of QK forms from which two heads of a layer look at the same places, so that only the sum of what they write counts."""

_CANCELLED = 0.05
"""Share of the sizes of merged OV forms below which their sum counts as nothing."""

_SEARCHED = 64
"""In how many of the directions in which forms are compared partners are looked for: those with the largest second moment of what heads
read and write."""

_ROUNDS, _STILL = 30, 1e-3

_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of a model, each with two forms of rank r: ``Σ_j write_j read_jᵀ`` and ``Σ_j key_j query_jᵀ``, along main directions."""

    basis: Array
    """(d, t): the directions of the stream in which heads are given."""
    layer: npt.NDArray[np.intp]
    """(n,): of every head; within a layer the heads of the largest OV forms come first."""
    read: Array
    """(n, r, t)."""
    write: Array
    """(n, r, t)."""
    query: Array
    """(n, s, t)."""
    key: Array
    """(n, s, t)."""
    cut: bool = False
    """Whether only heads of the largest OV forms were kept."""
    absent: str | None = None
    """Why there are none."""

    def __len__(self) -> int:
        return len(self.layer)

    @classmethod
    def missing(cls, reason: str) -> Heads:
        """None, with the reason."""
        none = np.empty((0, 0, 0), dtype=np.float32)
        return cls(
            np.empty((0, 0), dtype=np.float32), np.empty(0, dtype=np.intp), none, none, none, none, absent=reason
        )

    def turn(self, basis: Array) -> Heads:
        """The same heads along fewer directions, ``basis`` (t, u) of those that they are given in."""
        return replace(
            self,
            basis=self.basis @ basis,
            read=self.read @ basis,
            write=self.write @ basis,
            query=self.query @ basis,
            key=self.key @ basis,
        )

    def take(self, chosen: npt.NDArray[np.intp]) -> Heads:
        """The heads ``chosen``, in that order."""
        return replace(
            self,
            layer=self.layer[chosen],
            read=self.read[chosen],
            write=self.write[chosen],
            query=self.query[chosen],
            key=self.key[chosen],
        )


@dataclass(frozen=True, slots=True)
class HeadAgreement:
    """How far the heads of two models agree, or why that could not be asked."""

    b_in_a: DirectedAgreement = NOTHING
    """Layer of B → median cosine of its heads' QK forms with those of their partners in A, and the layer that most of them lie in."""
    a_in_b: DirectedAgreement = NOTHING
    fit: float = 0.0
    """Mean cosine of partners' OV forms."""
    frame: Frame | None = None
    absent: str | None = None

    @property
    def value(self) -> float:
        """The statistic: the median over layers, the larger of both directions."""
        return max(self.b_in_a.median, self.a_in_b.median)


def read_heads(checkpoint: Checkpoint, anatomy: Anatomy) -> Heads:
    """The heads of a resolved checkpoint in canonical form, layer by layer. Raises CheckpointError where the file cannot be read."""
    layers = list_attention(anatomy)
    width = anatomy.dims.width
    kept = _LAYERS if width <= _WIDE else _LAYERS_OF_WIDE
    layers = spread(layers, kept)
    most = max(4, min(_MOST, _NUMBERS // (4 * _RANK * max(width, 1))) // max(len(layers), 1))
    found, cut, reason = [], False, "no layer has attention that is known"
    moment = np.zeros((width, width) if width > WIDEST else (0, 0), dtype=np.float32)
    for layer in layers:
        attention = read_attention(checkpoint, anatomy, layer)
        if not isinstance(attention, Attention):
            reason = attention.reason
            continue
        heads = _of_layer(attention)
        if not len(heads):
            continue
        cut |= len(heads) > most
        heads = heads.take(np.argsort(-_sizes(heads.read, heads.write), kind="stable")[:most])
        read, write = _normalise(heads.read, heads.write)
        query, key = _normalise(heads.query, heads.key)
        found.append(replace(heads, read=read, write=write, query=query, key=key))
        if moment.size:
            moment += _second_moment(found[-1])
    if not found:
        return Heads.missing(reason)
    if len({(heads.read.shape[1], heads.query.shape[1]) for heads in found}) > 1:
        return Heads.missing("the heads of its layers differ in size")
    basis = main_directions(moment) if moment.size else np.eye(width, dtype=np.float32)
    if moment.size:
        for place, heads in enumerate(found):  # one by one, so that the whole is never held twice
            found[place] = heads.turn(basis)
    read, write, query, key = (
        np.concatenate([getattr(heads, side) for heads in found]) for side in ("read", "write", "query", "key")
    )
    return Heads(basis, np.concatenate([heads.layer for heads in found]), read, write, query, key, cut)


def measure_heads(a: Heads, b: Heads, starts: Sequence[Frame]) -> HeadAgreement:
    """Agreement of the heads of two models, in the best frame that is found from ``starts``. Deterministic, nothing random."""
    for name, heads in (("A", a), ("B", b)):
        if heads.absent:
            return HeadAgreement(absent=f"{name}: {heads.absent}")
    if not starts:
        return HeadAgreement(
            absent="there is no frame to begin with: no shared tokens, and FFNs that cannot be aligned"
        )
    fits = [_fit(a, b, (a.basis.T @ start.a) @ (start.b.T @ b.basis)) for start in starts]
    turn, fit = max(fits, key=lambda found: found[1])
    written = _cosines(a, b, turn)
    return HeadAgreement(
        _look_up(written.T, b, a, turn.T), _look_up(written, a, b, turn), fit, Frame(a.basis @ turn, b.basis)
    )


def merge_equal_heads(ov: Forms, qk: Forms) -> tuple[Forms, Forms]:
    """Heads of one layer that look at the same places as one: the QK form of the first, and the sum of what they write.

    A head that was split in two comes back as it was, and heads that cancel each other go.
    """
    query, key = _normalise(*_scaled(_shorten(qk)))
    alike = _inner(query, key) > _EQUAL
    if np.count_nonzero(alike) == len(alike):
        return ov, qk
    read, write = _scaled(ov)
    kept, sums = [], []
    free = np.ones(len(alike), dtype=bool)
    for head in range(len(alike)):
        if not free[head]:
            continue
        group = np.flatnonzero(alike[head] & free)
        free[group] = False
        summed = _sum_forms(read[group], write[group], read.shape[1])
        if float(np.linalg.norm(summed[1])) >= _CANCELLED * float(_sizes(read[group], write[group]).sum()):
            kept.append(head)
            sums.append(summed)
    left, size, right = (np.stack(part) for part in zip(*sums, strict=True)) if sums else (x[:0] for x in _parts(ov))
    return Forms(left, size, right), Forms(*(part[kept] for part in _parts(qk)))


def _inner(x: Array, y: Array) -> Array:
    """Inner products (n, n) of forms with the factors ``x`` and ``y`` (n, r, d), one with another."""
    n, r = x.shape[:2]
    first, second = (part.reshape(n * r, -1) @ part.reshape(n * r, -1).T for part in (x, y))
    return np.asarray((first * second).reshape(n, r, n, r).sum(axis=(1, 3)), dtype=np.float32)


def _of_layer(attention: Attention) -> Heads:
    """The heads of one layer, equal ones merged, their forms cut to a few directions; those that do nothing are left out."""
    ov, qk = merge_equal_heads(attention.read_ov(), attention.read_qk())
    read, write = _scaled(_shorten(ov))
    query, key = _scaled(_shorten(qk))
    heads = Heads(
        np.eye(read.shape[2], dtype=np.float32),
        np.full(len(read), attention.layer, dtype=np.intp),
        read,
        write,
        query,
        key,
    )
    does = (_sizes(read, write) > _TINY) & (_sizes(query, key) > _TINY)
    return heads.take(np.flatnonzero(does))


def _parts(forms: Forms) -> tuple[Array, Array, Array]:
    return forms.left, forms.size, forms.right


def _shorten(forms: Forms) -> Forms:
    return Forms(*(part[:, :_RANK] for part in _parts(forms)))


def _scaled(forms: Forms) -> tuple[Array, Array]:
    """Factors (n, r, d) of both sides that the sizes are shared out to evenly."""
    root = np.sqrt(forms.size)[:, :, None]
    return forms.left * root, forms.right * root


def _sum_forms(read: Array, write: Array, rank: int) -> tuple[Array, Array, Array]:
    """Singular triples (left, size, right) of the sum of forms given by factors (n, r, d), the largest ``rank``."""
    q_read, r_read = np.linalg.qr(np.concatenate(read).T)
    q_write, r_write = np.linalg.qr(np.concatenate(write).T)
    left, size, right = np.linalg.svd(r_write @ r_read.T)
    return (
        np.asarray((q_read @ right.T).T[:rank], dtype=np.float32),
        np.asarray(size[:rank], dtype=np.float32),
        np.asarray((q_write @ left).T[:rank], dtype=np.float32),
    )


def _sizes(x: Array, y: Array) -> Array:
    """Norms (n,) of the forms with the factors ``x`` and ``y`` (n, r, d)."""
    inner = (x @ np.swapaxes(x, 1, 2)) * (y @ np.swapaxes(y, 1, 2))
    return np.asarray(np.sqrt(np.maximum(inner.sum(axis=(1, 2)), 0.0)), dtype=np.float32)


def _normalise(x: Array, y: Array) -> tuple[Array, Array]:
    root = np.sqrt(np.maximum(_sizes(x, y), _TINY))[:, None, None]
    return np.asarray(x / root, dtype=np.float32), np.asarray(y / root, dtype=np.float32)


def _second_moment(heads: Heads) -> Array:
    """Of all that the heads read and write, (d, d)."""
    total = np.zeros((len(heads.basis), len(heads.basis)), dtype=np.float32)
    for part in (heads.read, heads.write, heads.query, heads.key):
        rows = part.reshape(-1, len(total))
        total += rows.T @ rows
    return total


def _cosines(a: Heads, b: Heads, turn: Array) -> Array:
    """Cosines (n, m) of the OV forms of two models, whose streams ``turn`` (d, e) joins, along the main directions of ``b``."""
    seen = turn[:, -_SEARCHED:]
    first = _flatten(a.read @ seen, a.write @ seen)
    second = _flatten(b.read[:, :, -_SEARCHED:], b.write[:, :, -_SEARCHED:])
    return np.asarray(first @ second.T, dtype=np.float32)


def _flatten(x: Array, y: Array) -> Array:
    """Forms with the factors ``x`` and ``y`` (n, r, d) as unit vectors (n, d²)."""
    return unit_rows((np.swapaxes(y, 1, 2) @ x).reshape(len(x), -1))


def _fit(a: Heads, b: Heads, start: Array) -> tuple[Array, float]:
    """Rounds of matching OV forms in the frame so far and turning it towards the partners found; the frame, and how well they agree."""
    turn, fit = nearest_rotation(start), 0.0
    for _ in range(_ROUNDS):
        cosine = _cosines(a, b, turn)
        best_b, best_a = cosine.argmax(axis=1), cosine.argmax(axis=0)
        mutual = np.flatnonzero(best_a[best_b] == np.arange(len(a)))
        partners = best_b[mutual]
        weights = np.maximum(cosine[mutual, partners], 0.0)
        fit = float(weights.sum()) / min(len(a), len(b))
        before = turn
        turn = nearest_rotation(_pull(a.take(mutual), b.take(partners), weights, turn))
        if float(np.abs(turn - before).max()) < _STILL:
            break
    return turn, fit


def _pull(a: Heads, b: Heads, weights: Array, turn: Array) -> Array:
    """The gradient (d, e) of the weighted agreement of OV forms, head by head, with respect to the map that joins the streams."""
    reads, writes = ((x @ turn) @ np.swapaxes(y, 1, 2) for x, y in ((a.read, b.read), (a.write, b.write)))
    moment = np.zeros_like(turn)
    for mine, inner, theirs in ((a.write, reads, b.write), (a.read, writes, b.read)):
        weighed = (inner @ theirs) * weights[:, None, None]
        moment += mine.reshape(-1, turn.shape[0]).T @ weighed.reshape(-1, turn.shape[1])
    return moment


def _look_up(written: Array, wanted: Heads, among: Heads, turn: Array) -> DirectedAgreement:
    """Layer by layer the median cosine of QK forms with those of the partners that OV forms ``written`` (n, m) name."""
    partner = written.argmax(axis=1)
    theirs = among.take(partner)
    first, second = (
        (x @ turn) @ np.swapaxes(y, 1, 2) for x, y in ((wanted.query, theirs.query), (wanted.key, theirs.key))
    )
    asked = (first * second).sum(axis=(1, 2))
    shares: dict[int, float] = {}
    sources: dict[int, int] = {}
    for layer in np.unique(wanted.layer).tolist():
        heads = np.flatnonzero(wanted.layer == layer)
        if wanted.cut:
            # The largest come first; only those of the larger half are sure to be among those that the other side kept.
            heads = heads[: max(1, len(heads) // 2)]
        shares[layer] = float(np.median(asked[heads]))
        votes: dict[int, float] = {}
        for head in heads:
            source = int(theirs.layer[head])
            votes[source] = votes.get(source, 0.0) + float(written[head, partner[head]])
        sources[layer] = max(votes, key=lambda k: (votes[k], -k))
    return DirectedAgreement(shares, sources)
