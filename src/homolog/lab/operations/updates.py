"""Low-rank updates: adapters that are trained beside frozen weights and added to them at the end (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import re

import numpy as np

from homolog.errors import UsageError
from homolog.lab.adapters import name_adapter
from homolog.lab.registry import EVERY, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["add_adapters"]

_PLACE = re.compile(r"(?:model\.layers|transformer\.h)\.(\d+)\.(?:.*\.)?([a-z_]+)\.weight")


@register(EVERY)
def add_adapters(
    shape: Shape, weights: Weights, *, rank: int, targets: list[str], seed: int, layers: list[int] | None = None
) -> Outcome:
    """An update of rank ``rank`` for the matrices named in ``targets`` (``q_proj``, ``down_proj``, …), in all layers or in ``layers``.

    The first factor is random, the second zero: it keeps the function. Training that follows moves the adapters and nothing else, and
    they are added to the matrices when it ends.
    """
    rng, changed, fresh = np.random.default_rng(seed), dict(weights), set()
    wanted = list(range(shape.layers)) if layers is None else layers
    if not all(0 <= layer < shape.layers for layer in wanted):
        raise UsageError(f"add_adapters: layers {wanted} of a model with {shape.layers}")
    met: set[str] = set()
    for name in sorted(weights):
        match = _PLACE.fullmatch(name)
        if not match or weights[name].ndim != 2 or match[2] not in targets or int(match[1]) not in wanted:
            continue
        met.add(match[2])
        rows, columns = weights[name].shape
        if not 0 < rank <= min(rows, columns):
            raise UsageError(f"add_adapters: rank {rank} for {name} of {rows} × {columns}")
        first, second = name_adapter(name)
        changed[first] = rng.normal(0.0, columns**-0.5, (rank, columns)).astype(np.float32)
        changed[second] = np.zeros((rows, rank), dtype=np.float32)
        fresh |= {first, second}
    if missing := sorted(set(targets) - met) or ([] if targets else ["(none named)"]):
        raise UsageError(f"add_adapters: no matrix named {', '.join(missing)} in these layers")
    facts = {"rank": rank, "layers": wanted, "targets": sorted(targets)}
    return Outcome(shape, changed, frozenset(fresh), facts)
