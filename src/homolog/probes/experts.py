"""Routed experts of a layer: which index an expert has is a name, unless the router works in groups."""

from __future__ import annotations

import numpy as np

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
    for layer, y in pair.b.routers.items():
        x = pair.a.routers.get(layer)
        label = f"layer {layer}"
        if x is None:
            left_out[label] = "A has no router there"
        elif x.shape[1] != y.shape[1]:
            left_out[label] = "the residual streams differ in width, so the files share no frame"
        elif not (np.isfinite(x).all() and np.isfinite(y).all()):
            left_out[label] = "contains NaN or Inf"
        else:
            # Routers share a common direction (the load balance of all experts); what tells experts apart is the rest.
            test = index_test(
                [x - x.mean(axis=0)], [y - y.mean(axis=0)], same_axis=len(x) == len(y), rngs=pair.rngs(name, layer)
            )
            groups.append(group_of(label, test, frame="identity", b_layer=layer, a_layer=layer))
    return Finding.conclude(name, NULL, tests, groups, left_out)
