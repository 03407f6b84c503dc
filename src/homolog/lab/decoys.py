"""The strongest free attacks on a search for units: units that are rewritten, drowned or buried while the model computes the same.

Unlike the plain disguises they make the model larger; that is their price. Each aims at a particular step of a detector.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from homolog.errors import UsageError
from homolog.lab.parts import gain_names, list_blocks
from homolog.lab.registry import DENSE, Outcome, register
from homolog.lab.shape import Shape, Weights
from homolog.lab.widening import pad_residual

__all__ = ["add_decoys", "bury_units", "flip_gates"]

_GATED = DENSE - {"gpt2"}


@register(_GATED)
def flip_gates(shape: Shape, weights: Weights, *, share: float = 1.0, quiet: float = 0.0, seed: int) -> Outcome:
    """A share of the units of every FFN with the opposite gate, and more units that make up for it. Keeps the function.

    As ``silu(z) - silu(-z) = z``, the unit (g, u, d) is the unit (-g, u, d) and the form ``(g·x)(u·x) d``; and that form is the two units
    (u, g, d) and (-u, g, -d). With ``quiet`` above 0 it is one unit (ε u, g, 2 d / ε) instead, as ``silu(z)`` is ``z / 2`` near 0: no unit
    then has an opposite gate, and the error is of the size of ε.
    """
    rng, changed = np.random.default_rng(seed), dict(weights)
    count = _count("flip_gates", share, shape.ffn)
    if not 0 <= quiet < np.inf:
        raise UsageError(f"flip_gates: quiet {quiet}, expected a finite number of 0 or more")
    for place in list_blocks(weights):
        gate, up, down = (weights[f"{place}.{name}_proj.weight"] for name in ("gate", "up", "down"))
        chosen = rng.permutation(shape.ffn)[:count]
        gates, ups, downs = [gate.copy()], [up], [down]
        gates[0][chosen] = -gate[chosen]
        if quiet:
            gates.append(np.float32(quiet) * up[chosen])
            ups.append(gate[chosen])
            downs.append(np.float32(2 / quiet) * down[:, chosen])
        else:
            gates += [up[chosen], -up[chosen]]
            ups += [gate[chosen], gate[chosen]]
            downs += [down[:, chosen], -down[:, chosen]]
        changed[f"{place}.gate_proj.weight"] = np.concatenate(gates)
        changed[f"{place}.up_proj.weight"] = np.concatenate(ups)
        changed[f"{place}.down_proj.weight"] = np.concatenate(downs, axis=1)
    return Outcome(replace(shape, ffn=shape.ffn + (1 if quiet else 2) * count), changed)


@register(_GATED)
def add_decoys(shape: Shape, weights: Weights, *, pairs: int, length: float = 1.0, seed: int) -> Outcome:
    """Pairs of units that cancel each other: one gate, one up, opposite downs. Keeps the function.

    Every gate is ``length`` times as long as the longest of the FFN: a search that looks at the longest gates first sees decoys alone.
    """
    if pairs < 1 or not 0 < length < np.inf:
        raise UsageError(f"add_decoys: pairs {pairs}, length {length}: expected at least 1, and a number above 0")
    rng, changed = np.random.default_rng(seed), dict(weights)
    for place in list_blocks(weights):
        gate, up, down = (weights[f"{place}.{name}_proj.weight"] for name in ("gate", "up", "down"))
        false = rng.standard_normal((pairs, shape.width))
        false *= length * np.linalg.norm(gate, axis=1).max() / np.linalg.norm(false, axis=1, keepdims=True)
        lent, written = (rng.integers(0, shape.ffn, pairs) for _ in range(2))
        changed[f"{place}.gate_proj.weight"] = np.concatenate([gate, false, false]).astype(np.float32)
        changed[f"{place}.up_proj.weight"] = np.concatenate([up, up[lent], up[lent]])
        changed[f"{place}.down_proj.weight"] = np.concatenate([down, down[:, written], -down[:, written]], axis=1)
    return Outcome(replace(shape, ffn=shape.ffn + 2 * pairs), changed)


@register(_GATED)
def bury_units(shape: Shape, weights: Weights, *, groups: int, noise: float, seed: int) -> Outcome:
    """The residual stream padded with dead channels in which every unit reads loud noise; further units hide that they are dead.

    ``groups`` times as many channels as one key-value group of heads takes are added, and ``noise`` counts deviations of what is read.
    The further units, half as many as there are, have gates that read dead channels alone, so that they never write: but their downs look
    as if every channel were written to. Keeps the function.
    """
    if groups < 1 or not 0 <= noise < np.inf:
        raise UsageError(
            f"bury_units: groups {groups}, noise {noise}: expected at least 1, and a finite number of 0 or more"
        )
    rng, true = np.random.default_rng(seed), shape.width
    for _ in range(groups):
        outcome = pad_residual(shape, weights, seed=int(rng.integers(2**31)))
        shape, weights = outcome.shape, outcome.weights
    changed, gains = dict(weights), set(gain_names(weights))
    dead, more = shape.width - true, shape.ffn // 2
    for name, tensor in weights.items():
        if name in gains:  # a gain of its own for a dead channel would show it
            changed[name] = tensor.copy()
            changed[name][true:] = rng.choice(tensor[:true], dead)
    for place in list_blocks(weights):
        gate, up, down = (weights[f"{place}.{name}_proj.weight"].copy() for name in ("gate", "up", "down"))
        false = np.zeros((more, shape.width), dtype=np.float32)
        for rows in (gate, up, false):
            rows[:, true:] = noise * gate[:, :true].std() * rng.standard_normal((len(rows), dead))
        others = up[:, :true].std() * rng.standard_normal((more, shape.width))
        written = down[:true].std() * rng.standard_normal((shape.width, more))
        changed[f"{place}.gate_proj.weight"] = np.concatenate([gate, false])
        changed[f"{place}.up_proj.weight"] = np.concatenate([up, others]).astype(np.float32)
        changed[f"{place}.down_proj.weight"] = np.concatenate([down, written], axis=1).astype(np.float32)
    return Outcome(replace(shape, ffn=shape.ffn + more), changed)


def _count(operation: str, share: float, units: int) -> int:
    if not 0 <= share <= 1:
        raise UsageError(f"{operation}: share {share}, expected 0 to 1")
    return round(share * units)
