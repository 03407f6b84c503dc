"""What was done to make B of A, in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.exclusions import within_sentence
from homolog.report.language import t
from homolog.report.words import OPERATIONS, say

__all__ = ["list_operations"]


def list_operations(comparison: Mapping[str, Any]) -> str:
    """Every operation that was recognised, in the order of the comparison; empty if there is none."""
    operations = (comparison.get("derivation") or {}).get("operations") or ()
    names = dict.fromkeys(say(OPERATIONS, step["kind"]) for step in operations)
    return t("; ").join(within_sentence(name) for name in names)
