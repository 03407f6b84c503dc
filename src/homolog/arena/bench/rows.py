"""From points to figures: for every attack and amount what was found over the bases, what it cost, and what the attacker saved."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log
from statistics import fmean, median

import numpy as np

from homolog.arena.bench.attacks import ATTACKS, GROUPS, Attack
from homolog.arena.bench.points import HIDDEN, PLAIN, Point

__all__ = [
    "FROM_NOTHING",
    "Row",
    "list_figures",
    "make_rows",
    "show_amount",
    "show_worth",
    "write_csv",
    "write_markdown",
    "write_summary",
]

FROM_NOTHING = "from nothing"
"""The attack that is none: training a new model on the same text."""

_HEADER = (
    "attack",
    "amount",
    "bases",
    "price in loss",
    "worth",
    "parameters",
    "found as it is",
    "found hidden",
    "cleared hidden",
    "agreement hidden",
    "heads hidden",
    "strangers accused",
)

_SUMMARY = (
    "attack",
    "bases",
    "all found up to",
    "not all from",
    "found / open / cleared there",
    "tokens spent",
    "price in loss",
    "worth",
)

_ENOUGH = 3

_Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Row:
    """One attack in one amount, on the bases of one group."""

    attack: Attack
    amount: float
    group: int
    bases: int
    tokens: float
    parameters: float
    plain: float | None
    """Share of the bases that homolog finds in it as it is; ``None`` where the attack has hidden it already."""
    hidden: float
    """Share found after all plain disguises."""
    cleared: float
    """Share called independent after all plain disguises; the rest is undecided or called a shared initialisation."""
    agreement: tuple[float, float] | None
    """Smallest and largest agreement of bodies when hidden."""
    heads: tuple[float, float] | None
    """The same of attention."""
    comparisons: int
    """With strangers."""
    accused: int
    """How many of these called a stranger kin."""
    price: float | None
    """Mean loss beyond the base's."""
    worth: float | None
    """Share of the base's tokens from which a new model reaches the same loss: at the ends of what was measured it is a bound."""
    worth_ends: tuple[float, float] = (0.0, 0.0)
    """The least and the most that could be told."""


def make_rows(points: Sequence[Point]) -> list[Row]:
    """In the order of the attacks, by amount, the large bases first."""
    found: dict[tuple[str, float, int], list[Point]] = {}
    for point in points:
        group = next(number for number, bases in enumerate(GROUPS) if point.base in bases)
        found.setdefault((point.attack, point.amount, group), []).append(point)
    curves = [_scratch_curve(points, bases) for bases in GROUPS]
    order = {attack.name: attack for attack in ATTACKS}
    keys = sorted(found, key=lambda key: (list(order).index(key[0]), key[2], key[1]))
    return [_row(order[name], amount, group, found[name, amount, group], curves[group]) for name, amount, group in keys]


