"""What compare says of every pair of the zoo, by kind of kinship: the table of docs/statistics.md.

python benchmarks/zoo.py
python benchmarks/zoo.py --pairs
python benchmarks/zoo.py --bodies

The last measures how far the bodies of every pair agree (Tier 2), whether or not a comparison would ask.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from homolog.align.agreement import measure_agreement
from homolog.align.body import Body, read_body
from homolog.checkpoint.open import open_checkpoint
from homolog.pipeline import compare
from homolog.roles.resolve import resolve

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


@cache
def body_of(name: str) -> Body:
    """Read once a process."""
    with open_checkpoint(_ZOO / name) as checkpoint:
        return read_body(checkpoint, resolve(checkpoint))


def agree(pair: tuple[str, str]) -> dict[str, Any]:
    """How far two bodies agree; ``None`` where they cannot be compared."""
    found = measure_agreement(body_of(pair[0]), body_of(pair[1]))
    value = None if found.absent else found.body
    return {"pair": " ".join(pair), "kind": kind_of(*pair), "agreement": value}


def spread(values: list[float | None]) -> str:
    """Smallest to largest."""
    known = sorted(value for value in values if value is not None)
    return f"{known[0]:.2f} … {known[-1]:.2f}" if known else "–"


def main() -> None:
    """Compare all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", action="store_true", help="one line a pair")
    parser.add_argument("--bodies", action="store_true", help="measure how far bodies agree, and nothing else")
    options = parser.parse_args()
    names = sorted(path.parent.name for path in _ZOO.glob("*/truth.json"))
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(agree if options.bodies else measure, combinations(names, 2)))
    for kind in _KINDS:
        of_kind = [result for result in results if result["kind"] == kind]
        if not of_kind:
            continue
        verdicts = Counter(result["verdict"] for result in of_kind if "verdict" in result)
        said = "".join(f", {count} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{kind}: {len(of_kind)} pairs{said}")
        for key in [key for key in of_kind[0] if key not in ("pair", "kind", "verdict")]:
            print(f"    {key:10}{spread([result[key] for result in of_kind])}")
        for result in of_kind if options.pairs else ():
            print(
                "    "
                + "  ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in result.values())
            )


if __name__ == "__main__":
    main()
