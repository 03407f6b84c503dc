from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from homolog.lab.bpe import SPECIALS, Tokenizer, train_tokenizer

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("text", ["The cat sat.", "猫坐在垫子上 — naïve\t\x00", "  \n\n x_y don't 42", ""])
def test_ids_spell_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert b"".join(tokenizer.tokens[place - len(SPECIALS)] for place in ids) == text.encode()


def test_merges_shorten_the_text(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("The cat sat on the mat.")) < len("The cat sat on the mat.") / 2


def test_bytes_that_utf8_cannot_contain_are_tokens_that_never_occur(tokenizer: Tokenizer) -> None:
    impossible = {len(SPECIALS) + byte for byte in (0xC0, 0xC1, *range(0xF5, 0x100))}
    every = "".join(chr(code) for code in (*range(0xD800), *range(0xE000, 0x110000, 37)))
    assert not impossible & set(tokenizer.encode(every).tolist())
    assert {tokenizer.tokens[place - len(SPECIALS)] for place in impossible} == {
        bytes([b]) for b in (0xC0, 0xC1, *range(0xF5, 0x100))
    }


def test_a_larger_vocabulary_only_adds_ids(tokenizer: Tokenizer) -> None:
    text = "".join(token.decode(errors="ignore") for token in tokenizer.tokens) * 3
    small, large = train_tokenizer(text, 290), train_tokenizer(text, 300)
    assert large.merges[: len(small.merges)] == small.merges


def test_the_file_reads_back(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path) == tokenizer
    body = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert len(body["model"]["vocab"]) == tokenizer.size
    assert np.array_equal(sorted(body["model"]["vocab"].values()), np.arange(tokenizer.size))
