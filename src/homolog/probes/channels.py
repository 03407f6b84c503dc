"""Residual channels: does B's channel i resemble A's channel i more often than any other?

Untouched by permuting neurons and heads, because the residual stream is common to all layers. ``channels.columns`` compares columns of
the embedding and unembedding over shared tokens; ``channels.profiles`` the channel's norm gains, biases and column norms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from homolog.checkpoint.base import Array
from homolog.probes.exchangeable import find_order, ordered_on_both_sides
from homolog.probes.finding import Finding, GroupResult, Null
from homolog.probes.groups import group_of
from homolog.probes.indices import index_test, profile_test
from homolog.probes.pair import Pair
from homolog.roles.role import Role, Space
from homolog.sketch.profile import channel_profile
from homolog.sketch.sketch import TokenRows

__all__ = ["common_roles", "find_shared_table", "probe_channel_profiles", "probe_columns"]

NULL = Null(
    "exchangeable-residual-channels",
    "At least one of the two models was trained without the other's weights. The channels of its residual stream were initialised "
    "alike and every matrix treats them alike, so which index a channel has is uniformly random.",
)

_TABLES = {"embed": "embedding", "unembed": "unembedding", "project": "input projection"}
_FEWEST_TOKENS, _MOST_CHANNELS = 16, 512


def find_shared_table(pair: Pair) -> str | None:
    """Why channels and tokens can show nothing: a token table that is the same in both models, if there is one.

    The same means equal bit for bit, or up to the rounding of the coarser file where the two are stored in different precisions.
    Hand-made tables, borrowed word vectors and frozen embeddings are the same in models that have nothing else in common, and they tie
    the channels of both to one order.
    """
    for key in _TABLES:
        first, second = pair.tables(key)
        if first is not None and second is not None and len(first.ordinary) and _same_table(first, second):
            return "the token table is the same in both models: a fixed, borrowed or frozen table shows no descent"
    return None


def _same_table(first: TokenRows, second: TokenRows) -> bool:
    x, y = first.ordinary, second.ordinary
    if x.shape != y.shape:
        return False
    if first.precision == second.precision:
        return np.array_equal(x, y)
    rounding = np.float32(max(first.precision, second.precision))
    return bool((np.abs(x - y) <= rounding * np.maximum(np.abs(x), np.abs(y))).all())


def probe_columns(pair: Pair, shared_table: str | None) -> Finding:
    """Columns of the embedding, and of an untied unembedding, over shared tokens, centred over the tokens; or of an input projection."""
    name = "channels.columns"
    if reason := shared_table or pair.ordered(Space.RESIDUAL):
        return Finding.missing(name, NULL, reason, tests=len(_TABLES))
    groups: list[GroupResult] = []
    left_out: dict[str, str] = {}
    for key, title in _TABLES.items():
        first, second = pair.tables(key)
        if first is None or second is None:
            left_out |= pair.lacking(key, title)
            continue
        if reason := first.flaw or second.flaw or _too_few(first):
            left_out[title] = reason
            continue
        if len(first.ordinary) != len(second.ordinary):
            left_out[title] = "the tables differ in height"
            continue
        x, y = _leading(first.ordinary.T, second.ordinary.T)
        x, y = (np.ascontiguousarray(rows - rows.mean(axis=1, keepdims=True)) for rows in (x, y))
        if reason := _ordered(pair, key, x, y):
            left_out[title] = reason
            continue
        test = index_test([x], [y], same_axis=pair.same_width, rngs=pair.rngs(name, key))
        groups.append(group_of(title, test))
    return Finding.conclude(name, NULL, len(_TABLES), groups, left_out)


def probe_channel_profiles(pair: Pair, layers: Mapping[int, int], shared_table: str | None) -> Finding:
    """Norm gains, biases and column norms of each channel, over ``layers`` of B mapped to layers of A.

    The map must not depend on which channel is which: layer by layer, or by unit profiles over whole rows. A map by the cosines of rows
    does depend on it, and would choose the layers whose channels happen to agree.
    """
    name = "channels.profiles"
    if reason := shared_table or pair.ordered(Space.RESIDUAL):
        return Finding.missing(name, NULL, reason, tests=1)
    roles_a, roles_b = common_roles(pair, layers)
    if not roles_b:
        return Finding.missing(name, NULL, "no norm gain, bias or channel norm in common", tests=1)
    x, y = _leading(channel_profile(pair.a, roles_a), channel_profile(pair.b, roles_b))
    if reason := _ordered(pair, "channel profiles", x, y):
        return Finding.missing(name, NULL, reason, tests=1)
    test = profile_test(x, y, same_axis=pair.same_width, rngs=pair.rngs(name))
    if test is None:
        return Finding.missing(name, NULL, "no feature varies over the channels", tests=1)
    return Finding.conclude(name, NULL, 1, [group_of("residual stream", test)])


def _leading(x: Array, y: Array) -> tuple[Array, Array]:
    """The leading channels of two equally wide models: any fixed choice is as valid as all. Of unequal ones all, for their order."""
    kept = slice(0, _MOST_CHANNELS if len(x) == len(y) else None)
    return x[kept], y[kept]


def common_roles(pair: Pair, layers: Mapping[int, int]) -> tuple[list[Role], list[Role]]:
    """Roles of A and of B, pairwise alike, whose channel vectors or column norms both models have and that are finite."""
    known = [{**sketch.channels, **sketch.column_norms} for sketch in (pair.a, pair.b)]
    pairs = [
        (replace(role, layer=layers[role.layer]) if role.layer >= 0 else role, role)
        for role in sorted(known[1])
        if role.layer < 0 or role.layer in layers
    ]
    pairs = [
        (a, b) for a, b in pairs if a in known[0] and np.isfinite(known[0][a]).all() and np.isfinite(known[1][b]).all()
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _ordered(pair: Pair, purpose: str, x: Array, y: Array) -> str | None:
    def find(side: str) -> str | None:
        rows = x if side == "A" else y
        size = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
        return find_order(rows, size, pair.rngs("order", purpose)(side))

    return ordered_on_both_sides("channels", find)


def _too_few(rows: TokenRows) -> str | None:
    return None if len(rows.ordinary) >= _FEWEST_TOKENS else "fewer than 16 shared tokens"
