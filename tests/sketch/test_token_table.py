"""The tokens inside a GGUF file and those of a tokenizer file are joined by the same keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.checkpoint.convert_gguf import convert

from homolog.checkpoint.base import TokenTable
from homolog.checkpoint.open import open_checkpoint
from homolog.sketch.token_table import read_token_table, vocabularies_of, vocabulary_of
from homolog.sketch.vocabulary import read_vocabulary

ZOO = Path(__file__).parent.parent / "zoo"


def table(model: str, tokens: list[str], kinds: list[int] | None = None, merges: list[str] | None = None) -> TokenTable:
    return TokenTable(
        model,
        [token.encode() for token in tokens],
        None if kinds is None else np.array(kinds, dtype=np.int64),
        None if merges is None else [merge.encode() for merge in merges],
    )


@pytest.mark.parametrize("model", ["a", "g"])
def test_a_converted_tokenizer_is_the_same_vocabulary(tmp_path: Path, model: str) -> None:
    beside = read_vocabulary(ZOO / model)
    assert beside is not None
    with open_checkpoint(convert(ZOO / model, tmp_path / "copy.gguf")) as copy, open_checkpoint(ZOO / model) as hub:
        inside = vocabulary_of(copy)
        assert inside is not None
        assert dict(inside.ids) == dict(beside.ids)
        assert dict(inside.untrained) == dict(beside.untrained)
        first, second = vocabularies_of(copy, hub)
    assert first is not None
    assert second is not None
    assert first.ids == second.ids


def test_sentencepiece_bytes_marks_and_specials() -> None:
    tokens = ["<unk>", "<s>", "<0xC0>", "<0x41>", "▁the", "<unused7>", "ing"]
    vocabulary = read_token_table(table("llama", tokens, [2, 3, 6, 6, 1, 4, 1]))
    assert vocabulary.ids == {b"\0<unk>": 0, b"\0<s>": 1, b"\xc0": 2, b"A": 3, b" the": 4, b"\0<unused7>": 5, b"ing": 6}
    assert vocabulary.untrained == {
        b"\xc0": "a byte that UTF-8 cannot contain",
        b"\0<unused7>": "a reserved token",
    }


def test_word_pieces_lose_the_mark_of_the_converter() -> None:
    vocabulary = read_token_table(table("bert", ["[CLS]", "▁run", "ning", "▁[unused1]"], [3, 1, 1, 1]))
    assert vocabulary.ids == {b"\0[CLS]": 0, b"run": 1, b"##ning": 2, b"\0[unused1]": 3}


def test_filler_is_no_token_and_unreachable_tokens_are_untrained() -> None:
    tokens = ["a", "b", "Ġ", "ab", "ba", "[PAD5]"]
    vocabulary = read_token_table(table("gpt2", tokens, [1, 1, 1, 1, 1, 5], ["a b"]))
    assert vocabulary.ids == {b"a": 0, b"b": 1, b" ": 2, b"ab": 3, b"ba": 4}
    assert vocabulary.untrained == {b"ba": "no merge produces it"}


def test_broken_text_and_missing_kinds_are_no_error() -> None:
    broken = TokenTable("llama", [b"\xff\xfe", b"\xed\xa0\x80", b"", b"ok"], None, [b"\xff", b"o k"])
    assert read_token_table(broken).ids[b"ok"] == 3


def test_plain_characters_under_the_name_of_byte_level_stay_as_they_are() -> None:
    assert read_token_table(table("gpt2", ["▁", "é"])).ids == {b" ": 0, "é".encode(): 1}
