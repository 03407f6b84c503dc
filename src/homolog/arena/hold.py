"""Holding the arena: plan, run, sum up, and write what came out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from homolog.arena.cases import plan_pairs, sample_pairs
from homolog.arena.methods.catalogue import choose_methods
from homolog.arena.page import render_page
from homolog.arena.run import Progress, run_arena
from homolog.arena.table import Table, make_table, write_csv, write_markdown
from homolog.arena.zoo import read_zoo
from homolog.provenance import Provenance

__all__ = ["Held", "hold_arena", "write_whole"]

_QUICK = 3
"""Pairs of every truth and operation in a quick run."""


@dataclass(frozen=True, slots=True)
class Held:
    """The figures, and the files that hold them."""

    table: Table
    files: tuple[Path, ...]


def hold_arena(
    zoo: Path,
    out: Path,
    methods: Sequence[str] = (),
    *,
    quick: bool = False,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
) -> Held:
    """Run ``methods`` (all if none is named) over the pairs of ``zoo`` and write the answer to ``out``.

    ``quick`` takes a few pairs of every kind; ``jobs`` processes share the work. A run that was stopped goes on where it stopped.
    Raises ``UsageError`` for an unknown method, a folder without models, or an ``out`` that cannot be written.
    """
    chosen = choose_methods(methods)
    models = read_zoo(zoo)
    pairs = plan_pairs(models)
    if quick:
        pairs = sample_pairs(pairs, _QUICK)
    results = run_arena(models, pairs, chosen, out, progress, jobs=jobs)
    lineages = {lineage for pair in pairs for lineage in pair.lineages}
    table = make_table(chosen, results, filter(models.is_held_out, lineages))
    options = {"zoo": str(zoo), "out": str(out), "methods": ",".join(methods), "quick": quick}
    defaults = {"zoo": "tests/zoo", "out": "arena", "methods": "", "quick": False}
    command = Provenance.of("arena", (), options, defaults).command
    return Held(
        table,
        (
            write_whole(out / "scores.csv", write_csv(results)),
            write_whole(out / "table.md", write_markdown(table)),
            write_whole(out / "arena.html", render_page(table, command)),
        ),
    )


def write_whole(path: Path, text: str) -> Path:
    """The file appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
