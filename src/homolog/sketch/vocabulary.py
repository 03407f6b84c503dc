"""A model's vocabulary: which row of the embedding belongs to which token, joined across models by the token's bytes.

Reads ``tokenizer.json`` (byte-level BPE, SentencePiece-like BPE and Unigram, WordPiece), ``vocab.json`` with ``merges.txt`` and
``vocab.txt``. Tokenizers are hostile input like everything else: sizes are bounded and contents are only ever compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homolog.errors import MalformedCheckpoint

__all__ = ["Vocabulary", "build_vocabulary", "read_vocabularies", "read_vocabulary"]

_MOST_BYTES = 100 * 2**20
_MOST_TOKENS = 4_000_000

IMPOSSIBLE_BYTES = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
"""The thirteen bytes that no UTF-8 text contains."""

_RESERVED = re.compile(
    r"(\[unused_?\d+\]|<unused_?\d+>|<\|reserved_special_token_\d+\|>|<\|?reserved_?\d+\|?>|<\|extra_\d+\|>|\[PAD\d+\]"
    r"|\[control_\d+\]|<SPECIAL_\d+>|<\|dummy_\d+\|>|<\|unused_?\d+\|>|<reserved_\d+>|<\|placeholder\d+\|>)",
    re.IGNORECASE,
)


_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_BRACKETS = ("<", "[")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of a model, by id."""

    source: str
    """The file it was read from."""
    ids: Mapping[bytes, int]
    """Token (as the bytes it stands for; special tokens with a leading NUL) → row of the embedding."""
    untrained: Mapping[bytes, str]
    """Tokens that no training text can contain, each with the reason."""

    def __len__(self) -> int:
        return len(self.ids)


def read_vocabulary(folder: Path | None) -> Vocabulary | None:
    """The vocabulary beside the weights, or ``None`` if there is no tokenizer file that homolog reads.

    Raises MalformedCheckpoint for a tokenizer file whose contents contradict its format.
    """
    path = _find(folder)
    return _READERS[path.name](path, _read_text(path)) if path else None


def read_vocabularies(a: Path | None, b: Path | None) -> tuple[Vocabulary | None, Vocabulary | None]:
    """Both models' vocabularies; two copies of one file are parsed once."""
    first, second = _find(a), _find(b)
    if first and second and first.name == second.name and first.stat().st_size == second.stat().st_size:
        text = _read_text(first)
        if text == _read_text(second):
            shared = _READERS[first.name](first, text)
            return shared, shared
    return read_vocabulary(a), read_vocabulary(b)


def _find(folder: Path | None) -> Path | None:
    return next((folder / name for name in _READERS if (folder / name).is_file()), None) if folder else None


