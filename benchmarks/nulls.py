"""How often p-values under the null fall below their level: the tables of docs/statistics.md.

    python benchmarks/nulls.py
    python benchmarks/nulls.py order

The first command draws 100,000 synthetic pairs for every statistic; the second measures the test for ordered units.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # so that the script runs from anywhere, installed or not

from benchmarks.null_draws import STATISTICS, draw, exceedances
from benchmarks.null_pairs import draw_headlines, draw_totals

from homolog.probes.exchangeable import find_order

_SHOWN = (0.05, 0.01, 0.001)
_PARTS = 2
"""Into how many seeds a measurement is cut, whatever the number of cores: the same draws on every machine."""


def show(name: str, log10_p: np.ndarray) -> None:
    """Print one row of the table."""
    shares = "".join(f"{(log10_p <= np.log10(alpha) + 1e-9).mean():12.5f}" for alpha in _SHOWN)
    over = exceedances(log10_p)
    band = "kept" if not over else f"OVER at {over[0][0]:.2g}: {over[0][1]} > {over[0][2]}"
    print(f"{name:34}{len(log10_p):9}{10 ** log10_p.min():11.1e}{shares}  {band}", flush=True)


def measure_statistic(statistic: str, draws: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """The draws of one statistic, world by world, and all together first."""
    worlds = list(draw(statistic, draws, seed))
    return [(statistic, np.concatenate([p for _, p in worlds])), *((f"  {name}", p) for name, p in worlds)]


def measure_nulls(draws: int, pairs: int, seed: int, jobs: int) -> None:
    """Print the table of null draws."""
    header = "".join(f"{f'P(p<={alpha:g})':>12}" for alpha in _SHOWN)
    print(f"{'statistic':34}{'draws':>9}{'smallest p':>11}{header}  99 % band")
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(measure_statistic, statistic, draws, seed) for statistic in STATISTICS]
        chunks = [pairs // _PARTS] * _PARTS
        seeds = range(seed, seed + len(chunks))
        headlines = pool.map(draw_headlines, chunks, seeds)
        totals = pool.map(draw_totals, chunks, seeds)
        for future in running:
            for name, log10_p in future.result():
                show(name, log10_p)
        show("headline of whole pairs", np.concatenate(list(headlines)))
        show("totals of whole pairs (support)", np.concatenate(list(totals)))


def count_ordered(units: int, draws: int, seed: int, arrange: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many of ``draws`` groups of units `find_order` calls ordered, with rows put in the order that ``arrange`` says."""
    rng = np.random.default_rng(seed)
    found = 0
    for _ in range(draws):
        rows = rng.standard_normal((units, 32), dtype=np.float32)
        rows *= np.exp(0.3 * rng.standard_normal((units, 1), dtype=np.float32))
        size = (rows**2).sum(axis=1)
        order = arrange(size)
        features = np.column_stack([size, rng.standard_normal((units, 5))])[order].astype(np.float32)
        found += find_order(rows[order], features, rng) is not None
    return found


def noisily(rho: float, rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    """An order that correlates with the size by about ``rho``."""

    def arrange(size: np.ndarray) -> np.ndarray:
        ranks = np.argsort(np.argsort(size)) / len(size)
        return np.argsort(rho * (ranks - 0.5) * np.sqrt(12) + np.sqrt(1 - rho**2) * rng.standard_normal(len(size)))

    return arrange


def measure_order(draws: int, seed: int, jobs: int) -> None:
    """Print how often fair units are called ordered, and how often ordered ones are."""
    print(f"{'units':>6} {'groups':>8}  called ordered")
    with ProcessPoolExecutor(jobs) as pool:
        for units in (13, 64, 512):
            chunks = [draws // (2 * _PARTS)] * (2 * _PARTS)
            seeds = range(seed, seed + len(chunks))
            found = sum(pool.map(_count_fair, [units] * len(chunks), chunks, seeds))
            print(f"{units:6} {sum(chunks):8}  {found} of fair units", flush=True)
    rng = np.random.default_rng(seed)
    for units in (13, 64, 512):
        for rho in (1.0, 0.9, 0.7, 0.5, 0.3):
            found = count_ordered(units, 200, seed, noisily(rho, rng))
            print(f"{units:6} {200:8}  {found / 200:.0%} of units sorted with correlation {rho}", flush=True)


def _count_fair(units: int, draws: int, seed: int) -> int:
    return count_ordered(units, draws, seed, lambda size: np.arange(len(size)))


def main() -> None:
    """Run one of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="?", choices=("nulls", "order"), default="nulls")
    parser.add_argument("--draws", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=4_000, help="whole synthetic pairs")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.what == "nulls":
        measure_nulls(options.draws, options.pairs, options.seed, options.jobs)
    else:
        measure_order(options.draws, options.seed, options.jobs)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small matrices: threads only get in each other's way
    main()
