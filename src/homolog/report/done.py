"""What was done to make B of A, and in which order the two stand, in one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.exclusions import within_sentence
from homolog.report.language import t
from homolog.report.words import FOUND, OPERATIONS, ORDERS, RELATIONS, say

__all__ = ["list_operations", "say_order"]


def list_operations(comparison: Mapping[str, Any]) -> str:
    """Every operation that was recognised, in the order of the comparison; empty if there is none."""
    operations = (comparison.get("derivation") or {}).get("operations") or ()
    names = dict.fromkeys(say(OPERATIONS, step["kind"]) for step in operations)
    return t("; ").join(within_sentence(name) for name in names)


def say_order(comparison: Mapping[str, Any]) -> str:
    """The relation in words, and where it is open but one order is excluded, that; empty where no relation was found."""
    relation = comparison.get("relation")
    if not relation or comparison["verdict"] not in FOUND:
        return ""
    direction = (comparison.get("derivation") or {}).get("direction") or {}
    orders = {fact["direction"] for fact in direction.get("facts") or ()}
    if relation == "undirected" and len(orders) == 1 and orders <= ORDERS.keys():
        return say(ORDERS, orders.pop())
    return say(RELATIONS, relation)
