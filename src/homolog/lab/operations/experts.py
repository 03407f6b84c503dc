"""Mixtures of experts out of dense models, and larger mixtures out of smaller ones."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from homolog.errors import UsageError
from homolog.lab.parts import list_ffns
from homolog.lab.registry import Outcome, register
from homolog.lab.shape import MIXTURES, Shape, Weights, list_tensors

__all__ = ["MODES", "grow_experts", "regroup_experts", "upcycle"]

Units = list[npt.NDArray[np.intp]]
MODES = ("copies", "partitions", "subsets")
_EXPERT = re.compile(r"model\.layers\.(\d+)\.mlp\.(?:experts\.(\d+)|shared_expert)\.(gate|up|down)_proj\.weight")


@register(frozenset({"llama", "qwen2"}))
def upcycle(
    shape: Shape,
    weights: Weights,
    *,
    experts: int,
    chosen: int,
    seed: int,
    mode: str = "copies",
    family: str = "qwen2_moe",
    groups: int = 0,
    shared: int = 0,
    units: int = 0,
    drop: float = 0.0,
    noise: float = 0.0,
    std: float = 0.02,
) -> Outcome:
    """A dense model becomes a mixture of experts: qwen2_moe, or pangu_pro_moe with ``groups`` groups of experts.

    ``mode`` says what an expert is made of: ``copies`` of the whole FFN (Komatsuzaki et al., arXiv 2212.05055), ``partitions`` that share
    no unit (LLaMA-MoE, arXiv 2406.16554), or random ``subsets`` of ``units`` units each. ``shared`` is the number of units of the shared
    expert: the most important ones, the same as the FFN's by default; partitions leave those to it. A share ``drop`` of every routed
    expert's units is drawn anew with the matrix's own deviation (Drop-Upcycling, arXiv 2502.19261), and ``noise`` is added to the routed
    experts, relative to each matrix's own deviation. Outputs are scaled so that on average the sum of the experts is the old FFN's.
    Copies in a qwen2_moe without drop and noise keep the function. Biases that the parent has not are zero.
    """
    if mode not in MODES or family not in MIXTURES:
        raise UsageError(
            f"upcycle: mode {mode!r}, family {family!r}; expected {', '.join(MODES)}; {', '.join(MIXTURES)}"
        )
    if not 0 <= drop < 1 or noise < 0 or experts < 1:
        raise UsageError(
            f"upcycle: experts {experts}, drop {drop}, noise {noise}; expected 1 or more, 0 to 1, 0 or more"
        )
    rng = np.random.default_rng(seed)
    size = _expert_size(shape, mode=mode, experts=experts, shared=shared, units=units)
    target = replace(
        shape, family=family, experts=experts, chosen=chosen, ffn=size, shared_ffn=shared or shape.ffn, groups=groups
    )
    origins = _choose_units(shape, weights, target, mode, drop, rng) if mode != "copies" or drop else None
    half = 1.0 if shared else 0.5
    routed_scale = half * (shape.ffn - shared) / size
    shared_scale = half * (2.0 if family == "qwen2_moe" else 1.0)
    grown: Weights = {}
    for name, wanted in list_tensors(target).items():
        if match := _EXPERT.fullmatch(name):
            routed = match[2] is not None
            tensor = _take_units(weights, match, origins, rng)
            if routed:
                tensor += noise * tensor.std() * rng.standard_normal(wanted).astype(np.float32)
            scale = routed_scale if routed else shared_scale
            grown[name] = tensor * np.float32(scale) if match[3] == "down" else tensor
        elif name in weights:
            grown[name] = weights[name].copy()
        else:
            grown[name] = _begin(name, wanted, target, rng, std)
    fresh = frozenset(name for name in grown if name not in weights)
    facts: dict[str, Any] = {"experts": experts, "noise": noise}
    if origins is not None:
        facts["units"] = [[units.tolist() for units in layer] for layer in origins]
    return Outcome(target, grown, fresh, facts)


@register(frozenset(MIXTURES))
def grow_experts(
    shape: Shape, weights: Weights, *, experts: int, seed: int, copied: bool = False, std: float = 0.02
) -> Outcome:
    """``experts`` more routed experts in every layer, random with zero output, or ``copied`` from old ones drawn at random.

    In a pangu_pro_moe they are shared out evenly, after the old experts of each group. New rows of the router are random; the router counts
    as new as a whole.
    """
    groups = shape.groups or 1
    if experts < 1 or experts % groups:
        raise UsageError(f"grow_experts: experts {experts}, expected a multiple of {groups}")
    rng, total = np.random.default_rng(seed), shape.experts + experts
    target = replace(shape, experts=total)
    old_of = np.full((groups, total // groups), -1)
    old_of[:, : shape.experts // groups] = np.arange(shape.experts).reshape(groups, -1)
    sources = old_of.ravel()
    twins = np.where(sources < 0, rng.integers(0, shape.experts, total), sources)
    grown: Weights = {}
    fresh: set[str] = set()
    for name, wanted in list_tensors(target).items():
        match = _EXPERT.fullmatch(name)
        if match and match[2] is not None:
            place, expert = f"model.layers.{match[1]}.mlp.experts", int(match[2])
            twin = weights[f"{place}.{twins[expert]}.{match[3]}_proj.weight"].copy()
            if sources[expert] < 0:
                fresh.add(name)
                silent = match[3] == "down"
                started = np.zeros(wanted) if silent else rng.normal(0.0, std, wanted)
                twin = twin if copied else started.astype(np.float32)
            grown[name] = twin
        elif name.endswith(("mlp.gate.weight", "router_scale")):
            fresh.add(name)
            axis = 1 if name.endswith("router_scale") else 0
            rows = np.take(weights[name], twins, axis=axis)
            if axis == 0:
                rows[sources < 0] = rng.normal(0.0, std, (experts, shape.width)).astype(np.float32)
            grown[name] = rows
        else:
            grown[name] = weights[name]
    facts = {"experts": [None if source < 0 else int(source) for source in sources], "copied": copied}
    return Outcome(target, grown, frozenset(fresh), facts)


@register(frozenset(MIXTURES))
def regroup_experts(shape: Shape, weights: Weights, *, parts: int, seed: int) -> Outcome:
    """The units of every layer's routed experts dealt out anew: each new expert gets one lot from each of ``parts`` old ones.

    A new expert's row of the router is the mean of the rows of those it got units from. Tokens go elsewhere than before, so this does *not*
    keep the function.
    """
    if not 2 <= parts <= shape.experts:
        raise UsageError(
            f"regroup_experts: parts {parts} of {shape.experts} experts, expected 2 or more, and no more than there are"
        )
    rng, changed, dealt = np.random.default_rng(seed), dict(weights), []
    for layer in range(shape.layers):
        place, circle = f"model.layers.{layer}.mlp", rng.permutation(shape.experts)
        lots = [np.array_split(rng.permutation(shape.ffn), parts) for _ in range(shape.experts)]
        takes = [[(int(circle[(new + k) % shape.experts]), k) for k in range(parts)] for new in range(shape.experts)]
        for new, sources in enumerate(takes):
            for kind, axis in (("gate", 0), ("up", 0), ("down", 1)):
                old = [(weights[f"{place}.experts.{e}.{kind}_proj.weight"], lots[e][k]) for e, k in sources]
                dealt_out = np.concatenate([np.take(matrix, units, axis=axis) for matrix, units in old], axis=axis)
                changed[f"{place}.experts.{new}.{kind}_proj.weight"] = dealt_out
        for name, axis in ((f"{place}.gate.weight", 0), (f"{place}.router_scale", 1)):
            if name in weights:
                rows = [np.take(weights[name], [e for e, _ in sources], axis=axis).mean(axis=axis) for sources in takes]
                changed[name] = np.stack(rows, axis=axis)
        dealt.append([[[e, lots[e][k].tolist()] for e, k in sources] for sources in takes])
    return Outcome(shape, changed, facts={"parts": dealt})


def _expert_size(shape: Shape, *, mode: str, experts: int, shared: int, units: int) -> int:
    """Units of a routed expert."""
    pool = shape.ffn - shared
    if not 0 <= shared < shape.ffn or (mode == "copies" and shared):
        raise UsageError(f"upcycle: shared {shared} of an FFN of {shape.ffn}; copies share the whole FFN, shared 0")
    if mode == "copies":
        return shape.ffn
    if mode == "partitions":
        if pool % experts:
            raise UsageError(f"upcycle: {pool} units do not divide into {experts} partitions")
        return pool // experts
    if not 0 < units <= pool:
        raise UsageError(f"upcycle: subsets of {units} units of {pool}")
    return units


def _choose_units(
    shape: Shape, weights: Weights, target: Shape, mode: str, drop: float, rng: np.random.Generator
) -> list[Units]:
    """For every layer the FFN's units that each routed expert takes, −1 where it gets a new one, and last those of the shared expert."""
    chosen: list[Units] = []
    for ffn in sorted(list_ffns(weights), key=lambda ffn: int(ffn.writes.split(".")[2])):
        by_importance = np.argsort(-ffn.importance(weights), kind="stable")
        cut = target.shared_ffn if target.shared_ffn < shape.ffn else 0
        pool = np.sort(by_importance[cut:])
        if mode == "copies":
            experts = [pool.copy() for _ in range(target.experts)]
        elif mode == "partitions":
            experts = [np.sort(part) for part in np.split(rng.permutation(pool), target.experts)]
        else:
            experts = [np.sort(rng.choice(pool, target.ffn, replace=False)) for _ in range(target.experts)]
        for units in experts:
            units[rng.permutation(target.ffn)[: round(drop * target.ffn)]] = -1
        chosen.append([*experts, np.sort(by_importance[:cut]) if cut else pool])
    return chosen


