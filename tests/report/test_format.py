"""Numbers and strings as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.report.format import clean, percent, power, power_html, size
from homolog.report.words import OPERATIONS, say


@given(st.floats(min_value=-5000, max_value=0))
def test_power_never_flatters(log10_p: float) -> None:
    shown = power(log10_p)
    value = float(shown.removeprefix("10^")) if shown.startswith("10^") else None
    if value is None:
        assert 10**log10_p <= float(shown) + 1e-9
    else:
        assert log10_p <= value + 1e-6
    assert shown not in {"0", "0.00"}


def test_power_by_hand() -> None:
    assert power(-1161.2) == "10^-1161"
    assert power(-9.0) == "10^-9"
    assert power(0.0) == "1.00"
    assert power(-0.21) == "0.62"
    assert power_html(-30.0) == "10<sup>−30</sup>"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(1.0, "100 %"), (0.9996, "99.9 %"), (0.98, "98 %"), (0.0004, "0.1 %"), (0.0, "0 %"), (None, "–")],
)
def test_percent_says_all_and_nothing_only_when_exact(share: float | None, shown: str) -> None:
    assert percent(share) == shown


def test_size() -> None:
    assert size(0) == "0 bytes"
    assert size(27_016_467) == "27.0 MB"
    assert size(15_231_271_888) == "15.2 GB"


@given(st.text(max_size=900))
def test_clean_leaves_nothing_that_acts(text: str) -> None:
    shown = clean(text, 100)
    assert shown.isprintable()
    assert len(shown) <= 10 * 104


def test_clean_cuts_from_the_middle() -> None:
    assert clean("a" * 500 + "/model.safetensors", 40).endswith("/model.safetensors")


def test_unknown_identifiers_still_read() -> None:
    assert say(OPERATIONS, "newly_invented_step") == "newly invented step"