def write_csv(points: Sequence[Point]) -> str:
    """Every point, one line each."""
    text = io.StringIO()
    rows = [{**p.to_json(), "strangers": " ".join(p.strangers), "accused": " ".join(p.accused)} for p in points]
    writer = csv.DictWriter(text, fieldnames=list(Point.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_markdown(rows: Sequence[Row]) -> str:
    """The summary, and one table for each group of bases."""
    parts = []
    for number, bases in enumerate(GROUPS):
        if lines := [row for row in rows if row.group == number]:
            parts.append(f"Bases {', '.join(bases)}:\n\n{_table(list_figures(lines))}")
    return "\n\n".join([write_summary(rows), *parts]) + "\n"


def write_summary(rows: Sequence[Row]) -> str:
    """A line for each attack and group of bases: up to where all are found when hidden, and what it costs from where one is not."""
    lines: list[tuple[str, ...]] = [_SUMMARY]
    for attack in ATTACKS:
        for number in range(len(GROUPS)):
            here = [row for row in rows if row.attack is attack and row.group == number]
            if not here or not attack.inherits:
                continue
            first = next((row for row in here if row.hidden < 1), None)
            before = here if first is None else here[: here.index(first)]
            found = show_amount(before[-1]) if before else "–"
            lines.append(
                (attack.name, "large" if number == 0 else "small", "all" if first is None else found, *_missed(first))
            )
    return _table(lines) + "\n"


def _missed(row: Row | None) -> tuple[str, ...]:
    if row is None:
        return ("–",) * 5
    said = f"{row.hidden:.0%} / {1 - row.hidden - row.cleared:.0%} / {row.cleared:.0%}"
    price = "–" if row.price is None else f"{row.price:+.2f}"
    return show_amount(row), said, f"{row.tokens:g}×", price, show_worth(row)


def list_figures(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A header, and a line for each row."""
    return [_HEADER, *map(_cells, rows)]


def show_worth(row: Row) -> str:
    """The worth in words of a table; ``<`` and ``≥`` where it lies beyond what was measured."""
    if row.worth is None:
        return "–"
    least, most = row.worth_ends
    return f"< {least:g}×" if row.worth <= least else f"≥ {most:g}×" if row.worth >= most else f"{row.worth:.2f}×"


def show_amount(row: Row) -> str:
    """The amount as a table shows it."""
    return f"{row.amount:.3g}" if row.attack.axis else "–"


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.attack.name,
        show_amount(row),
        str(row.bases),
        "–" if row.price is None else f"{row.price:+.2f}",
        show_worth(row),
        f"{row.parameters:.1f}×",
        "–" if row.plain is None else f"{row.plain:.0%}",
        f"{row.hidden:.0%}",
        f"{row.cleared:.0%}",
        _show_range(row.agreement),
        _show_range(row.heads),
        f"{row.accused} of {row.comparisons}",
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * (lines[0].count("|") - 1), *lines[1:]])


def _find_range(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _show_range(found: tuple[float, float] | None) -> str:
    return "–" if found is None else "{:.2f} … {:.2f}".format(*found)


def _row(attack: Attack, amount: float, group: int, points: Sequence[Point], curve: _Curve) -> Row:
    plain, hidden = ([p for p in points if p.face == face] for face in (PLAIN, HIDDEN))
    prices = [p.price for p in hidden if p.price is not None]
    comparable = dict(attack.mixture) == dict(ATTACKS[0].mixture)
    worths = [_find_worth(p.loss, curve) for p in hidden if p.loss is not None] if comparable and curve else []
    return Row(
        attack,
        amount,
        group,
        len(hidden),
        hidden[0].tokens,
        fmean(p.parameters for p in points),
        fmean(p.found for p in plain) if plain else None,
        fmean(p.found for p in hidden),
        fmean(p.cleared for p in hidden),
        _find_range(p.agreement for p in hidden),
        _find_range(p.heads for p in hidden),
        sum(len(p.strangers) for p in points),
        sum(len(p.accused) for p in points),
        fmean(prices) if prices else None,
        median(worths) if worths else None,
        (curve[0][0], curve[-1][0]) if curve else (0.0, 0.0),
    )


def _scratch_curve(points: Sequence[Point], bases: Sequence[str]) -> _Curve:
    """Tokens of a new model, as a share of the base's, and the loss it reaches; the bases themselves stand at 1 if none was trained.

    Empty where fewer than three amounts are known: too few to read between them.
    """
    losses: dict[float, list[float]] = {}
    for p in points:
        if p.base in bases and p.face == HIDDEN and p.attack == FROM_NOTHING and p.loss is not None:
            losses.setdefault(p.amount, []).append(p.loss)
    if 1.0 not in losses:
        own = {p.base: p.base_loss for p in points if p.base in bases and p.attack == ATTACKS[0].name}
        losses[1.0] = [loss for loss in own.values() if loss is not None]
    curve = sorted((tokens, fmean(found)) for tokens, found in losses.items() if found)
    return curve if len(curve) >= _ENOUGH else ()


def _find_worth(loss: float, curve: _Curve) -> float:
    """Read off the curve, between its points along the logarithm of the tokens; its ends where the loss lies beyond them."""
    falling = np.minimum.accumulate([value for _, value in curve])
    steps = [log(tokens) for tokens, _ in curve]
    if loss >= falling[0]:
        return curve[0][0]
    return curve[-1][0] if loss <= falling[-1] else float(np.exp(np.interp(-loss, -falling, steps)))
