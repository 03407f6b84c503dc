"""Published methods on trained models: each finds what its paper says it finds, and is fooled by what is known to fool it."""

from __future__ import annotations

from pathlib import Path

import pytest

from homolog.arena.cases import Case, open_case
from homolog.arena.methods.base import Method, MethodScore, Model
from homolog.arena.methods.catalogue import METHODS, choose_methods
from homolog.arena.zoo import read_zoo
from homolog.errors import UsageError

ZOO = Path(__file__).parents[1] / "zoo"
FORMULAS = [method for method in METHODS if method.name not in ("modeldna", "provenancekit")]


def method(name: str) -> Method:
    return choose_methods([name])[0]


def score(name: str, b: str, *steps: dict[str, object], a: str = "a") -> MethodScore:
    zoo = read_zoo(ZOO)
    with open_case(Case("b", (b,), steps), zoo) as folder, Model(folder) as second, Model(ZOO / a) as first:
        return method(name).score(first, second)


def value(name: str, b: str, *steps: dict[str, object]) -> float:
    found = score(name, b, *steps)
    assert found.value is not None, found.reason
    return found.value


@pytest.mark.parametrize("name", [m.name for m in FORMULAS])
def test_a_continued_training_looks_more_related_than_an_independent_twin(name: str) -> None:
    assert value(name, "a-same-1x") > value(name, "b")


@pytest.mark.parametrize("name", [m.name for m in FORMULAS if m.own_threshold is not None])
def test_a_continued_training_is_found_at_the_own_threshold(name: str) -> None:
    assert score(name, "a-same-1x").says_related


@pytest.mark.parametrize("name", [m.name for m in FORMULAS])
def test_a_model_is_most_like_itself(name: str) -> None:
    itself = value(name, "a")
    assert itself >= value(name, "a-same-1x") - 1e-9


def test_std_curves_accuse_an_independent_twin() -> None:
    assert score("std-curves", "b").says_related
    assert not score("homolog", "b").says_related


PERMUTED, ROTATED = {"kind": "permute_units", "seed": 1}, {"kind": "rotate_residual", "seed": 1}
RESIDUAL = {"kind": "permute_residual", "seed": 1}


def test_a_permutation_of_units_kills_the_constrained_test_and_not_its_weaker_sister() -> None:
    assert not value("independence-test", "a-same-1x", PERMUTED) > 10
    assert value("match-weights", "a-same-1x", PERMUTED) > 100


def test_a_rotation_kills_what_looks_at_channels_and_not_what_is_invariant() -> None:
    assert value("awm", "a-same-1x", RESIDUAL) > 200 > value("awm", "a-same-1x", ROTATED)
    assert value("polar-embeddings", "a-same-1x", RESIDUAL) > 22.7 > value("polar-embeddings", "a-same-1x", ROTATED)
    assert value("sampled-cosine", "a-same-1x", RESIDUAL) < 0.1
    # of HuRef's terms a permutation changes none, a rotation the third: the product of gate and up is taken channel by channel
    assert value("huref", "a-same-1x", RESIDUAL) == pytest.approx(value("huref", "a-same-1x"), abs=0.01)
    assert 0.1 < value("huref", "a-same-1x", ROTATED) < value("huref", "a-same-1x") - 0.1
    assert value("spectra", "a", PERMUTED, RESIDUAL) > 6


def test_other_shapes_get_an_answer_or_a_reason() -> None:
    for name in (m.name for m in FORMULAS):
        for b in ("g", "q-upcycled", "a-frozen-core", "a-pruned"):
            found = score(name, b)
            assert (found.value is None) == (found.reason is not None)
    assert score("independence-test", "a-pruned").reason == "the FFNs differ in shape or number"
    assert score("match-weights", "g").reason == "an ungated FFN has one matrix to match by"
    assert value("match-weights", "a-frozen-core") > 100


def test_methods_have_names_of_their_own_and_are_chosen_by_them() -> None:
    names = [m.name for m in METHODS]
    assert len(set(names)) == len(names)
    assert choose_methods(None) == METHODS
    assert [m.name for m in choose_methods(["awm", "homolog"])] == ["homolog", "awm"]
    with pytest.raises(UsageError, match="no method 'reef'"):
        choose_methods(["reef"])
