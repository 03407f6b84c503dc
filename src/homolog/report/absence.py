"""Why there is no answer, in few words: reasons that differ in their numbers only are said once. The JSON keeps all of them."""

from __future__ import annotations

import re

from homolog.report.language import t
from homolog.report.words import tell

__all__ = ["shorten_reason"]

_NUMBER = re.compile(r"[-−]?\d+(?:[.,]\d+)*")
_ALL = "every group was left out: "


def shorten_reason(reason: str) -> str:
    """A reason in the language that is spoken; of clauses that are alike but for their numbers the first, and how many more there were."""
    clauses = reason.split("; ")
    kinds: dict[str, str] = {}
    for clause in clauses:
        kinds.setdefault(_NUMBER.sub("#", clause.removeprefix(_ALL)), clause.removeprefix(_ALL) if kinds else clause)
    short, more = tell("; ".join(kinds.values())), len(clauses) - len(kinds)
    return t("{reason}; {n} more alike", reason=short, n=more) if more else short
