"""Names out of a hostile file, fit to be shown in a note."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["list_names"]

_SHOWN = 3
_LONGEST = 80


def list_names(names: Sequence[str]) -> str:
    """The first three names, without control characters and each of bounded length, and how many more there are."""
    shown = ", ".join(_make_printable(name) for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _make_printable(name: str) -> str:
    clipped = name if len(name) <= _LONGEST else name[:_LONGEST] + "…"
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in clipped)