def _read_text(path: Path) -> str:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise MalformedCheckpoint(path, at="file size", found=f"{size} bytes", expected=f"at most {_MOST_BYTES}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MalformedCheckpoint(path, at=f"byte {error.start}", found=error.reason, expected="UTF-8 text") from None


def _read_json(path: Path, text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedCheckpoint(path, at="document", found=str(error), expected="JSON of reasonable depth") from None
    if not isinstance(document, dict):
        raise MalformedCheckpoint(path, at="document", found=type(document).__name__, expected="an object")
    return document


def _read_tokenizer_json(path: Path, text: str) -> Vocabulary:
    document = _read_json(path, text)
    model = document.get("model")
    if not isinstance(model, dict):
        raise MalformedCheckpoint(path, at="model", found=type(model).__name__, expected="an object")
    listed = model.get("vocab", {})
    if isinstance(listed, list):  # Unigram: pairs of token and score
        listed = {entry[0]: i for i, entry in enumerate(listed) if isinstance(entry, list) and entry}
    tokens = _checked(path, "model.vocab", listed)
    added = document.get("added_tokens", [])
    special: dict[str, int] = {}
    for entry in added if isinstance(added, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and _is_id(entry.get("id")):
            special[entry["content"]] = entry["id"]
    byte_level = _mentions_byte_level(document)
    merges = model.get("merges") if model.get("type", "BPE") == "BPE" and not model.get("ignore_merges") else None
    return build_vocabulary(
        path.name, tokens, special, byte_level=byte_level, merges=merges if isinstance(merges, list) else None
    )


def _read_vocab_json(path: Path, text: str) -> Vocabulary:
    tokens = _checked(path, "document", _read_json(path, text))
    return build_vocabulary(path.name, tokens, {}, byte_level="Ġ" in "".join(list(tokens)[:5000]), merges=None)


def _read_vocab_txt(path: Path, text: str) -> Vocabulary:
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    if len(lines) > _MOST_TOKENS:
        raise MalformedCheckpoint(path, at="lines", found=str(len(lines)), expected=f"at most {_MOST_TOKENS}")
    return build_vocabulary(
        path.name, {line.rstrip("\r"): i for i, line in enumerate(lines)}, {}, byte_level=False, merges=None
    )


_READERS: Mapping[str, Callable[[Path, str], Vocabulary]] = {
    "tokenizer.json": _read_tokenizer_json,
    "vocab.json": _read_vocab_json,
    "vocab.txt": _read_vocab_txt,
}
"""By file name, the most telling first."""


def _checked(path: Path, at: str, listed: Any) -> dict[str, int]:
    if not isinstance(listed, dict) or len(listed) > _MOST_TOKENS:
        raise MalformedCheckpoint(
            path, at=at, found=type(listed).__name__, expected=f"at most {_MOST_TOKENS} tokens with ids"
        )
    for token, index in listed.items():
        if not isinstance(token, str) or not _is_id(index):
            raise MalformedCheckpoint(path, at=f"{at}: {token!r}", found=repr(index), expected="an id >= 0")
    return listed


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def build_vocabulary(
    source: str, tokens: Mapping[str, int], special: Mapping[str, int], *, byte_level: bool, merges: list[Any] | None
) -> Vocabulary:
    """A vocabulary out of ordinary and special tokens with their ids.

    ``byte_level`` says whether the ordinary ones are spelled in GPT-2's stand-ins for bytes; ``merges`` are pairs of tokens, ``None``
    where the tokenizer reaches its tokens otherwise.
    """
    ids: dict[bytes, int] = {}
    untrained: dict[bytes, str] = {}
    alphabet = _byte_alphabet() if byte_level else None
    reachable = _merged(merges) if merges else None
    for token, index in tokens.items():
        if token in special:
            continue
        key, single = _token_bytes(token, alphabet)
        ids[key] = index
        if single is not None and single in IMPOSSIBLE_BYTES:
            untrained[key] = "a byte that UTF-8 cannot contain"
        elif token[:1] in _BRACKETS and _RESERVED.fullmatch(token):
            untrained[key] = "a reserved token"
        elif reachable is not None and len(token) > 1 and single is None and token not in reachable:
            untrained[key] = "no merge produces it"
    for token, index in special.items():
        key = b"\0" + token.encode("utf-8", "surrogatepass")
        ids[key] = index
        if _RESERVED.fullmatch(token):
            untrained[key] = "a reserved token"
    return Vocabulary(source, ids, untrained)


def _token_bytes(token: str, alphabet: Mapping[int, int] | None) -> tuple[bytes, int | None]:
    """The bytes a token stands for, and the byte if it stands for a single one that is no character by itself."""
    if alphabet is not None:
        try:
            raw = token.translate(alphabet).encode("latin-1")
        except UnicodeEncodeError:
            pass
        else:
            return raw, raw[0] if len(raw) == 1 else None
    if token[:1] in _BRACKETS:
        if fallback := _BYTE.fullmatch(token):
            value = int(fallback[1], 16)
            return bytes([value]), value
        if _RESERVED.fullmatch(token):
            return b"\0" + token.encode("utf-8", "surrogatepass"), None
    return token.replace("▁", " ").encode("utf-8", "surrogatepass"), None


def _byte_alphabet() -> dict[int, int]:
    """The printable stand-ins that byte-level BPE uses for bytes (GPT-2's ``bytes_to_unicode``), inverted, for `str.translate`."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [b for b in range(256) if b not in printable]
    # Characters of Latin-1 that stand for nothing must not pass for the byte of their own number.
    return {b: _NOT_LATIN_1 for b in rest} | {256 + i: b for i, b in enumerate(rest)}


_NOT_LATIN_1 = 0x2603


def _mentions_byte_level(document: Mapping[str, Any]) -> bool:
    def mentions(part: Any) -> bool:
        if isinstance(part, dict):
            return part.get("type") == "ByteLevel" or any(mentions(v) for k, v in part.items() if k in _STEPS)
        return isinstance(part, list) and any(mentions(v) for v in part[:100])

    return mentions(document.get("pre_tokenizer")) or mentions(document.get("decoder"))


_STEPS = ("pretokenizers", "decoders", "processors")


def _merged(merges: Iterable[Any]) -> set[str]:
    produced = set()
    for merge in merges:
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if isinstance(parts, list) and len(parts) == 2 and all(isinstance(p, str) for p in parts):
            produced.add(parts[0] + parts[1])
    return produced
