"""What may still be fetched: bytes over the network, of all models of a run together."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from homolog.errors import BudgetExceeded, UsageError

__all__ = ["Budget", "Promise", "parse_bytes", "show_bytes"]

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_AMOUNT = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)\s*")


def parse_bytes(text: str) -> int:
    """``200MB``, ``1.5 GiB`` or a number of bytes. Raises ``UsageError``."""
    match = _AMOUNT.fullmatch(text.lower())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"the budget is {text!r}; write it as a number with a unit: 200MB, 1.5GiB, 5000000")
    return int(float(match[1]) * _UNITS[match[2]])


def show_bytes(count: int) -> str:
    """A size as people say it: ``37.2 MB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:,.0f} {unit}"
    return f"{count} bytes"


class Budget:
    """Counts what arrives, and lets nothing be asked for that does not fit any more."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.spent = 0
        """Bytes of bodies that arrived, wanted or not."""
        self.requests = 0
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def left(self) -> int | None:
        """Bytes that may still be asked for; ``None`` without a limit."""
        with self._lock:
            return None if self.limit is None else max(0, self.limit - self.spent - self._promised)

    @contextmanager
    def promise(self, length: int, path: Path) -> Iterator[Promise]:
        """Set ``length`` bytes aside while they are fetched. Raises ``BudgetExceeded`` where they do not fit."""
        promise = Promise(self, path)
        promise.extend(length)
        try:
            yield promise
        finally:
            with self._lock:
                self._promised -= promise.open

    def count_request(self) -> None:
        """Count one request."""
        with self._lock:
            self.requests += 1


class Promise:
    """Bytes set aside for one request."""

    def __init__(self, budget: Budget, path: Path) -> None:
        self.open = 0
        """Bytes that were set aside and have not arrived."""
        self._budget = budget
        self._path = path

    def extend(self, length: int) -> None:
        """See to it that ``length`` bytes are set aside. Raises ``BudgetExceeded``."""
        budget = self._budget
        more = max(0, length - self.open)
        with budget._lock:
            left = None if budget.limit is None else max(0, budget.limit - budget.spent - budget._promised)
            if left is None or more <= left:
                budget._promised += more
                self.open += more
                return
        found = f"{show_bytes(left)} left of {show_bytes(budget.limit or 0)}"
        raise BudgetExceeded(self._path, at="budget", found=found, expected=f"{show_bytes(more)} for what comes next")

    def arrive(self, count: int) -> None:
        """Count bytes that arrived."""
        budget = self._budget
        with budget._lock:
            kept = min(count, self.open)
            budget.spent += count
            budget._promised -= kept
            self.open -= kept
