"""A progress bar on stderr, for work that takes longer than a glance."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress"]

_PATIENCE = 2.0
"""Seconds before the bar appears."""


class Progress:
    """Takes ``progress(text, done, total)`` from the library; the bar needs two seconds of work and a terminal."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._appears = time.monotonic() + _PATIENCE
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._ended = threading.Event()

    def __call__(self, text: str, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` steps of ``text`` are behind us."""
        if self._quiet or time.monotonic() < self._appears:
            return
        if self._bar is None or self._task is None:
            from rich.console import Console
            from rich.progress import Progress as Bar

            console = Console(stderr=True)
            if not console.is_terminal:
                self._quiet = True
                return
            self._bar = Bar(console=console, transient=True)
            self._task = self._bar.add_task(text)
            self._bar.start()
        from homolog.report.language import translate

        self._bar.update(self._task, description=translate(text), completed=done, total=total)

    def follow(self, text: str, done: Callable[[], int], total: int) -> None:
        """Ask ``done`` from time to time: for work that counts what it did, but reports to nobody."""

        def ask() -> None:
            while not self._ended.wait(0.2):
                self(text, done(), total)

        # a thread begins with a context of its own, in which English is spoken
        threading.Thread(target=copy_context().run, args=(ask,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._bar is not None:
            self._bar.stop()
