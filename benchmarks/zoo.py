"""What compare says of every pair of the zoo, by kind of kinship: the table of docs/statistics.md.

python benchmarks/zoo.py
python benchmarks/zoo.py --pairs
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from pathlib import Path
from typing import Any

from homolog.pipeline import compare

_ZOO = Path(__file__).parents[1] / "tests" / "zoo"
_KINDS = ("descent", "common ancestor", "same start, trained apart", "independent")


def read_truth(name: str) -> dict[str, Any]:
    """What the lab recorded of the model, and under ``start`` what settles the random numbers its first ancestor began with."""
    record: dict[str, Any] = json.loads((_ZOO / name / "truth.json").read_text(encoding="utf-8"))
    if record["parent"]:
        return {**record, "start": read_truth(record["parent"])["start"]}
    config = json.loads((_ZOO / name / "config.json").read_text(encoding="utf-8"))
    width = config.get("hidden_size", config.get("n_embd"))
    return {**record, "start": (record["seed"], record["std"], config["model_type"], width)}


def kind_of(a: str, b: str) -> str:
    """How the two are related in truth."""
    first, second = read_truth(a), read_truth(b)
    if a in second["ancestors"] or b in first["ancestors"]:
        return _KINDS[0]
    if set(first["ancestors"]) & set(second["ancestors"]):
        return _KINDS[1]
    return _KINDS[2] if first["start"] == second["start"] else _KINDS[3]


def measure(pair: tuple[str, str]) -> dict[str, Any]:
    """One comparison, reduced to the figures of the table."""
    comparison = compare(_ZOO / pair[0], _ZOO / pair[1])
    probes = {finding.probe: finding.log10_p for finding in comparison.findings}
    return {
        "pair": " ".join(pair),
        "kind": kind_of(*pair),
        "verdict": comparison.verdict.verdict,
        "headline": comparison.verdict.log10_p,
        "rows": probes["ffn.rows"],
        "profiles": probes["ffn.profiles"],
        "gains": comparison.initialisation.evidence.get("gain_correlation"),
    }


def spread(values: list[float | None]) -> str:
    """Smallest to largest."""
    known = sorted(value for value in values if value is not None)
    return f"{known[0]:.2f} … {known[-1]:.2f}" if known else "–"


def main() -> None:
    """Compare all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", action="store_true", help="one line a pair")
    options = parser.parse_args()
    names = sorted(path.parent.name for path in _ZOO.glob("*/truth.json"))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(measure, combinations(names, 2)))
    for kind in _KINDS:
        of_kind = [result for result in results if result["kind"] == kind]
        if not of_kind:
            continue
        verdicts = Counter(result["verdict"] for result in of_kind)
        said = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{kind}: {len(of_kind)} pairs, {said}")
        for key in ("headline", "rows", "profiles", "gains"):
            print(f"    {key:10}{spread([result[key] for result in of_kind])}")
        for result in of_kind if options.pairs else ():
            print(
                "    "
                + "  ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in result.values())
            )


if __name__ == "__main__":
    main()
