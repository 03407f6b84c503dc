"""Plain web servers: an address of a weight file, or of a folder in which the files of a model lie under their usual names.

A web server has no table of contents. Each file that could be there is asked for by its first byte, which tells at once whether it is
there, how large it is, what the server calls this version of it (``ETag``), and whether it sends ranges at all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from homolog.checkpoint.address import Address, RemotePath
from homolog.checkpoint.listing import RemoteFile
from homolog.checkpoint.web import Reply, Target, Web
from homolog.errors import AccessRefused, CheckpointNotFound, HomologError, RangesRefused, TransferFailed
from homolog.version import __version__

__all__ = ["SIDE_FILES", "WebFolder"]

SIDE_FILES = ("config.json", "tokenizer.json", "vocab.json", "vocab.txt")
_WEIGHTS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
_FILES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".index.json")
_TOTAL = re.compile(r"bytes (?:\d+-\d+|\*)/(\d{1,15})")
_AT_ONCE = 8


class WebFolder:
    """The files below one web address."""

    def __init__(self, address: Address, web: Web) -> None:
        parts = urlsplit(address.name)
        self._query = parts.query
        self._parts = parts
        self._web = web
        self.file: str | None = None
        """The file that was named; ``None`` for a folder."""
        folder = PurePosixPath(unquote(parts.path) or "/")
        if folder.name.endswith(_FILES):
            self.file, folder = folder.name, folder.parent
        self._folder = str(folder).rstrip("/")
        shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], self._folder, "", ""))
        self.home = RemotePath(shown)
        self.files: dict[str, RemoteFile] = {}
        self._absent: set[str] = set()
        self.find_all([*SIDE_FILES, *([self.file] if self.file else _WEIGHTS)])
        if self.file and self.file not in self.files:
            raise CheckpointNotFound(
                self.home / self.file, at="address", found="no such file", expected="a weight file"
            )
        seen = hashlib.sha256(repr(sorted((f.name, f.size, f.identity) for f in self.files.values())).encode())
        self.version = f"{shown}@{seen.hexdigest()}"
        nameless = sorted(file.name for file in self.files.values() if file.identity is None)
        self.notes: tuple[str, ...] = (
            (f"the server gives no ETag for {nameless[0]}, so what was fetched is not kept for another run",)
            if nameless
            else ()
        )

    def find(self, name: str) -> RemoteFile | None:
        """One file, asked for once."""
        self.find_all([name])
        return self.files.get(name)

    def find_all(self, names: Iterable[str]) -> None:
        """Ask for several files at once."""
        unknown = [name for name in dict.fromkeys(names) if name not in self.files and name not in self._absent]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for name, file in zip(unknown, pool.map(self._ask, unknown), strict=True):
                if file is None:
                    self._absent.add(name)
                else:
                    self.files[name] = file

    def _ask(self, name: str) -> RemoteFile | None:
        path = self.home / name
        query = self._query if name == self.file else ""
        url = urlunsplit((self._parts.scheme, self._parts.netloc, quote(f"{self._folder}/{name}"), query, ""))
        headers = {"User-Agent": f"homolog/{__version__}"}
        reply = self._web.probe(url, path, headers)
        if reply.status in (404, 410) or (reply.status in (401, 403) and name != self.file and name not in _WEIGHTS):
            return None
        if reply.status not in (200, 206, 416):
            raise _explain(reply, path)
        size = _size(reply.headers, reply.status)
        if size is None:
            raise RangesRefused(path, at="size", found="no Content-Length and no Content-Range", expected="one of them")
        etag, modified = reply.headers.get("etag"), reply.headers.get("last-modified")
        identity = f"{url.partition('?')[0]} {etag or modified} {size}" if etag or modified else None
        target = Target(path, url, size, headers, _explain, etag=etag)
        return RemoteFile(path, size, identity, partial(self._web.get_range, target), partial(_is_ready, target))


def _is_ready(target: Target) -> bool:
    return target.direct is not None or target.etag is not None


def _size(headers: Mapping[str, str], status: int) -> int | None:
    match = _TOTAL.fullmatch(headers.get("content-range", ""))
    if match is not None:
        return int(match[1])
    length = headers.get("content-length", "")
    return int(length) if status == 200 and length.isascii() and length.isdigit() and len(length) <= 15 else None


def _explain(reply: Reply, path: Path) -> HomologError:
    if reply.status in (401, 403):
        expected = "a file that anyone may read, or an address that is signed"
        return AccessRefused(path, at="address", found=f"HTTP {reply.status}: no right to read it", expected=expected)
    if reply.status in (404, 410):
        return CheckpointNotFound(path, at="address", found="no such file", expected="it, as found before")
    return TransferFailed(path, at="answer", found=f"HTTP {reply.status}", expected="HTTP 206")
