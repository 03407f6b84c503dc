"""What the fuzzer found worth keeping, and fresh mutations of the seeds: everything opens, or ends in one typed error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.mutators import MUTATORS
from tests.fuzz.replay import replay_corpus
from tests.fuzz.seeds import make_seeds
from tests.fuzz.targets import TARGETS, expect_typed_errors, read_any_format

from homolog.errors import CheckpointError

CORPUS = Path(__file__).parent / "corpus"
SEEDS = make_seeds()


def test_corpus_opens_or_ends_in_a_typed_error() -> None:
    assert replay_corpus(CORPUS) > 100


@pytest.mark.parametrize("target", TARGETS)
@given(seed=st.integers(0, 2**32), depth=st.integers(1, 6))
def test_mutations_open_or_end_in_a_typed_error(target: str, seed: int, depth: int) -> None:
    random = Random(seed)
    data = random.choice(SEEDS[target])
    for _ in range(depth):
        data = MUTATORS[target](data, random)
    TARGETS[target](data)


@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"\x80\x02" + rest))
def test_any_bytes_open_or_end_in_a_typed_error(data: bytes) -> None:
    expect_typed_errors(read_any_format)(data)


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_hold_good_and_bad_files(target: str) -> None:
    """A harness whose every seed is refused would test one error message."""
    outcomes = [_outcome(target, seed) for seed in SEEDS[target]]
    assert outcomes.count("read") >= 5
    assert len(set(outcomes)) >= 3


def _outcome(target: str, data: bytes) -> str:
    raw: Callable[[bytes], None] = TARGETS[target].__wrapped__  # type: ignore[attr-defined]
    try:
        raw(data)
    except CheckpointError as error:
        return type(error).__name__
    return "read"
