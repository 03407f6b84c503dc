"""Which family a checkpoint belongs to, and the role of each of its tensors.

The names decide; config.json only breaks ties and gives the number of heads. A family is taken if it accounts for every
tensor; what no family accounts for is ``unknown``, with the reason, and never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from homolog.checkpoint.base import Checkpoint
from homolog.roles.architecture import load_architectures
from homolog.roles.fit import Fit, fit, places
from homolog.roles.names import NameTable
from homolog.roles.notes import describe
from homolog.roles.role import Anatomy, Dims, Traits
from homolog.roles.sizes import check_config, contradiction, measure

__all__ = ["resolve"]

UNEXPLAINED_SHARE = 0.02
"""Of the parameters; up to this share a family may leave tensors unexplained, if nothing that it needs is missing."""


def resolve(checkpoint: Checkpoint) -> Anatomy:
    """Find the family and give every tensor a role or a reason.

    Raises `MalformedCheckpoint` where config.json contradicts the shapes.
    """
    table = NameTable(checkpoint.tensors)
    placed = [place for family in load_architectures() if (place := places(family, table)) is not None]
    if not placed:
        return _unknown(checkpoint, "no tensor is named like the layers of a family that homolog knows")
    known = max(place.known for place in placed)
    fits = [fit(place, table, checkpoint.tensors) for place in placed if place.known == known]
    refusals = [_refusal(checkpoint, candidate) for candidate in fits]
    fitting = [candidate for candidate, refusal in zip(fits, refusals, strict=True) if refusal is None]
    if not fitting:
        closest = min(zip(fits, refusals, strict=True), key=lambda pair: _rank(pair[0]))
        return _unknown(checkpoint, f"the names are closest to the family {closest[0].family.id}, but {closest[1]}")
    chosen = _choose(checkpoint, fitting)
    return _anatomy(checkpoint, chosen, fitting)


def _refusal(checkpoint: Checkpoint, candidate: Fit) -> str | None:
    """Why the family cannot be this checkpoint's, in words; ``None`` if it can."""
    problem = candidate.problem or contradiction(candidate.views)
    if problem is not None:
        return problem
    if len(candidate.missing) > candidate.required:
        return f"only {candidate.required} of its tensors are there, and more are missing: {candidate.missing[0]} …"
    if not candidate.unexplained:
        return None
    size = sum(checkpoint.tensors[name].size for name in candidate.unexplained)
    share = size / max(checkpoint.parameters, 1)
    if share > UNEXPLAINED_SHARE or candidate.missing:
        count, example = len(candidate.unexplained), _clip(candidate.unexplained[0])
        return f"it does not name {count} of the tensors ({share:.1%} of the parameters), for example {example}"
    modules = {view.tensor.rpartition(".")[0] for view in candidate.views.values()}
    for name in candidate.unexplained:
        module, _, leaf = name.rpartition(".")
        if module in modules and leaf != "bias":
            return f"{_clip(name)} stands beside a tensor that has a role and may change what it means (a scale, a packing)"
    return None


def _choose(checkpoint: Checkpoint, fitting: Sequence[Fit]) -> Fit:
    hint = checkpoint.config.get("model_type")
    hinted = [one for one in fitting if hint in one.family.model_types and len(one.missing) * 10 <= one.required]
    return min(hinted or fitting, key=_rank)


def _rank(candidate: Fit) -> tuple[int, int, int, str]:
    """The fewest missing first, then the most required tensors found, then the stated preference."""
    return (len(candidate.missing), -candidate.required, candidate.family.preference, candidate.family.id)


def _anatomy(checkpoint: Checkpoint, chosen: Fit, fitting: Sequence[Fit]) -> Anatomy:
    family = chosen.family
    sizes = measure(chosen.views)
    dims = check_config(checkpoint, family, sizes)
    unused = {name: f"no rule of the family {family.id} names it" for name in chosen.unexplained}
    ordered = {**family.traits.ordered, **chosen.orders}
    traits = replace(family.traits, ordered=ordered, fixed=dict(sorted(chosen.fixed.items())))
    same = [
        one.family.id
        for one in fitting
        if one is not chosen and len(one.missing) == len(chosen.missing) and one.views == chosen.views
    ]
    return Anatomy(
        architecture=family.id,
        dims=dims,
        traits=traits,
        views=chosen.views,
        unused=dict(sorted({**chosen.unused, **unused}.items())),
        missing=chosen.missing,
        notes=describe(checkpoint, chosen, sizes, same),
    )


def _unknown(checkpoint: Checkpoint, reason: str) -> Anatomy:
    if not checkpoint.tensors:
        reason = "the checkpoint holds no tensors"
    return Anatomy(
        architecture="unknown",
        dims=Dims(layers=0, width=0, ffn=0, vocab=0),
        traits=Traits(),
        views={},
        unused=dict.fromkeys(checkpoint.tensors, "the family is unknown"),
        missing=(),
        reason=reason,
    )


def _clip(name: str) -> str:
    shown = "".join(c if c.isprintable() else "?" for c in name[:121])
    return shown if len(shown) <= 120 else shown[:120] + "…"