def _take_units(
    weights: Weights, match: re.Match[str], origins: list[Units] | None, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """One matrix of one expert: the parent's rows (columns of down) at its units, new ones at −1."""
    layer, expert, kind = int(match[1]), -1 if match[2] is None else int(match[2]), match[3]
    parent = weights[f"model.layers.{layer}.mlp.{kind}_proj.weight"]
    if origins is None:
        return parent.copy()
    units, axis = origins[layer][expert], 1 if kind == "down" else 0
    taken = np.take(parent, units, axis=axis)
    new = np.flatnonzero(units < 0)
    if len(new):
        size = (len(new), parent.shape[1]) if axis == 0 else (parent.shape[0], len(new))
        drawn = (parent.std() * rng.standard_normal(size)).astype(np.float32)
        taken[(slice(None),) * axis + (new,)] = drawn
    return taken


def _begin(
    name: str, size: tuple[int, ...], target: Shape, rng: np.random.Generator, std: float
) -> npt.NDArray[np.float32]:
    """What a tensor that the dense parent lacks starts from."""
    if name.endswith("router_scale"):
        return np.full(size, target.experts / target.chosen, dtype=np.float32)
    if name.endswith(("shared_expert_gate.weight", "bias")):
        return np.zeros(size, dtype=np.float32)
    return rng.normal(0.0, std, size).astype(np.float32)
