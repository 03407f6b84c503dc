"""The corpus in ids of a tokenizer that is given, where the text has changed since that one was learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from homolog.lab import corpus
from homolog.lab.bpe import train_tokenizer
from homolog.lab.corpus import BLOCK, load_corpus


def test_a_given_tokenizer_is_kept_and_a_learned_one_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a new edition of the handbook says other words\n" * (3 * BLOCK // 40)
    monkeypatch.setattr(corpus, "read_texts", lambda cache, limit=None: {"en": text})
    old = train_tokenizer("the old cat sat on the old mat\n" * 50, 290)
    given = load_corpus(tmp_path, tokenizer=old)
    learned = load_corpus(tmp_path, vocabulary=290)
    assert given.tokenizer == old != learned.tokenizer
    np.testing.assert_array_equal(given.streams["en", "a"][:9], old.encode(text)[:9])
    again = load_corpus(tmp_path, tokenizer=old)
    assert again.digest(("en",), "a") == given.digest(("en",), "a") != learned.digest(("en",), "a")
