"""What compare says of every pair of the zoo, by kind of kinship: the table of docs/statistics.md.

python benchmarks/zoo.py
python benchmarks/zoo.py --pairs
python benchmarks/zoo.py --bodies
python benchmarks/zoo.py --bodies --signless
python benchmarks/zoo.py --every 5
python benchmarks/zoo.py --bodies --models m q-pangu q-upcycled

``--bodies`` measures how far the bodies of every pair agree (Tier 2), whether or not a comparison would ask, and ``--signless`` does so
with gates compared up to their sign, as if they stood beside their opposites in the second model. ``--every`` takes only one in so many
of the independent pairs, evenly through their list; ``--models`` only pairs with one of these. Pairs with a model of a lineage that no
threshold was chosen on are counted apart.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

from homolog.align.agreement import measure_agreement
from homolog.align.body import Body, read_body
from homolog.arena.zoo import Zoo, read_zoo
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


@cache
def the_zoo() -> Zoo:
    """Read once a process."""
    return read_zoo(_ZOO)


def group_of(pair: tuple[str, str]) -> str:
    """The kinship, and whether a threshold may have been chosen on the pair."""
    zoo = the_zoo()
    held_out = any(zoo.is_held_out(zoo.lineage(name)) for name in pair)
    return kind_of(*pair) + ", held out" * held_out


def measure(pair: tuple[str, str]) -> dict[str, Any]:
    """One comparison, reduced to the figures of the table."""
    comparison = compare(_ZOO / pair[0], _ZOO / pair[1])
    probes = {finding.probe: finding.log10_p for finding in comparison.findings}
    return {
        "pair": " ".join(pair),
        "kind": group_of(pair),
        "verdict": comparison.verdict.verdict,
        "tier": comparison.verdict.tier,
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


def agree_signless(pair: tuple[str, str]) -> dict[str, Any]:
    """The same with gates compared up to their sign."""
    return agree(pair, signless=True)


def agree(pair: tuple[str, str], *, signless: bool = False) -> dict[str, Any]:
    """How far two bodies agree; ``None`` where they cannot be compared."""
    second = body_of(pair[1])
    if signless:
        second = replace(second, blocks=tuple(replace(block, opposed=len(block.units)) for block in second.blocks))
    found = measure_agreement(body_of(pair[0]), second)
    value = None if found.absent else found.body
    return {"pair": " ".join(pair), "kind": group_of(pair), "agreement": value}


def spread(values: list[float | None]) -> str:
    """Smallest to largest."""
    known = sorted(value for value in values if value is not None)
    return f"{known[0]:.2f} … {known[-1]:.2f}" if known else "–"


def choose(every: int, models: Collection[str]) -> list[tuple[str, str]]:
    """All pairs, of the independent ones one in ``every``; if there are ``models``, only pairs with one of them."""
    pairs = [pair for pair in combinations(sorted(the_zoo().records), 2) if not models or set(pair) & set(models)]
    independent = [pair for pair in pairs if kind_of(*pair) == _KINDS[3]]
    left_out = set(independent) - set(independent[::every])
    return [pair for pair in pairs if pair not in left_out]


def show(result: dict[str, Any]) -> str:
    """One pair in one line."""
    return "  ".join(f"{value:.2f}" if isinstance(value, float) else str(value) for value in result.values())


def main() -> None:
    """Compare all pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", action="store_true", help="one line a pair")
    parser.add_argument("--bodies", action="store_true", help="measure how far bodies agree, and nothing else")
    parser.add_argument("--signless", action="store_true", help="with gates compared up to their sign")
    parser.add_argument("--every", type=int, default=1, help="of the independent pairs, one in so many")
    parser.add_argument("--models", nargs="*", default=[], help="only pairs with one of these")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    results = []
    with ProcessPoolExecutor(options.processes) as pool:
        bodies = agree_signless if options.signless else agree
        for result in pool.map(bodies if options.bodies else measure, choose(options.every, options.models)):
            results.append(result)
            if options.pairs:
                print(show(result), flush=True)
    for kind in (kind + apart for kind in _KINDS for apart in ("", ", held out")):
        of_kind = [result for result in results if result["kind"] == kind]
        if not of_kind:
            continue
        verdicts = Counter(
            f"{result['verdict']} (tier {result['tier']})" if result["tier"] == 2 else result["verdict"]
            for result in of_kind
            if "verdict" in result
        )
        said = "".join(f", {count} {verdict}" for verdict, count in verdicts.most_common())
        print(f"{kind}: {len(of_kind)} pairs{said}")
        for key in [key for key in of_kind[0] if key not in ("pair", "kind", "verdict", "tier")]:
            print(f"    {key:10}{spread([result[key] for result in of_kind])}")


if __name__ == "__main__":
    main()
