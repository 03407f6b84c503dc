"""Which rows of a learned position table to read: chosen by the heights of both tables alone."""

from __future__ import annotations

from homolog.roles.role import Anatomy, Role, Space, View

__all__ = ["LAST", "POSITION", "choose_positions", "count_positions", "position_view"]

POSITION = "position"
"""The name of the table among a sketch's token tables."""

LAST, _FIRST = 192, 64
"""Positions at the end of the tables, where training may not have come, and as many of those before as tell where it has."""


def position_view(anatomy: Anatomy) -> View | None:
    """The table of learned positions that are added to the residual stream, if there is one."""
    view = anatomy.views.get(Role("embed.position"))
    if (
        view is None
        or sorted(view.axes) != sorted((Space.POSITION, Space.RESIDUAL))
        or view.tensor in anatomy.traits.fixed
    ):
        return None
    return view


def count_positions(anatomy: Anatomy) -> int:
    """Rows of the table; 0 if there is none."""
    view = position_view(anatomy)
    return 0 if view is None else view.shape[view.axes.index(Space.POSITION)]


def choose_positions(height: int) -> tuple[int, ...]:
    """Rows of two tables of which the lower has ``height`` rows: its last ones, and some spread over those before."""
    start = max(height - LAST, 0)
    before = sorted({start * i // _FIRST for i in range(_FIRST)}) if start else []
    return (*before, *range(start, height))
