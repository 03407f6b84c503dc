"""Whole synthetic pairs of models for which the null holds, taken through every probe to the headline p-value.

B has learned the same function as A (so that everything label-free looks alike) under names of its own: its FFN units, residual
channels, value dimensions and never-trained tokens are relabelled at random. Both models began with all layers copies of one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from homolog.align.residual import fit_embedding_frame
from homolog.checkpoint.base import Array
from homolog.probes.channels import find_shared_table, probe_channel_profiles, probe_columns
from homolog.probes.clones import find_clones
from homolog.probes.experts import probe_experts
from homolog.probes.ffn import probe_aligned_rows, probe_profiles, probe_rows
from homolog.probes.finding import Finding
from homolog.probes.initialisation import Initialisation
from homolog.probes.pair import Pair
from homolog.probes.untrained import probe_untrained
from homolog.probes.values import probe_values
from homolog.roles.role import Anatomy, Dims, Role, Traits
from homolog.sketch.anchors import Anchors
from homolog.sketch.sketch import Sketch, TokenRows, UnitBlock, ValueBlock
from homolog.verdict import Evidence

__all__ = ["Labels", "Weights", "draw_headlines", "draw_pair", "draw_totals", "probe_pair"]

LAYERS, UNITS, CHANNELS, HEADS, DIM, TOKENS, CLASSES = 3, 24, 12, 2, 6, 30, (8, 6)


@dataclass(frozen=True)
class Labels:
    """Names of everything exchangeable in one model."""

    units: np.ndarray
    """(units,): one for all layers, as they began as clones."""
    channels: np.ndarray
    dims: np.ndarray
    """(heads, dim)."""
    tokens: np.ndarray
    """Over all never-trained tokens, class by class."""

    @classmethod
    def identity(cls) -> Labels:
        """Names kept as they are."""
        tokens = np.arange(sum(CLASSES))
        return cls(np.arange(UNITS), np.arange(CHANNELS), np.tile(np.arange(DIM), (HEADS, 1)), tokens)

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Labels:
        """Names drawn at random."""
        starts = np.cumsum([0, *CLASSES])
        tokens = np.concatenate([start + rng.permutation(n) for start, n in zip(starts, CLASSES, strict=False)])
        dims = np.stack([rng.permutation(DIM) for _ in range(HEADS)])
        return cls(rng.permutation(UNITS), rng.permutation(CHANNELS), dims, tokens)


@dataclass(frozen=True)
class Weights:
    """What one model has learned, before anything is named."""

    gate: Array
    """(layers, units, channels), as ``up`` and ``down``."""
    up: Array
    down: Array
    values: Array
    """(layers, heads, dim, channels)."""
    gains: Array
    """(layers + 1, channels)."""
    ordinary: Array
    untrained: Array

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Weights:
        """Layers that began as copies of one; never-trained tokens in classes of different scales."""

        def layers(*shape: int) -> Array:
            first = rng.standard_normal((1, *shape), dtype=np.float32)
            return first + np.float32(0.3) * rng.standard_normal((LAYERS, *shape), dtype=np.float32)

        scale = np.repeat([1.0, 20.0], CLASSES).astype(np.float32)[:, None]
        return cls(
            gate=layers(UNITS, CHANNELS),
            up=layers(UNITS, CHANNELS),
            down=layers(UNITS, CHANNELS),
            values=layers(HEADS, DIM, CHANNELS),
            gains=np.exp(np.float32(0.3) * rng.standard_normal((LAYERS + 1, CHANNELS), dtype=np.float32)),
            ordinary=rng.standard_normal((TOKENS, CHANNELS), dtype=np.float32),
            untrained=scale * rng.standard_normal((len(scale), CHANNELS), dtype=np.float32),
        )

    def moved(self, rng: np.random.Generator, noise: float) -> Weights:
        """Every number moved by ``noise`` times the spread of its tensor."""

        def move(x: Array) -> Array:
            return x + np.float32(noise * x.std()) * rng.standard_normal(x.shape, dtype=np.float32)

        parts = (self.gate, self.up, self.down, self.values, self.gains, self.ordinary, self.untrained)
        return Weights(*(move(part) for part in parts))


def sketch_of(weights: Weights, labels: Labels) -> Sketch:
    """The sketch of a model with these weights under these names."""
    c, u = labels.channels, labels.units
    units = []
    for layer in range(LAYERS):
        gate, up, down = (part[layer][u][:, c] for part in (weights.gate, weights.up, weights.down))
        digest = hashlib.sha256(gate.tobytes() + up.tobytes()).digest()
        units.append(UnitBlock(layer, -1, False, UNITS, up, gate, down, None, digest))
    values = [
        ValueBlock(layer, HEADS, np.stack([head[d][:, c] for head, d in zip(heads, labels.dims, strict=True)]))
        for layer, heads in enumerate(weights.values)
    ]
    roles = [*(Role("norm.ffn", layer=layer) for layer in range(LAYERS)), Role("norm.final")]
    norms = {
        Role("ffn.up", layer=layer): np.sqrt((weights.up[layer] ** 2).sum(axis=0))[c].astype(np.float32)
        for layer in range(LAYERS)
    }
    dims = Dims(LAYERS, CHANNELS, UNITS, TOKENS + sum(CLASSES), HEADS, HEADS, DIM)
    return Sketch(
        anatomy=Anatomy("synthetic", dims, Traits(), {}, {}, ()),
        units=tuple(units),
        values=tuple(values),
        routers={},
        channels={role: gain[c] for role, gain in zip(roles, weights.gains, strict=True)},
        column_norms=norms,
        tokens={"embed": TokenRows(weights.ordinary[:, c], weights.untrained[labels.tokens][:, c], 2.0**-24)},
        spreads={},
    )


def draw_pair(rng: np.random.Generator, *, noise: float = 0.3) -> Pair:
    """A pair under the null: A keeps its names (and may be structured), B is named at random."""
    weights = Weights.drawn(rng)
    a = sketch_of(weights, Labels.identity())
    b = sketch_of(weights.moved(rng, noise), Labels.drawn(rng))
    pair = (a, b) if rng.random() < 0.5 else (b, a)
    return Pair(*pair, int(rng.integers(2**31)))


def probe_pair(pair: Pair) -> tuple[Finding, ...]:
    """Every probe, in the order and with the plan of a comparison."""
    ids = tuple(range(TOKENS))
    spare = tuple(range(TOKENS, TOKENS + sum(CLASSES)))
    classes = tuple(np.repeat(["a byte that UTF-8 cannot contain", "a reserved token"], CLASSES).tolist())
    anchors = Anchors(ids, ids, spare, spare, classes, "by position")
    clones = (find_clones(pair.a.units), find_clones(pair.b.units))
    table = find_shared_table(pair)
    frame = fit_embedding_frame(pair.a.tokens["embed"].ordinary, pair.b.tokens["embed"].ordinary)
    rows, profiles = probe_rows(pair, clones), probe_profiles(pair, clones)
    return (
        rows.finding,
        probe_aligned_rows(pair, clones, frame, "no frame").finding,
        profiles.finding,
        probe_columns(pair, table),
        probe_channel_profiles(pair, profiles.layers(pair), table),
        probe_values(pair, rows.layers(pair)),
        probe_experts(pair),
        probe_untrained(pair, anchors, frame, "no frame", table),
    )


def draw_headlines(draws: int, seed: int) -> np.ndarray:
    """Headline log10 p of ``draws`` pairs under the null."""
    rng = np.random.default_rng(seed)
    values = np.zeros(draws)
    for i in range(draws):
        headline = Evidence(probe_pair(draw_pair(rng)), Initialisation.not_asked(), None, identical=False).headline()
        assert headline is not None
        values[i] = headline
    return values


def draw_totals(draws: int, seed: int) -> np.ndarray:
    """log10 p of the totals over layers (support only) of the FFN rows of ``draws`` pairs under the null."""
    rng = np.random.default_rng(seed)
    totals = []
    for _ in range(draws):
        pair = draw_pair(rng)
        clones = (find_clones(pair.a.units), find_clones(pair.b.units))
        totals.append(probe_rows(pair, clones).finding.total["log10_p"])
    return np.array(totals)
