"""Repositories of the Hugging Face hub, and of any server that speaks its routes (``HF_ENDPOINT``).

Endpoint, login and connection are the hub client's own (huggingface_hub). Two requests tell a repository's files: the model's info
(https://huggingface.co/docs/hub/api) for the commit that a revision means now, and the tree of that commit, page by page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

from homolog.checkpoint.address import Address
from homolog.checkpoint.listing import RemoteFile, StoredListing
from homolog.checkpoint.web import Reply, Target, Web, origin_of
from homolog.errors import AccessRefused, CheckpointMoved, CheckpointNotFound, HomologError, RemoteError, TransferFailed
from homolog.version import __version__

__all__ = ["list_repository", "make_target", "parse_document"]

_LARGEST_ANSWER = 32 << 20
_MOST_PAGES, _MOST_FILES = 100, 20_000
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="next"')
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_LOGIN = "a login that may read it: 'hf auth login', or HF_TOKEN in the environment"


def list_repository(address: Address, web: Web) -> StoredListing:
    """The files of a repository at one commit.

    Raises ``CheckpointNotFound`` for a repository or revision that is not there (or that this login may not see), ``CheckpointMoved``,
    ``AccessRefused`` and ``TransferFailed``.
    """
    from huggingface_hub import constants, get_token  # noqa: PLC0415 - only who names a hub waits for its client

    endpoint, path = constants.ENDPOINT, address.path
    # not its build_hf_headers, which asks the server for a list of coding agents first
    headers = {"User-Agent": f"homolog/{__version__}"}
    if not constants.HF_HUB_DISABLE_IMPLICIT_TOKEN and (token := get_token()):
        headers["Authorization"] = f"Bearer {token}"
    api = f"{endpoint}/api/models/{address.name}"
    reply = web.get(
        f"{api}/revision/{quote(address.revision or 'main', safe='')}",
        path,
        headers=headers,
        most=_LARGEST_ANSWER,
        follow=False,
    )
    if reply.headers.get("location"):
        raise _moved(reply, path)
    info = parse_document(reply, path, dict)
    commit = info.get("sha")
    if not isinstance(commit, str) or not _COMMIT.fullmatch(commit):
        raise TransferFailed(path, at="model info", found=f"the commit {commit!r}", expected="forty hexadecimal digits")
    files = {}
    for entry in _pages(f"{api}/tree/{commit}", headers, web, path):
        file = _file(entry, address, endpoint, commit, headers, web)
        if file is not None:
            files[file.name] = file
    return StoredListing(path, f"{endpoint}/{address.name}@{commit}", files, (f"read at commit {commit}",))


def make_target(path: Path, url: str, size: int, headers: Mapping[str, str], linked: str | None = None) -> Target:
    """One file of a repository, to be fetched by range."""
    return Target(path, url, size, headers, _explain, linked)


def parse_document(reply: Reply, path: Path, kind: type) -> Any:
    """The JSON of an answer. Raises what its status means, or ``TransferFailed``."""
    if reply.status != 200:
        raise _explain(reply, path)
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, kind):
        found, expected = f"no JSON {kind.__name__} ({reply.body[:40]!r})", "what a hub answers"
        raise TransferFailed(path, at=urlsplit(reply.url).path, found=found, expected=expected)
    return document


def _pages(url: str, headers: Mapping[str, str], web: Web, path: Path) -> Iterator[dict[str, Any]]:
    count = 0
    for _ in range(_MOST_PAGES):
        reply = web.get(url, path, headers=headers, most=_LARGEST_ANSWER, follow=False)
        for entry in parse_document(reply, path, list):
            count += 1
            if count > _MOST_FILES:
                raise TransferFailed(
                    path, at="tree", found=f"more than {_MOST_FILES} files", expected="a model's files"
                )
            if isinstance(entry, dict):
                yield entry
        match = _NEXT.search(reply.headers.get("link", "")[:10_000])
        if match is None:
            return
        following = urljoin(url, match[1])
        if origin_of(following) != origin_of(url):
            found = f"the next page at {origin_of(following)}"
            raise TransferFailed(path, at="tree", found=found, expected="all pages from one server")
        url = following
    raise TransferFailed(path, at="tree", found=f"more than {_MOST_PAGES} pages", expected="a model's files")


def _file(
    entry: Mapping[str, Any], address: Address, endpoint: str, commit: str, headers: Mapping[str, str], web: Web
) -> RemoteFile | None:
    name, size, large = entry.get("path"), entry.get("size"), entry.get("lfs")
    if entry.get("type") != "file" or not isinstance(name, str) or "/" in name or not name.isprintable():
        return None
    path = address.path / name
    digest = large.get("oid") if isinstance(large, dict) else None
    identity = f"sha256:{digest}" if digest else f"git:{entry.get('oid')}"
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 48 or not entry.get("oid"):
        raise TransferFailed(path, at="tree", found=f"{size!r} bytes, oid {entry.get('oid')!r}", expected="both known")
    url = f"{endpoint}/{address.name}/resolve/{commit}/{quote(name)}"
    target = make_target(path, url, size, headers, digest)
    return RemoteFile(path, size, identity, partial(web.get_range, target), lambda: target.direct is not None)


def _moved(reply: Reply, path: Path) -> HomologError:
    match = re.search(r"/api/models/([^/]+/[^/?#]+)", reply.headers.get("location", ""))
    new = f"its new name, {unquote(match[1])}" if match else reply.headers.get("location", "")
    expected = f"{new}: homolog does not follow by itself, because what is compared must be what was named"
    return CheckpointMoved(path, at="repository", found="a repository that was renamed", expected=expected)


def _explain(reply: Reply, path: Path) -> HomologError:
    """The error for a status that says no; the hub's codes are those of huggingface_hub, ``hf_raise_for_status``."""
    code, message = (reply.headers.get(f"x-error-{name}", "") for name in ("code", "message"))
    if code == "GatedRepo":
        found = "a gated repository, which this login may not read" if reply.status == 403 else "a gated repository"
        expected = f"its terms accepted on the page of the repository, and {_LOGIN}"
        return AccessRefused(path, at="repository", found=found, expected=expected)
    if code == "RevisionNotFound":
        return CheckpointNotFound(path, at="revision", found="no such branch, tag or commit", expected="one of them")
    if code == "EntryNotFound":
        return CheckpointNotFound(
            path, at="file", found="no such file in the repository", expected="the file as listed"
        )
    if message.startswith("Invalid credentials"):
        return AccessRefused(path, at="login", found="a token that the hub does not know", expected=_LOGIN)
    if "disabled" in message:
        return AccessRefused(path, at="repository", found="a repository that was disabled", expected="one that is open")
    if code == "RepoNotFound" or reply.status in (401, 404):
        found = "no such repository, or a private one"
        expected = f"a path that exists on this machine, a public repository, or {_LOGIN}"
        return CheckpointNotFound(path, at="address", found=found, expected=expected)
    if reply.status == 403:
        return AccessRefused(path, at="repository", found="HTTP 403: no right to read it", expected=_LOGIN)
    kind: type[RemoteError] = TransferFailed
    return kind(path, at=urlsplit(reply.url).path, found=f"HTTP {reply.status} {message}".strip(), expected="HTTP 200")
