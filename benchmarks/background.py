"""Measure the exhibits on pairs that are known to be independent, and keep the values in the package.

    python -m benchmarks.background

Pairs: the six SCEPTR trainings of one shape (fetched with pip), and the zoo's bases of different seed. Writes
src/homolog/probes/background.json, which the report draws the exhibits beside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from benchmarks.real_pairs import SIX

from homolog.demo.catalogue import read_catalogue
from homolog.demo.fetch import default_cache, fetch
from homolog.pipeline import compare

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "src" / "homolog" / "probes" / "background.json"


def independent_pairs() -> Iterator[tuple[Path, Path]]:
    """SCEPTR trainings of one shape, and bases of the zoo that start from different random numbers."""
    saves = fetch(read_catalogue().packages["sceptr"], default_cache()) / "sceptr" / "_model_saves"
    for a, b in combinations(SIX, 2):
        yield saves / a, saves / b
    zoo = ROOT / "tests" / "zoo"
    truths = {path.parent: json.loads(path.read_text()) for path in sorted(zoo.glob("*/truth.json"))}
    bases = [folder for folder, truth in truths.items() if truth["kind"] == "base"]
    for first, second in combinations(bases, 2):
        if truths[first]["seed"] != truths[second]["seed"]:
            yield first, second


def main() -> None:
    """Measure, keep and say how much was kept."""
    curves: list[float] = []
    gains: list[float] = []
    pairs = 0
    for a, b in independent_pairs():
        exhibits = compare(a, b).exhibits
        if not exhibits:
            continue
        pairs += 1
        curves += [value for value in exhibits["std_curves"]["correlation"].values() if value is not None]
        gains += [value for value in exhibits["norm_gains"]["cosine"] if value is not None]
    text = f"{pairs} pairs of models trained independently of each other (SCEPTR and the zoo; python -m benchmarks.background)"
    kept = {
        "std_curves": {
            "text": f"Correlations of Q, K, V and O over {text}.",
            "values": [round(v, 3) for v in sorted(curves)],
        },
        "norm_gains": {"text": f"Cosines by layer over {text}.", "values": [round(v, 3) for v in sorted(gains)]},
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"{pairs} pairs, {len(curves)} correlations, {len(gains)} cosines → {KEPT.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
