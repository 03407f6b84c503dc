"""What all charts share: colours, configuration, and the last step from Altair to plain data."""

from __future__ import annotations

import json
import re
from typing import Any

from homolog.report.language import t

__all__ = ["CHANCE", "CONFIG", "INK", "PAIR", "QUIET", "RULE", "Rows", "Spec", "expression", "finish", "says"]

Spec = dict[str, Any]
Rows = list[dict[str, Any]]

PAIR, CHANCE, INK, QUIET, RULE = "var(--pair)", "var(--chance)", "var(--ink)", "var(--quiet)", "var(--rule)"
"""The accent is always these two models, grey is always what chance or independent models do."""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

CONFIG: Spec = {
    "background": None,
    "font": _FONT,
    "autosize": {"type": "fit", "contains": "padding"},
    "view": {"stroke": None},
    "axis": {
        "domainColor": RULE,
        "grid": False,
        "labelColor": QUIET,
        "labelFontSize": 11,
        "tickColor": RULE,
        "tickSize": 4,
        "titleColor": QUIET,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "text": {"font": _FONT, "fontSize": 11},
}


def says() -> Any:
    """A tooltip that shows the one sentence in the field ``says``."""
    import altair as alt  # noqa: PLC0415 - half a second that only a report has to pay

    return alt.Tooltip("says", type="nominal", title=" ")


def finish(chart: Any, height: int, **data: Rows) -> Spec:
    """The specification, with its named data put in only now: Altair copies and checks rows one by one, which takes seconds.

    What the page gives once is left out: the configuration and the address of the schema.
    """
    spec: Spec = chart.properties(width="container", height=height).to_dict(validate=False)
    return {key: value for key, value in spec.items() if key not in {"$schema", "config"}} | {"datasets": data}


def expression(text: str, **terms: str) -> str:
    """A sentence that Vega puts together in the page: ``text``, in the language that is spoken, with expressions in its gaps.

    The sentence is one of `t`'s; ``terms`` are Vega expressions by the names of the gaps.
    """
    pieces = re.split(r"\{(\w+)\}", t(text, **{name: f"{{{name}}}" for name in terms}))
    parts = [terms[piece] if place % 2 else json.dumps(piece, ensure_ascii=False) for place, piece in enumerate(pieces)]
    return " + ".join(part for part in parts if part != '""')
