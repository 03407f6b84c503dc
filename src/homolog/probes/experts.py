"""Routed experts of a layer: which index an expert has is a name, unless the router works in groups."""

from __future__ import annotations

import numpy as np

from homolog.checkpoint.base import Array
from homolog.probes.exchangeable import find_order, ordered_on_both_sides
from homolog.probes.finding import Finding, Null
from homolog.probes.groups import group_of
from homolog.probes.indices import index_test
from homolog.probes.pair import Pair
from homolog.roles.role import Space

__all__ = ["probe_experts"]

NULL = Null(
    "exchangeable-experts",
    "At least one of the two models was trained without the other's weights. The experts of a layer were initialised alike and the "
    "router treats them alike, so which index an expert has is uniformly random.",
)


def probe_experts(pair: Pair) -> Finding:
    """Rows of the routers, layer by layer."""
    name, tests = "experts.rows", len(pair.b.routers)
    if not pair.a.routers or not pair.b.routers:
        return Finding.missing(name, NULL, "not a mixture of experts in both models", tests=tests)
    if reason := pair.ordered(Space.EXPERT):
        return Finding.missing(name, NULL, reason, tests=tests)
    groups, left_out = [], {}
    for layer, theirs in pair.b.routers.items():
        known = pair.a.routers.get(layer)
        label = f"layer {layer}"
        if known is None:
            left_out[label] = "A has no router there"
        elif pair.no_frame:
            left_out[label] = pair.no_frame
        elif not (np.isfinite(known).all() and np.isfinite(theirs).all()):
            left_out[label] = "contains NaN or Inf"
        else:
            # Routers share a common direction (the load balance of all experts); what tells experts apart is the rest.
            x, y = known - known.mean(axis=0), theirs - theirs.mean(axis=0)
            if reason := _ordered(pair, layer, x, y):
                left_out[label] = reason
                continue
            test = index_test([x], [y], same_axis=len(x) == len(y), rngs=pair.rngs(name, layer))
            groups.append(group_of(label, test, frame="identity", b_layer=layer, a_layer=layer))
    return Finding.conclude(name, NULL, tests, groups, left_out)


def _ordered(pair: Pair, layer: int, x: Array, y: Array) -> str | None:
    def find(side: str) -> str | None:
        rows = x if side == "A" else y
        return find_order(rows, (rows**2).sum(axis=1, keepdims=True), pair.rngs("order experts", layer)(side))

    return ordered_on_both_sides("experts", find)
