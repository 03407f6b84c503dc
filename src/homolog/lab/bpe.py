"""A byte-level BPE tokenizer, trained here, and stored the way the hub stores them (``tokenizer.json``).

All 256 bytes are tokens. The thirteen that UTF-8 cannot contain (C0, C1, F5–FF) and the reserved tokens therefore never
occur in any text: their rows are never the input of a training step.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["RESERVED", "SPECIALS", "Tokenizer", "train_tokenizer"]

RESERVED = 24
SPECIALS = ("<|endoftext|>", "<|pad|>", *(f"<|reserved_{i}|>" for i in range(RESERVED)))
_SPLIT = r"'(?:s|t|re|ve|m|ll|d)| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"


def _byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    letters = {byte: chr(byte) for byte in plain}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(plain)))
    return [letters[byte] for byte in range(256)]


_LETTERS = _byte_letters()


@dataclass(frozen=True)
class Tokenizer:
    """Ids: the specials, the 256 bytes, then one token for every merge in order."""

    merges: tuple[tuple[bytes, bytes], ...]

    @cached_property
    def tokens(self) -> tuple[bytes, ...]:
        """The ordinary tokens' bytes; the id is the place plus the number of specials."""
        return (*(bytes([byte]) for byte in range(256)), *(left + right for left, right in self.merges))

    @property
    def size(self) -> int:
        """Ids in all."""
        return len(SPECIALS) + len(self.tokens)

    @property
    def digest(self) -> str:
        """SHA-256 over the merges, shortened."""
        return hashlib.sha256(b"\n".join(b" ".join(pair) for pair in self.merges)).hexdigest()[:8]

    @cached_property
    def _rank(self) -> dict[tuple[bytes, bytes], int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _ids(self) -> dict[bytes, int]:
        return {token: len(SPECIALS) + place for place, token in enumerate(self.tokens)}

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Token ids of ``text``, which may not hold specials."""
        known: dict[str, list[int]] = {}
        ids: list[int] = []
        for piece in re.findall(_SPLIT, text):
            if piece not in known:
                known[piece] = [self._ids[token] for token in self._merge(piece)]
            ids += known[piece]
        return np.array(ids, dtype=np.uint16)

    def _merge(self, piece: str) -> list[bytes]:
        parts = [bytes([byte]) for byte in piece.encode()]
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: self._rank.get(pair, len(self.merges)))
            if best not in self._rank:
                break
            parts = _join(parts, best)
        return parts

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``."""
        words = {name: place for place, name in enumerate(SPECIALS)}
        words |= {_spell(token): place for token, place in self._ids.items()}
        body = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [
                {
                    "id": place,
                    "content": name,
                    "single_word": False,
                    "lstrip": False,
                    "rstrip": False,
                    "normalized": False,
                    "special": True,
                }
                for place, name in enumerate(SPECIALS)
            ],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False},
                    {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
                ],
            },
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": words,
                "merges": [f"{_spell(left)} {_spell(right)}" for left, right in self.merges],
            },
        }
        kind = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIALS[0], "pad_token": SPECIALS[1]}
        (folder / "tokenizer.json").write_text(
            json.dumps(body, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
        )
        (folder / "tokenizer_config.json").write_text(json.dumps(kind), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Tokenizer:
        """Read back what `save` wrote."""
        back = {letter: byte for byte, letter in enumerate(_LETTERS)}
        merges = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
        pairs = (merge.split(" ") for merge in merges)
        return Tokenizer(tuple((bytes(back[c] for c in left), bytes(back[c] for c in right)) for left, right in pairs))


def train_tokenizer(text: str, size: int) -> Tokenizer:
    """Learn merges until the vocabulary holds ``size`` ids.

    Ties go to the pair that sorts first, so the result depends on the text alone, and a larger vocabulary only adds ids.
    """
    words = Counter(re.findall(_SPLIT, text))
    pieces = [([bytes([byte]) for byte in word.encode()], count) for word, count in sorted(words.items())]
    merges: list[tuple[bytes, bytes]] = []
    while len(SPECIALS) + 256 + len(merges) < size:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for parts, count in pieces:
            for pair in pairwise(parts):
                pairs[pair] += count
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        pieces = [(_join(parts, best), count) for parts, count in pieces]
    return Tokenizer(tuple(merges))


def _join(parts: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    if not any(couple == pair for couple in pairwise(parts)):
        return parts
    joined: list[bytes] = []
    place = 0
    while place < len(parts):
        if tuple(parts[place : place + 2]) == pair:
            joined.append(pair[0] + pair[1])
            place += 2
        else:
            joined.append(parts[place])
            place += 1
    return joined


def _spell(token: bytes) -> str:
    return "".join(_LETTERS[byte] for byte in token)
