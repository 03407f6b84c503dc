from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homolog.cli import output
from homolog.cli.progress import Progress
from homolog.errors import UsageError
from homolog.provenance import Provenance, Stopwatch, round_floats

_FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
_DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | _FINITE | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_FINITE)
def test_rounding_keeps_six_digits_and_is_final(value: float) -> None:
    rounded = round_floats(value)
    assert isinstance(rounded, float)
    assert math.isclose(rounded, value, rel_tol=5.0001e-6, abs_tol=1e-320)
    assert round_floats(rounded) == rounded
    assert not (rounded == 0.0 and math.copysign(1.0, rounded) < 0)


@given(_DOCUMENTS)
def test_rounding_touches_floats_only(document: object) -> None:
    rounded = round_floats(document)
    assert json.dumps(rounded) == json.dumps(round_floats(rounded))
    if not isinstance(document, float | list | dict):
        assert rounded is document


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_that_is_not_there_is_printed(value: float) -> None:
    with pytest.raises(ValueError, match="in an output"):
        output.print_json({"a": [{"b": value}]})


def test_last_bits_do_not_show(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"z": 0.1 + 0.2, "a": [1, -0.0, -1121.2999999], "t": "é", "n": None})
    assert json.loads(capsys.readouterr().out, object_pairs_hook=list) == [
        ("z", 0.3),
        ("a", [1, 0.0, -1121.3]),
        ("t", "é"),
        ("n", None),
    ]


def test_the_command_of_a_provenance_can_be_typed() -> None:
    defaults = {"seed": 0, "units": 64, "full": False}
    options = {"seed": 3, "units": 64, "full": True}
    provenance = Provenance.of("compare", ["my models/a", "b"], options, defaults)
    assert provenance.command == "homolog compare 'my models/a' b --seed 3 --full"
    assert provenance.to_json() == {"homolog": "0.1.0", "command": provenance.command, "options": options}


def test_a_stopwatch_reads_time_and_memory() -> None:
    watch = Stopwatch()
    held = bytearray(50_000_000)
    run = watch.read()
    assert run.seconds >= 0
    assert run.peak_bytes is not None
    assert run.peak_bytes >= len(held)


def test_a_target_is_checked_before_it_is_written(tmp_path: Path) -> None:
    there = tmp_path / "r.html"
    output.check_target(there, force=False)
    there.write_text("mine")
    output.check_target(there, force=True)
    with pytest.raises(UsageError, match="--force overwrites it"):
        output.check_target(there, force=False)
    with pytest.raises(UsageError, match="is a folder"):
        output.check_target(tmp_path, force=True)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("homolog.cli.progress.time.monotonic", clock)
    return clock


def test_a_bar_needs_two_seconds_and_a_terminal(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich's way to be told that it writes to a terminal
    monkeypatch.setenv("TERM", "xterm")
    with Progress() as progress:
        clock.now += 1.9
        progress("reading", 1, 4)
        assert capsys.readouterr().err == ""
        clock.now += 0.2
        progress("reading", 2, 4)
    captured = capsys.readouterr()
    assert "reading" in captured.err
    assert captured.out == ""


def test_no_bar_without_a_terminal_or_when_quiet(
    clock: _Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with Progress() as piped, Progress(quiet=True) as quiet:
        clock.now += 60
        piped("reading", 1, 4)
        quiet("reading", 1, 4)
    assert capsys.readouterr() == ("", "")
