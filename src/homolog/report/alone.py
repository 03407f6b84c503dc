"""What a model says of itself, as the terminal and the report show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from homolog.report.words import tell

__all__ = ["say_alone"]


def say_alone(alone: Mapping[str, Any] | None, *, findings_only: bool = False) -> list[str]:
    """Sentences of one model by itself; where nothing was found, that, or why nothing was looked for, unless ``findings_only``."""
    if not alone:
        return []
    found = [tell(text) for text in alone.get("sentences") or ()]
    return found or ([] if findings_only else [tell(alone.get("summary"))])
