"""Pairs of the zoo, whose ancestry is known because they were trained for it."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from homolog.pipeline import compare

ZOO = Path(__file__).parents[1] / "zoo"


def truth(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ZOO / name / "truth.json").read_text())
    return record


def lineage(name: str) -> set[str]:
    return {name, *truth(name)["ancestors"]}


def initialisation(name: str) -> tuple[Any, ...]:
    """What settles the random numbers that the model's first ancestor began with: upcycling and pruning change shapes, not these."""
    record = truth(name)
    root = truth(record["ancestors"][-1]) if record["ancestors"] else record
    return (root["seed"], root["std"], root["shape"]["family"], root["shape"]["width"])


MODELS = sorted(path.parent.name for path in ZOO.glob("*/truth.json"))
PAIRS = list(combinations(MODELS, 2))
RELATED = [(a, b) for a, b in PAIRS if lineage(a) & lineage(b)]
SAME_START = [(a, b) for a, b in PAIRS if not lineage(a) & lineage(b) and initialisation(a) == initialisation(b)]
INDEPENDENT = [pair for pair in PAIRS if pair not in RELATED and pair not in SAME_START]


LOST_IN_TRAINING = "a-zh-3x"
"""Continued for three times its ancestor's tokens in another language: it keeps every index, but hardly the gains."""

HARDEST = "a-other-rate"
"""Same seed, same text, same order, another learning rate: the closest that two runs without descent come."""


def test_the_zoo_holds_pairs_of_every_kind() -> None:
    assert len(RELATED) >= 3
    assert len(SAME_START) >= 6
    assert len(INDEPENDENT) >= 10


@pytest.mark.parametrize(("a", "b"), INDEPENDENT)
def test_independent_trainings_are_cleared(a: str, b: str) -> None:
    comparison = compare(ZOO / a, ZOO / b)
    assert comparison.verdict.verdict == "independent"


@pytest.mark.parametrize(("a", "b"), SAME_START)
def test_a_shared_initialisation_is_not_called_descent(a: str, b: str) -> None:
    comparison = compare(ZOO / a, ZOO / b)
    assert not comparison.verdict.found
    assert comparison.exit_code in (0, 3)


def test_shared_initialisation_is_told_apart_in_nine_of_ten_unless_all_else_is_shared_too() -> None:
    verdicts = [compare(ZOO / a, ZOO / b).verdict.verdict for a, b in SAME_START if HARDEST not in (a, b)]
    assert verdicts.count("shared_initialisation") >= 0.9 * len(verdicts)


@pytest.mark.parametrize(("a", "b"), RELATED)
def test_descent_is_found(a: str, b: str) -> None:
    comparison = compare(ZOO / a, ZOO / b)
    assert comparison.verdict.log10_p is not None
    assert comparison.verdict.log10_p <= -9
    if LOST_IN_TRAINING in (a, b):
        assert comparison.verdict.verdict in ("related", "inconclusive")
    else:
        assert comparison.verdict.found


def test_inserted_layers_are_recognised_as_new() -> None:
    origins = compare(ZOO / "a", ZOO / "a-frozen-core").origins
    grown = next(op for op in truth("a-frozen-core")["operations"] if "layers" in json.dumps(op))
    assert [origin.a for origin in origins] == [0, None, 1, 2, 3, 4, None], grown
    assert [origin.b for origin in origins if origin.frozen] == [0, 2, 3, 4, 5]
