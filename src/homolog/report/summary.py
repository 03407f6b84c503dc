"""The map of whole models in a few lines for the terminal: only what was found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from homolog.report.format import count
from homolog.report.language import t
from homolog.report.words import tell

__all__ = ["list_map"]

Json = Mapping[str, Any]

_MOST_FACTS = 3

_FEW = 0.01
"""Share of B's units up to which new, split and missing ones are left to the report: rounding to four bits alone makes some look so."""


def list_map(comparison: Json) -> Iterator[str]:
    """A line each for units, token rows, one-way facts, merges and a third model, where there is something to say of them."""
    derivation: Json = comparison.get("derivation") or {}
    yield from _units(derivation)
    yield from _tokens(derivation.get("vocabulary"))
    for fact in ((derivation.get("direction") or {}).get("facts") or ())[:_MOST_FACTS]:
        yield t("In one order only: {fact}.", fact=tell(fact["text"], 1000))
    if found := derivation.get("merges"):
        yield t("Of the given parents: {text}.", text=tell(found.get("text"), 1000))
    if found := derivation.get("given"):
        yield t("Given a third model: {text}.", text=tell(found.get("text"), 1000))


def _units(derivation: Json) -> Iterator[str]:
    layers = [layer["units"] for layer in derivation.get("layers") or () if layer.get("units")]
    total = {key: sum(int(units[key]) for units in layers) for key in ("b", "new", "pruned", "split")}
    if max(total["new"], total["pruned"], total["split"]) > _FEW * total["b"]:
        yield t(
            "FFN units: {new} of B's {of} are new, {split} are parts of others; {pruned} of A's are gone.",
            new=count(total["new"]),
            of=count(total["b"]),
            split=count(total["split"]),
            pruned=count(total["pruned"]),
        )


def _tokens(found: Json | None) -> Iterator[str]:
    if found and not found.get("absent") and any(found.get(key) for key in ("retrained", "new", "dropped")):
        yield t(
            "Token rows: {carried} carried over, {retrained} no longer like A's, {new} new, {dropped} dropped.",
            **{key: count(found[key]) for key in ("carried", "retrained", "new", "dropped")},
        )
