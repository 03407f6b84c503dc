"""Value dimensions: inside a head, which index a dimension of V has is a name (no position encoding touches V)."""

from __future__ import annotations

from collections.abc import Mapping

from homolog.probes.clones import find_own_heads
from homolog.probes.exchangeable import find_order, ordered_on_both_sides
from homolog.probes.finding import Finding, Null
from homolog.probes.groups import group_of
from homolog.probes.indices import index_test_within
from homolog.probes.pair import Pair
from homolog.roles.role import Space
from homolog.sketch.sketch import ValueBlock

__all__ = ["probe_values"]

NULL = Null(
    "exchangeable-value-dimensions",
    "At least one of the two models was trained without the other's weights. The value dimensions of a head were initialised alike and "
    "attention treats them alike, so within each head, and independently of the other heads, which index a dimension has is uniformly "
    "random.",
)


def probe_values(pair: Pair, layers: Mapping[int, int]) -> Finding:
    """Rows of the value projection, head by head, over ``layers`` of B mapped to layers of A without looking at labels."""
    name, tests = "values.rows", pair.b.anatomy.dims.layers
    if reason := _not_comparable(pair):
        return Finding.missing(name, NULL, reason, tests=tests)
    by_layer = {value.layer: value for value in pair.a.values}
    groups, left_out = [], {}
    for value in pair.b.values:
        label = f"layer {value.layer}"
        partner = by_layer.get(layers.get(value.layer, -1))
        if partner is None:
            left_out[label] = "no layer of A to compare with"
        elif reason := partner.flaw or value.flaw or _ordered(pair, partner, value):
            left_out[label] = reason
        else:
            width = min(partner.rows.shape[2], value.rows.shape[2])
            count = min(len(partner.rows), len(value.rows))
            x, y = partner.rows[:count, :, :width], value.rows[:count, :, :width]
            # Heads that began as copies of each other share one order: two models with such heads would count one match many times.
            heads = sorted({*find_own_heads(x)} & {*find_own_heads(y)})
            test = index_test_within(list(x[heads]), list(y[heads]), rngs=pair.rngs(name, value.layer))
            shown = label if partner.layer == value.layer else f"{label} ← layer {partner.layer}"
            groups.append(group_of(shown, test, frame="identity", b_layer=value.layer, a_layer=partner.layer))
    return Finding.conclude(name, NULL, tests, groups, left_out)


def _not_comparable(pair: Pair) -> str | None:
    a, b = pair.a.anatomy.dims, pair.b.anatomy.dims
    if reason := pair.ordered(Space.KV):
        return reason
    if not pair.a.values or not pair.b.values:
        return "the number of heads is not stated, or there is no value projection"
    if pair.no_frame:
        return pair.no_frame
    if (a.kv_heads, a.head_dim) != (b.kv_heads, b.head_dim):
        return "the value heads differ in number or size"
    return None


def _ordered(pair: Pair, a: ValueBlock, b: ValueBlock) -> str | None:
    def find(side: str) -> str | None:
        value = a if side == "A" else b
        heads, dim, _ = value.rows.shape
        flat = value.rows.reshape(heads * dim, -1)
        size = (flat**2).sum(axis=1, keepdims=True)
        return find_order(flat, size, pair.rngs("order values", value.layer)(side), groups=heads)

    return ordered_on_both_sides("value dimensions", find)
