"""What p-values have to show, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from homolog.arena.exact import list_descents, list_honesty, measure_honesty
from homolog.arena.methods.base import Method, MethodScore
from homolog.arena.run import Result


def result(value: float | None, label: str = "independent", operation: str = "x", method: str = "m") -> Result:
    score = MethodScore(value, 9.0, None if value is None else value >= 9, None if value is not None else "why not")
    return Result("a", "b", label, operation, ("a", "b"), False, False, method, score)


METHOD = Method("m", "none", "nothing", "-log10 p", lambda a, b: 0.0, is_p_value=True)


def test_honest_p_values_have_no_excess_and_others_have() -> None:
    honest = measure_honesty([result(-np.log10(rank / 100)) for rank in range(1, 101)])
    assert honest is not None
    assert honest.pairs == 100
    assert honest.shares == (0.05, 0.01, 0.0)
    assert honest.smallest == pytest.approx(-2)
    assert honest.excess == pytest.approx(1)
    twice = measure_honesty([result(-np.log10(rank / 200)) for rank in range(1, 101)])
    assert twice is not None
    assert twice.excess == pytest.approx(2)


def test_only_answered_independent_pairs_count_and_extremes_stay_finite() -> None:
    found = measure_honesty([result(400.0), result(0.0), result(None), result(50.0, "related")])
    assert found is not None
    assert (found.pairs, found.shares) == (2, (0.5, 0.5, 0.5))
    assert np.isfinite(found.excess)
    assert found.excess == pytest.approx(1e300)
    assert measure_honesty([result(50.0, "related"), result(None)]) is None


def test_methods_without_p_values_have_no_row() -> None:
    other = replace(METHOD, name="other", is_p_value=False)
    rows = list_honesty([METHOD, other], [result(1.0), result(0.0), result(0.5, method="other")])
    assert [row[0] for row in rows] == ["method", "m"]
    assert rows[1] == ["m", "2", "0.0%", "0.0%", "0.0%", "-1.0", "5"]


def test_every_model_is_listed_with_what_it_was_made_from() -> None:
    rows = list_descents(
        [
            result(12.34, "related", "z", "homolog-tier1"),
            result(0.0, "related", "zz", "homolog-tier1"),
            result(None, "related", "y", "homolog-tier1"),
            result(3.0, "related", "siblings", "homolog-tier1"),
            result(3.0, "independent", "z", "homolog-tier1"),
            result(3.0, "related", "z"),
        ]
    )
    assert rows[1:] == [["b", "a", "y", "", "none: why not"], ["b", "a", "z", "", "-12.3"], ["b", "a", "zz", "", "0.0"]]
