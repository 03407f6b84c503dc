"""The sizes of a model as its tensors have them, and whether they agree with each other and with config.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from homolog.checkpoint.base import Checkpoint
from homolog.errors import MalformedCheckpoint
from homolog.roles.names import shorten
from homolog.roles.role import Dims, Role, Space, View
from homolog.roles.rules import Architecture

__all__ = ["Sizes", "Stated", "check_config", "contradiction", "measure"]

Sizes = dict[str, Counter[int]]
"""For each size of a family file's ``[config]``: the values found, each with the number of tensors that have it."""

_SIZE_OF = {
    Space.RESIDUAL: "width",
    Space.QUERY: "query",
    Space.KV: "kv",
    Space.KEY: "key",
    Space.HEAD_DIM: "head_dim",
    Space.EXPERT: "experts",
    Space.POSITION: "positions",
    Space.SEGMENT: "segments",
}
_PLAIN = ("layers", "width", "ffn", "expert_ffn", "shared_ffn", "vocab", "experts", "positions", "segments")
"""Sizes that config.json states as they are; heads take arithmetic."""


def contradiction(views: Mapping[Role, View]) -> str | None:
    """Two tensors that cannot belong to one model, in words; ``None`` if all sizes agree."""
    first: dict[tuple[object, ...], tuple[int, str]] = {}
    for role, view in views.items():
        for space, size in zip(view.axes, view.shape, strict=True):
            key = _shared_by(space, role)
            if key is None:
                continue
            agreed, name = first.setdefault(key, (size, view.tensor))
            if size != agreed:
                return f"{shorten(view.tensor)} has {size} along {space.value}, where {shorten(name)} has {agreed}"
    return None


def _shared_by(space: Space, role: Role) -> tuple[object, ...] | None:
    """Tensors with the same key must agree in size; ``None`` where nothing has to agree."""
    if space in (Space.RESIDUAL, Space.HEAD_DIM, Space.EMBEDDING):
        return (space,)
    if space in (Space.QUERY, Space.KV, Space.KEY, Space.ROTARY, Space.Q_LATENT, Space.KV_LATENT, Space.HEAD):
        return (space, role.layer)
    if space is Space.FFN:
        return (space, role.layer, role.expert, role.shared)
    return None


def measure(views: Mapping[Role, View]) -> Sizes:
    """Collect the sizes of all spaces."""
    sizes: Sizes = {}
    numbered: dict[int, int] = {}
    layers = 0
    for role, view in views.items():
        layers = max(layers, role.layer + 1)
        if role.expert >= 0:
            numbered[role.layer] = max(numbered.get(role.layer, 0), role.expert + 1)
        for space, size in zip(view.axes, view.shape, strict=True):
            if space is Space.FFN:
                which = "shared_ffn" if role.shared else "expert_ffn" if role.expert >= 0 else "ffn"
            elif space is Space.VOCAB:
                which = "vocab" if role.kind == "embed.token" else "unembed"
            else:
                which = _SIZE_OF.get(space, "")
            if which and not (role.detail and space is not Space.RESIDUAL):
                sizes.setdefault(which, Counter())[size] += 1
    if layers:
        sizes["layers"] = Counter([layers])
    if numbered and "experts" not in sizes:
        sizes["experts"] = Counter(numbered.values())
    if "vocab" not in sizes and "unembed" in sizes:
        sizes["vocab"] = sizes["unembed"]
    return sizes


def check_config(checkpoint: Checkpoint, family: Architecture, sizes: Sizes) -> Dims:
    """The sizes of the model; the config is believed only where the tensors are silent.

    Raises `MalformedCheckpoint` where config.json says otherwise than the tensors.
    """
    stated = Stated(checkpoint, family)
    for which in _PLAIN:
        found = sizes.get(which)
        value, key = stated.value(which)
        # A width that differs from layer to layer (pruning) cannot be one number in a config.
        if found is not None and value and len(found) == 1 and value not in found:
            raise stated.wrong(key, value, next(iter(found)))
    heads, kv_heads, head_dim = _heads(stated, sizes)
    return Dims(
        layers=_usual(sizes, "layers"),
        width=_usual(sizes, "width"),
        ffn=_usual(sizes, "ffn") or _usual(sizes, "expert_ffn"),
        vocab=_usual(sizes, "vocab"),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        experts=_usual(sizes, "experts"),
    )


def _heads(stated: Stated, sizes: Sizes) -> tuple[int, int, int]:
    """Query heads, key-value heads and their dimension; 0 where neither tensors nor config tell."""
    if len(sizes.get("query", ())) > 1 or len(sizes.get("kv", ())) > 1:
        return 0, 0, 0  # heads were pruned: their number differs from layer to layer
    query, kv, measured = _usual(sizes, "query"), _usual(sizes, "kv"), _usual(sizes, "head_dim")
    heads, heads_key = stated.value("heads")
    kv_heads, kv_key = stated.value("kv_heads")
    dim, dim_key = stated.value("head_dim")
    if measured and dim and dim != measured:
        raise stated.wrong(dim_key, dim, measured)
    if not measured and not dim and heads and "key" in sizes:
        dim = kv // heads
    if not measured and not dim and heads:
        if query % heads:
            raise stated.wrong(heads_key, heads, f"a divisor of {query}")
        dim = query // heads
    dim = measured or dim
    if not dim:
        return 0, 0, 0
    if (
        "key" in sizes
    ):  # latent attention: a query has more dimensions than a value, and every head has values of its own
        if heads and heads * dim != kv:
            raise stated.wrong(heads_key, heads, f"{kv} value dimensions in heads of {dim}")
        return kv // dim, kv // dim, dim
    if query % dim or kv % dim:
        key, value = (dim_key, dim) if dim_key else (heads_key, heads)
        raise stated.wrong(key or "head_dim", value, f"a whole number of heads of {dim} in {query} and {kv} dimensions")
    if heads and heads * dim != query:
        raise stated.wrong(heads_key, heads, query // dim)
    if kv_heads and kv_heads * dim != kv:
        raise stated.wrong(kv_key, kv_heads, kv // dim)
    return query // dim, kv // dim, dim


def _usual(sizes: Sizes, which: str) -> int:
    """The most frequent value, the larger one of two that are equally frequent; 0 if there is none."""
    return max(sizes.get(which, {}).items(), key=lambda item: (item[1], item[0]), default=(0, 0))[0]


class Stated:
    """What config.json states, by the keys of a family."""

    def __init__(self, checkpoint: Checkpoint, family: Architecture) -> None:
        self.checkpoint, self.family = checkpoint, family

    def value(self, which: str) -> tuple[int, str]:
        """The number and its key; ``(0, "")`` if the config is silent."""
        for key in self.family.config.get(which, ()):
            value: Any = self.checkpoint.config
            for step in key.split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
            if value is None:
                continue
            if type(value) is not int or value < 0:
                raise self.wrong(key, value, "a number")
            return value, key
        return 0, ""

    def wrong(self, key: str, found: object, expected: object) -> MalformedCheckpoint:
        """An error that names the key, what it says and what was expected; a number is what the tensors have."""
        shown = f"{expected}, as the tensors have it" if isinstance(expected, int) else str(expected)
        path = self.checkpoint.path
        return MalformedCheckpoint(path, at=f"config.json: {key}", found=str(found)[:300], expected=shown)
