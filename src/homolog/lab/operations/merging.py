"""Merges as an operation: the model at hand and others of its shape become one."""

from __future__ import annotations

from typing import Any

from homolog.errors import UsageError
from homolog.lab.merges import apply_merge
from homolog.lab.registry import EVERY, Find, Outcome, register
from homolog.lab.shape import Shape, Weights

__all__ = ["merge"]


@register(EVERY)
def merge(
    shape: Shape,
    weights: Weights,
    *,
    find: Find | None,
    method: str,
    models: list[str],
    base: str = "",
    seed: int = 0,
    **arguments: Any,
) -> Outcome:
    """The model merged with the finished ``models`` by ``linear``, ``slerp``, ``task_arithmetic``, ``ties`` or ``dare``.

    The last three need the ``base`` that all of them come from. Further arguments are the method's: ``coefficients``, ``t``, ``scale``,
    ``density``, ``drop``.
    """
    if find is None:
        raise UsageError("merge: the other models can only be opened where a recipe is built")
    others = [find(name) for name in ([base] if base else []) + models]
    if off := [other for other, _ in others if other != shape]:
        raise UsageError(f"merge: models of {off[0]} and of {shape} do not share a shape")
    tensors = [tensors for _, tensors in others]
    order = [tensors[0], weights, *tensors[1:]] if base else [weights, *tensors]
    try:
        merged = apply_merge(method, order, seed=seed, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"merge by {method}: {error}") from error
    return Outcome(shape, merged, facts={"models": models, "base": base})
