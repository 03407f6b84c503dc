"""A corpus small enough to make in a test, in the shape of the real one."""

from __future__ import annotations

import numpy as np
import pytest

from homolog.lab.bpe import Tokenizer, train_tokenizer
from homolog.lab.corpus import PARTS, Corpus

TEXT = "The cat sat on the mat. 猫坐在垫子上。\ndef sit(cat):\n    return cat + 1\n" * 40


def make_corpus() -> Corpus:
    """Random tokens under a small tokenizer, in the shape of the real streams."""
    tokenizer = train_tokenizer(TEXT, 320)
    rng = np.random.default_rng(0)
    streams = {
        (name, part): rng.integers(26, tokenizer.size, 4000).astype(np.uint16)
        for name in ("en", "zh", "code")
        for part in PARTS
    }
    return Corpus(tokenizer, streams)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return make_corpus()


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXT, 320)
