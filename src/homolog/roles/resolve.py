"""Which family a checkpoint belongs to, and the role of each of its tensors.

The names decide; config.json only breaks ties and gives the number of heads. A family is taken if it accounts for every
tensor. Where no name is any family's, roles are inferred from shapes and values (`homolog.roles.anonymous`), as far as they are beyond
doubt; what remains is ``unknown``, with the reason, and never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from homolog.checkpoint.base import Checkpoint
from homolog.roles.anonymous.infer import infer_roles
from homolog.roles.architecture import load_architectures
from homolog.roles.fit import Fit, fit
from homolog.roles.names import NameTable, shorten
from homolog.roles.notes import describe
from homolog.roles.place import Place, best_place
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
    placed = [place for family in load_architectures() if (place := best_place(family, table)) is not None]
    if not placed:
        inferred = infer_roles(checkpoint)
        if isinstance(inferred, Anatomy):
            return inferred
        said = "no tensor is named like the layers of a family that homolog knows"
        return _unknown(checkpoint, f"{said}, and the shapes and values do not tell its roles: {inferred}")
    known = max(place.known for place in placed)
    best = [place for place in placed if place.known == known]
    whole = [place for place in best if place.expected <= 2 * place.known]
    if not whole:
        closest = min(best, key=lambda place: place.family.preference)
        found = f"only {closest.known} of at least {closest.expected} tensors of its layers are there"
        return _unknown(checkpoint, f"the names are closest to the family {closest.family.id}, but {found}")
    fits: list[Fit] = []
    refusals: list[str | None] = []
    fitting: list[Fit] = []
    for places in _in_turn(checkpoint, whole):
        fits += _fit_all(places, table, checkpoint)
        refusals += [_refusal(checkpoint, candidate) for candidate in fits[len(refusals) :]]
        fitting = [candidate for candidate, refusal in zip(fits, refusals, strict=True) if refusal is None]
        if fitting:
            break
    if not fitting:
        nearest, refusal = min(zip(fits, refusals, strict=True), key=lambda pair: (pair[0].lacks, *_rank(pair[0])))
        return _unknown(checkpoint, f"the names are closest to the family {nearest.family.id}, but {refusal}")
    chosen = _choose(checkpoint, fitting)
    return _anatomy(checkpoint, chosen, fitting)


def _in_turn(checkpoint: Checkpoint, places: Sequence[Place]) -> Iterator[list[Place]]:
    """Places with the fewest absent tensors first, and those that config.json hints at with the first of them."""
    hint = checkpoint.config.get("model_type")
    hinted = [place for place in places if hint in place.family.model_types]
    rest = sorted((place for place in places if place not in hinted), key=lambda place: place.absent)
    groups = [list(group) for _, group in groupby(rest, key=lambda place: place.absent)] or [[]]
    yield hinted + groups[0]
    yield from groups[1:]


def _fit_all(places: Sequence[Place], table: NameTable, checkpoint: Checkpoint) -> list[Fit]:
    """The fit of each place; families that make the same of the tensors share the work."""
    done: dict[tuple[object, ...], Fit] = {}
    fits = []
    for place in places:
        signature = place.signature
        if signature not in done:
            done[signature] = fit(place, table, checkpoint)
        fits.append(replace(done[signature], family=place.family))
    return fits


def _refusal(checkpoint: Checkpoint, candidate: Fit) -> str | None:
    """Why the family cannot be this checkpoint's, in words; ``None`` if it can."""
    problem = candidate.problem or contradiction(candidate.views)
    if problem is not None:
        return problem
    if candidate.lacks:
        return f"no layer is a {candidate.lacks}"
    if candidate.lost > candidate.required:
        found, lost = candidate.required, candidate.lost
        return f"only {found} of its tensors are there, and {lost} are missing, for example {candidate.missing[0]}"
    return _unexplained(checkpoint, candidate) if candidate.unexplained else None


def _unexplained(checkpoint: Checkpoint, candidate: Fit) -> str | None:
    """Why the tensors that no rule names cannot be passed over; ``None`` if they can."""
    size = sum(checkpoint.tensors[name].size for name in candidate.unexplained)
    share = size / max(checkpoint.parameters, 1)
    if share > UNEXPLAINED_SHARE or candidate.missing:
        count, example = len(candidate.unexplained), shorten(candidate.unexplained[0])
        return f"it does not name {count} of the tensors ({share:.1%} of the parameters), for example {example}"
    modules = {view.tensor.rpartition(".")[0] for view in candidate.views.values()}
    for name in candidate.unexplained:
        module, _, leaf = name.rpartition(".")
        if module in modules and leaf != "bias":
            return f"{shorten(name)} stands beside a tensor that has a role and may change its meaning (a scale, a packing)"
    return None


def _choose(checkpoint: Checkpoint, fitting: Sequence[Fit]) -> Fit:
    hint = checkpoint.config.get("model_type")
    hinted = [one for one in fitting if hint in one.family.model_types and one.lost * 10 <= one.required]
    return min(hinted or fitting, key=_rank)


def _rank(candidate: Fit) -> tuple[int, int, int, str]:
    """The fewest missing first, then the most required tensors found, then the stated preference."""
    return (candidate.lost, -candidate.required, candidate.family.preference, candidate.family.id)


def _anatomy(checkpoint: Checkpoint, chosen: Fit, fitting: Sequence[Fit]) -> Anatomy:
    family = chosen.family
    sizes = measure(chosen.views)
    dims = check_config(checkpoint, family, sizes)
    unused = {name: f"no rule of the family {family.id} names it" for name in chosen.unexplained}
    ordered = {**family.traits.ordered, **chosen.orders}
    traits = replace(family.traits, ordered=ordered, fixed=dict(sorted(chosen.fixed.items())))
    same = [
        one.family.id for one in fitting if one is not chosen and one.lost == chosen.lost and one.views == chosen.views
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
