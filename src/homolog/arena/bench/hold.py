"""Holding the bench: train what is asked for, measure, sum up, and write what came out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

from homolog.arena.bench.page import render_page
from homolog.arena.bench.points import Progress, measure_points
from homolog.arena.bench.rows import Row, make_rows, write_csv, write_markdown
from homolog.arena.bench.train import train_attacks
from homolog.arena.hold import write_whole
from homolog.arena.zoo import read_zoo
from homolog.provenance import Provenance

__all__ = ["HeldBench", "hold_bench"]


@dataclass(frozen=True, slots=True)
class HeldBench:
    """The figures, the files that hold them, and what is missing from them."""

    rows: tuple[Row, ...]
    files: tuple[Path, ...]
    notes: tuple[str, ...]


def hold_bench(
    zoo: Path,
    out: Path,
    cache: Path,
    *,
    train: bool = False,
    progress: Progress = lambda *_: None,
    report: Callable[[str], None] = lambda text: None,
) -> HeldBench:
    """Attack the bases of ``zoo`` and write to ``out`` what homolog says and what it cost.

    With ``train`` the attacks that need training are trained first, into ``out/models``; without it they are taken from there as far as
    they have been. Losses are measured on the lab's text, fetched into ``cache`` on the first call; where it cannot be had they are
    left out.
    Raises ``UsageError`` for a folder without models, or an ``out`` that cannot be written.
    """
    models, known = out / "models", read_zoo(zoo)
    if train:
        train_attacks(known, models, cache, report)
    notes = []
    try:
        points, missing = measure_points(known, models, out, cache, progress)
    except (CalledProcessError, FileNotFoundError) as error:
        notes.append(f"no loss is measured: the text cannot be had ({error})")
        points, missing = measure_points(known, models, out, None, progress)
    if missing:
        notes.append(
            f"{missing} attacks need training and have not been trained: --train does it, with the extra `lab`"
        )
    rows = make_rows(points)
    options = {"bench": True, "train": train, "zoo": str(zoo), "out": str(out)}
    defaults = {"bench": False, "train": False, "zoo": "tests/zoo", "out": "arena"}
    command = Provenance.of("arena", (), options, defaults).command
    files = (
        write_whole(out / "adversary.csv", write_csv(points)),
        write_whole(out / "adversary.md", write_markdown(rows)),
        write_whole(out / "adversary.html", render_page(points, rows, command)),
    )
    return HeldBench(tuple(rows), files, tuple(notes))
