"""Runs a corpus once: ``python -m tests.fuzz.replay [folder]``, under ``coverage`` to see what it reaches; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS


def replay_corpus(corpus: Path) -> int:
    """How many files were run; each lies in the folder of its target."""
    files = [(target, file) for target in TARGETS for file in sorted((corpus / target).iterdir())]
    for target, file in files:
        TARGETS[target](file.read_bytes())
    return len(files)


if __name__ == "__main__":
    replay_corpus(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "corpus")
