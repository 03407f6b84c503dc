"""Keeps of a corpus the smallest files that together take every branch as often as all do: ``python -m tests.fuzz.minimise found kept``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.targets import TARGETS

_Arc = tuple[str, int, int]


def trace_arcs(target: str, data: bytes) -> set[tuple[_Arc, int]]:
    """The steps from line to line in the readers, each with its count to the next power of two up to 8."""
    counts: Counter[_Arc] = Counter()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not ("homolog/checkpoint" in file or "homolog/sketch" in file):
            return None
        last = -frame.f_code.co_firstlineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            if event == "line":
                counts[file, last, frame.f_lineno] += 1
                last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        TARGETS[target](data)
    finally:
        sys.settrace(None)
    return {(arc, min(count, 8).bit_length()) for arc, count in counts.items()}


def minimise_corpus(found: Path, kept: Path) -> None:
    for target in TARGETS:
        (kept / target).mkdir(parents=True, exist_ok=True)
        seen: set[tuple[_Arc, int]] = set()
        for file in sorted((found / target).iterdir(), key=lambda file: (file.stat().st_size, file.name)):
            data = file.read_bytes()
            arcs = trace_arcs(target, data)
            if not arcs <= seen:
                seen |= arcs
                (kept / target / file.name[:12]).write_bytes(data)


if __name__ == "__main__":
    minimise_corpus(Path(sys.argv[1]), Path(sys.argv[2]))
