"""The vocabulary of a GGUF file, out of its own token table, with the same keys as the tokenizer files of a hub give.

llama.cpp's converter (llama-cpp-python 0.3.36, vendor/llama.cpp/conversion/base.py and bert.py) marks added tokens as control or
user-defined, fills ids that no token has with unused ``[PAD…]``, and writes the word pieces of BERT with a mark before what starts a word.
"""

from __future__ import annotations

from collections.abc import Mapping

from homolog.checkpoint.base import Checkpoint, TokenTable
from homolog.sketch.vocabulary import Vocabulary, build_vocabulary, read_vocabularies, read_vocabulary

__all__ = ["read_token_table", "vocabularies_of", "vocabulary_of"]

_UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED = 2, 3, 4, 5
_SPECIAL = frozenset([_UNKNOWN, _CONTROL, _USER_DEFINED])
_WORD_START = "▁"


def read_token_table(table: TokenTable) -> Vocabulary:
    """The tokens by their bytes; filler of the converter is left out, as no tokenizer has it."""
    kinds = table.kinds.tolist() if table.kinds is not None else [1] * len(table.tokens)
    word_pieces = table.model == "bert"
    tokens: dict[str, int] = {}
    special: dict[str, int] = {}
    for index, (raw, kind) in enumerate(zip(table.tokens, kinds, strict=True)):
        token = raw.decode("utf-8", "surrogateescape")
        if kind == _UNUSED and token == f"[PAD{index}]":
            continue
        if kind in _SPECIAL:
            special[token] = index
        else:
            tokens[_as_word_piece(token) if word_pieces else token] = index
    merges = [raw.decode("utf-8", "surrogateescape") for raw in table.merges] if table.merges else None
    return build_vocabulary(
        "the GGUF file's tokens", tokens, special, byte_level=_is_byte_level(table, tokens), merges=merges
    )


def _is_byte_level(table: TokenTable, tokens: Mapping[str, int]) -> bool:
    """``gpt2`` means byte-level BPE; some files call BPE over plain characters so too, and those hold the word mark."""
    return table.model == "gpt2" and not (_WORD_START in tokens and "Ġ" not in tokens)


def _as_word_piece(token: str) -> str:
    return token[1:] if token.startswith(_WORD_START) else f"##{token}"


def vocabulary_of(checkpoint: Checkpoint) -> Vocabulary | None:
    """The vocabulary in the weight file, or else beside it; ``None`` if there is none that homolog reads.

    Raises `MalformedCheckpoint` for a tokenizer file whose contents contradict its format.
    """
    return read_token_table(checkpoint.tokenizer) if checkpoint.tokenizer else read_vocabulary(checkpoint.folder)


def vocabularies_of(a: Checkpoint, b: Checkpoint) -> tuple[Vocabulary | None, Vocabulary | None]:
    """Both models' vocabularies; two copies of one tokenizer file are parsed once."""
    if a.tokenizer or b.tokenizer:
        return vocabulary_of(a), vocabulary_of(b)
    return read_vocabularies(a.folder, b.folder)
