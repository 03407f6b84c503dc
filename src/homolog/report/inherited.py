"""What share of B is inherited, over all its units where they were counted: a sample of the best FFN says less of many experts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.format import count, percent
from homolog.report.language import t

__all__ = ["say_counted"]

_APART = 0.01
"""By how much the two shares have to differ for both to be said."""


def say_counted(comparison: Mapping[str, Any]) -> str:
    """The share over all FFNs counted in full, where it differs from that of the sample; else empty."""
    layers = (comparison.get("derivation") or {}).get("layers") or ()
    counted = [layer["units"] for layer in layers if layer.get("units")]
    of = sum(int(units["b"]) for units in counted)
    sampled = (comparison.get("inherited") or {}).get("share")
    if not of or sampled is None or len(counted) < len(layers):
        return ""
    n = sum(int(units["carried"]) for units in counted)
    if abs(n / of - float(sampled)) <= _APART:
        return ""
    return t(
        "In all FFNs, counted in full: {n} of {of} units, {share}.", n=count(n), of=count(of), share=percent(n / of)
    )
