"""The arena's answer as one HTML file, in the style of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from homolog.arena.charts import draw_p_plot, draw_roc, draw_scores
from homolog.arena.exact import list_descents, list_honesty
from homolog.arena.table import Matrix, Table, list_figures
from homolog.report.charts.base import Spec
from homolog.report.page import fill_page
from homolog.version import __version__

__all__ = ["render_page"]


def render_page(table: Table, command: str) -> str:
    """The page as text; ``command`` is what made it."""
    charts: dict[str, Spec] = {}
    view = {
        "version": __version__,
        "command": command,
        "total": sum(table.counts.values()),
        "counts": table.counts,
        "lineages": table.lineages,
        "held_out": table.held_out,
        "figures": list_figures(table),
        "names": [method.name for method in table.methods],
        "matrices": [
            ("found", "Found", "Share of the related pairs found, by the method's own rule.", _rows(table.found), True),
            (
                "accused",
                "Accused",
                "Share of the pairs accused that are not related, by the same rule.",
                _rows(table.accused),
                False,
            ),
        ],
        "honesty": list_honesty(table.methods, table.results),
        "descents": list_descents(table.results),
        "methods": list(_methods(table, charts)),
    }
    return fill_page("arena.html.j2", view, charts, package="homolog.arena")


def _rows(matrix: Matrix) -> list[Mapping[str, Any]]:
    return [
        {"operation": operation, "pairs": matrix.pairs[i], "shares": [row[i] for row in matrix.shares]}
        for i, operation in enumerate(matrix.operations)
    ]


def _methods(table: Table, charts: dict[str, Spec]) -> Sequence[Mapping[str, Any]]:
    shown = []
    for number, (method, summary) in enumerate(zip(table.methods, table.summaries, strict=True)):
        results = [result for result in table.results if result.method == method.name]
        entry: dict[str, Any] = {
            "name": method.name,
            "citation": method.citation,
            "access": method.access,
            "statistic": method.statistic,
            "threshold": method.threshold_source
            if method.own_threshold is None
            else f"{method.own_threshold:.3g}, {method.threshold_source}",
            "reason": summary.reason,
            "missed": ", ".join(summary.missed),
            "accused": ", ".join(summary.accused),
            "p_plot": None,
        }
        if summary.reason is None:
            entry |= {"scores": f"s{number}", "roc": f"r{number}"}
            charts[f"s{number}"] = draw_scores(results, method.own_threshold, is_p_value=method.is_p_value)
            charts[f"r{number}"] = draw_roc(results)
            if method.is_p_value:
                entry["p_plot"] = f"p{number}"
                charts[f"p{number}"] = draw_p_plot(results)
        shown.append(entry)
    return shown
