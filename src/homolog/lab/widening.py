"""Disguises that make a model wider and change nothing that it computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.parts import gain_names, list_blocks
from homolog.lab.registry import DENSE, Outcome, register
from homolog.lab.shape import Shape, Weights, list_tensors

__all__ = ["pad_residual", "split_units"]


@register(DENSE - {"gpt2"})
def split_units(shape: Shape, weights: Weights, *, share: float = 1.0, seed: int) -> Outcome:
    """A share of the units of every FFN split in two that have the gate in common. Keeps the function.

    Where two units have one gate only the sum of the products ``down upᵀ`` counts: with ``a u₁ + b u₂ = u`` the units ``(u₁, a d)`` and
    ``(u₂, b d)`` do what ``(u, d)`` did, whatever noise u₁ holds; and likewise with up and down exchanged. Half of the units get the noise
    on the one side, half on the other.
    """
    if not 0 <= share <= 1:
        raise UsageError(f"split_units: share {share}, expected 0 to 1")
    rng, changed = np.random.default_rng(seed), dict(weights)
    added = round(share * shape.ffn)
    for place in list_blocks(weights):
        gate, up, down = (weights[f"{place}.{name}_proj.weight"].copy() for name in ("gate", "up", "down"))
        chosen = rng.permutation(shape.ffn)[:added]
        halves: list[npt.NDArray[np.float32]] = []
        for matrix, units in ((up, chosen[: added // 2]), (down.T, chosen[added // 2 :])):
            other = down.T if matrix is up else up
            a, b = rng.uniform(0.6, 1.4, (2, len(units), 1)).astype(np.float32)
            noise = matrix.std() * rng.standard_normal((len(units), shape.width)).astype(np.float32)
            new, copy = (matrix[units] - noise) / (2 * b), b * other[units]
            matrix[units], other[units] = (matrix[units] + noise) / (2 * a), a * other[units]
            halves += [new, copy] if matrix is up else [copy, new]
        changed[f"{place}.gate_proj.weight"] = np.concatenate([gate, gate[chosen]])
        changed[f"{place}.up_proj.weight"] = np.concatenate([up, halves[0], halves[2]])
        changed[f"{place}.down_proj.weight"] = np.concatenate([down, halves[1].T, halves[3].T], axis=1)
    return Outcome(replace(shape, ffn=shape.ffn + added), changed)


@register()
def pad_residual(shape: Shape, weights: Weights, *, seed: int) -> Outcome:
    """The residual stream widened by channels that are always zero, as many as one more key-value group of heads takes. Keeps the function.

    What reads the new channels is noise, what writes to them is zero; the gains are rescaled, because RMSNorm now divides by more channels.
    """
    added = shape.heads // shape.kv_heads
    heads, kv_heads = shape.heads + added, shape.kv_heads + 1
    wide = replace(shape, width=shape.width + added * shape.head_dim, heads=heads, kv_heads=kv_heads)
    rng, changed = np.random.default_rng(seed), {}
    silent = ("embed_tokens.weight", "o_proj.weight", "down_proj.weight", ".bias")
    for name, size in list_tensors(wide).items():
        old = weights[name]
        new = np.zeros(size, dtype=np.float32)
        if not name.endswith(silent):
            new += old.std() * rng.standard_normal(size).astype(np.float32)
        new[tuple(slice(length) for length in old.shape)] = old
        changed[name] = new
    for name in gain_names(weights):
        changed[name][: shape.width] *= np.float32((shape.width / wide.width) ** 0.5)
    return Outcome(wide, changed)
