"""The arena's answer as text: every score as CSV, the figures and the matrix method × operation as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from homolog.arena.cases import INDEPENDENT, RELATED, SHARED
from homolog.arena.exact import list_descents, list_honesty
from homolog.arena.methods.base import Method
from homolog.arena.run import Result
from homolog.arena.scores import Estimate, Summary, is_found, summarise

__all__ = ["Matrix", "Table", "list_figures", "make_table", "write_csv", "write_markdown"]

_LONGEST_LIST = 6


@dataclass(frozen=True, slots=True)
class Matrix:
    """For every method and operation the share found, by the method's own rule."""

    operations: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    """One row a method; ``None`` where the method answered no such pair."""
    pairs: tuple[int, ...]
    """Pairs of each operation."""


@dataclass(frozen=True, slots=True)
class Table:
    """All figures of one run."""

    methods: tuple[Method, ...]
    summaries: tuple[Summary, ...]
    found: Matrix
    """Related pairs, by operation."""
    accused: Matrix
    """Independent pairs, by operation, and those of shared initialisation."""
    results: tuple[Result, ...]
    counts: dict[str, int]
    """Pairs by label."""
    lineages: tuple[str, ...]
    held_out: tuple[str, ...]


def make_table(methods: Sequence[Method], results: Sequence[Result], held_out: Iterable[str]) -> Table:
    """Sum up the results of one run."""
    by_method = [[r for r in results if r.method == method.name] for method in methods]
    summaries = tuple(summarise(m.name, rows) for m, rows in zip(methods, by_method, strict=True))
    lineages = sorted({lineage for r in results for lineage in r.lineages})
    pairs = by_method[0] if by_method else []
    return Table(
        tuple(methods),
        summaries,
        _matrix(summaries, by_method, (RELATED,)),
        _matrix(summaries, by_method, (INDEPENDENT, SHARED)),
        tuple(results),
        {label: sum(r.label == label for r in pairs) for label in (RELATED, SHARED, INDEPENDENT)},
        tuple(lineages),
        tuple(sorted(set(held_out) & set(lineages))),
    )


def write_csv(results: Sequence[Result]) -> str:
    """Every score, one line each."""
    text = io.StringIO()
    rows = [{**r.to_json(), "lineages": " ".join(r.lineages)} for r in results]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["method"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_markdown(table: Table) -> str:
    """The figures, what each method misses, whom it accuses, and the matrix."""
    total = sum(table.counts.values())
    head = (
        f"{total} pairs of {len(table.lineages)} lineages: {table.counts[RELATED]} related, "
        f"{table.counts[INDEPENDENT]} independent, {table.counts[SHARED]} that share an initialisation and nothing else. "
        f"Held out: {', '.join(table.held_out) or 'none'}."
    )
    return (
        "\n\n".join(
            [
                "# The arena",
                head,
                _markdown(list_figures(table)),
                "## What fools them",
                _fooled(table),
                "## How p-values fall on independent pairs",
                _honesty(table),
                "## Without an answer",
                _unanswered(table),
                "## Found, by operation",
                _markdown_matrix(table, table.found),
                "## Accused, by operation",
                _markdown_matrix(table, table.accused),
                "## Every derived model",
                _descents(table),
            ]
        )
        + "\n"
    )


def list_figures(table: Table) -> list[list[str]]:
    """The table of figures as rows of text, the header first."""
    rows = [
        [
            "method",
            "answers",
            "AUC",
            "found at no false accusation",
            "held out: found / accused",
            "own threshold",
            "found",
            "falsely accused",
            "shared initialisation accused",
            "seconds",
            "MB",
        ]
    ]
    for method, s in zip(table.methods, table.summaries, strict=True):
        if s.reason is not None:
            rows.append([method.name, f"0 of {s.pairs}", s.reason, *[""] * 8])
            continue
        rows.append(
            [
                method.name,
                f"{s.answered} of {s.pairs}",
                _interval(s.auc, "{:.3f}"),
                _interval(s.detected, "{:.0%}"),
                f"{_percent(s.held_out_detected)} / {_percent(s.held_out_accused)}",
                "none" if method.own_threshold is None else f"{method.own_threshold:.3g}",
                _percent(s.own_detected),
                _interval(s.own_accused, "{:.0%}"),
                _percent(s.shared_accused),
                "–" if s.seconds is None else f"{s.seconds:.2f}",
                "–" if s.peak_bytes is None else f"{s.peak_bytes / 1e6:.0f}",
            ]
        )
    return rows


def _fooled(table: Table) -> str:
    rows = [["method", "misses", "accuses the independent under"]]
    rows += [[s.method, _list(s.missed), _list(s.accused)] for s in table.summaries if s.reason is None and s.answered]
    return _markdown(rows)


def _honesty(table: Table) -> str:
    rows = list_honesty(table.methods, table.results)
    if len(rows) == 1:
        return "No method here gives p-values."
    return (
        "The largest excess is that of (share of pairs with p or less) over p: at most 1 where the p–p plot is on or above the "
        "diagonal everywhere.\n\n" + _markdown(rows)
    )


def _descents(table: Table) -> str:
    rows = list_descents(table.results)
    if len(rows) == 1:
        return "homolog-tier1 was not among the methods."
    return "log10 p of homolog's exact test, each model against the one that it was made from.\n\n" + _markdown(rows)


def _unanswered(table: Table) -> str:
    rows = [["method", "pairs", "why"]]
    rows += [[s.method, str(count), reason] for s in table.summaries for reason, count in s.unanswered]
    return _markdown(rows) if len(rows) > 1 else "Every method answered every pair."


def _markdown_matrix(table: Table, matrix: Matrix) -> str:
    rows = [["operation", "pairs", *(method.name for method in table.methods)]]
    for column, operation in enumerate(matrix.operations):
        cells = [_percent(row[column]) for row in matrix.shares]
        rows.append([operation, str(matrix.pairs[column]), *cells])
    return _markdown(rows)


def _matrix(summaries: Sequence[Summary], by_method: Sequence[Sequence[Result]], labels: tuple[str, ...]) -> Matrix:
    wanted = [[r for r in rows if r.label in labels] for rows in by_method]
    operations = sorted({r.operation for rows in wanted for r in rows})
    shares = []
    for summary, rows in zip(summaries, wanted, strict=True):
        cells: list[float | None] = []
        for operation in operations:
            here = [r for r in rows if r.operation == operation]
            answered = any(r.score.value is not None for r in here)
            cells.append(float(np.mean([is_found(r, summary.threshold) for r in here])) if answered else None)
        shares.append(tuple(cells))
    first = wanted[0] if wanted else []
    return Matrix(tuple(operations), tuple(shares), tuple(sum(r.operation == o for r in first) for o in operations))


def _interval(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "–"
    low, high = form.format(estimate.low), form.format(estimate.high)
    return f"{form.format(estimate.value)} ({low.rstrip('%')}–{high})"


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


def _list(names: Sequence[str]) -> str:
    if len(names) <= _LONGEST_LIST:
        return ", ".join(names) or "nothing"
    return f"{', '.join(names[:_LONGEST_LIST])} and {len(names) - _LONGEST_LIST} more"


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
