"""The bank: conformal p-values over independent models, and what a bank says of its own range."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from homolog.bank.bank import Bank, BankModel
from homolog.errors import UsageError


def model(i: int, group: str = "g", width: int = 32) -> BankModel:
    return BankModel(f"m{i:03d}", group, "llama", 1000 * width, 3, width, 96, f"{i:064x}", "a test")


def draw_bank(rng: np.random.Generator, n: int, *, shared: float = 0.5) -> Bank:
    """Pair values with an effect of each model, so that pairs which share a model depend on each other, as real ones do."""
    effects = rng.standard_normal(n)
    pairs = np.array(list(combinations(range(n), 2)), dtype=np.intp)
    values = shared * effects[pairs].sum(axis=1) + rng.standard_normal(len(pairs))
    return Bank(tuple(model(i) for i in range(n)), pairs, {"s": values}, {"s": "a statistic"})


def test_a_model_scores_by_the_largest_of_its_pairs() -> None:
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    bank = Bank((model(0), model(1), model(2)), pairs, {"s": np.array([0.1, 0.3, np.nan])}, {"s": ""})
    assert bank.scores("s").tolist() == [0.3, 0.1, 0.3]
    assert bank.values("s").tolist() == [0.1, 0.3]


def test_the_smallest_p_is_one_in_n_plus_one_and_a_value_inside_the_bank_is_not_small() -> None:
    bank = draw_bank(np.random.default_rng(1), 20)
    assert bank.log10_p("s", 100.0) == pytest.approx(-np.log10(21))
    assert bank.log10_p("s", float(bank.values("s")[0])) == pytest.approx(0.0)


def test_p_is_conservative_for_a_suspect_that_is_one_more_independent_model() -> None:
    """The last of n + 1 exchangeable models plays the suspect, its pair with the first the value in question; 4,000 draws."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(4000):
        whole = draw_bank(rng, 11)
        value = whole.statistics["s"][(whole.pairs == [0, 10]).all(axis=1)][0]
        found.append(whole.without("m010").log10_p("s", float(value)))
    p = 10 ** np.array(found)
    for level in (1 / 11, 2 / 11, 0.5):
        # three standard errors of a share over 4,000 draws
        assert (p <= level + 1e-9).mean() <= level + 3 * np.sqrt(level * (1 - level) / 4000)


def test_p_is_small_for_a_value_beyond_the_bank() -> None:
    bank = draw_bank(np.random.default_rng(3), 200)
    assert bank.log10_p("s", 50.0) < -2.3


def test_leaving_a_model_out_takes_its_pairs_and_keeps_the_others() -> None:
    bank = draw_bank(np.random.default_rng(4), 5)
    less = bank.without("m002")
    kept = {
        (bank.models[a].id, bank.models[b].id): v for (a, b), v in zip(bank.pairs, bank.statistics["s"], strict=True)
    }
    assert [m.id for m in less.models] == ["m000", "m001", "m003", "m004"]
    for (a, b), value in zip(less.pairs, less.statistics["s"], strict=True):
        assert kept[less.models[a].id, less.models[b].id] == value
    assert len(less.pairs) == 6


def test_leave_one_out_gives_a_p_for_every_pair_and_no_accusation_among_exchangeable_models() -> None:
    bank = draw_bank(np.random.default_rng(5), 30)
    found = bank.leave_one_out("s")
    assert len(found) == len(bank.pairs)
    # at most every model's own largest pair may be the largest of all
    assert (found <= -np.log10(30) + 1e-9).sum() <= 30


def test_sizes_and_groups_are_told_apart() -> None:
    models = (model(0), model(1), model(2, "h", 64), model(3, "h", 64))
    pairs = np.array([[0, 1], [0, 2], [2, 3]])
    bank = Bank(models, pairs, {"s": np.array([0.1, 0.9, 0.3])}, {"s": ""})
    assert bank.sizes["width"].holds(48)
    assert not bank.sizes["width"].holds(128)
    rows = bank.by_size("s")
    assert [(row.group, row.models, row.pairs, row.median) for row in rows] == [("g", 2, 1, 0.1), ("h", 2, 1, 0.3)]


def test_an_unknown_statistic_or_model_is_named_in_the_error() -> None:
    bank = draw_bank(np.random.default_rng(6), 3)
    with pytest.raises(UsageError, match="no 't', only s"):
        bank.log10_p("t", 1.0)
    with pytest.raises(UsageError, match="nobody"):
        bank.without("nobody")
    with pytest.raises(UsageError, match="no model"):
        _ = replace(bank, models=(), pairs=np.empty((0, 2), dtype=np.intp)).sizes
