"""Repositories of ModelScope, over the routes of its own client (modelscope_hub 0.5, ``_legacy_api``).

``GET /api/v1/models/{id}/repo/files`` lists files with their SHA-256, ``GET /api/v1/models/{id}/repo?Revision=…&FilePath=…`` sends one,
by range too. The endpoint is ``MODELSCOPE_ENDPOINT``, the login ``MODELSCOPE_API_TOKEN``, as the client has them.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from urllib.parse import quote_plus

from homolog.checkpoint.address import Address
from homolog.checkpoint.hub import parse_document
from homolog.checkpoint.listing import RemoteFile, StoredListing
from homolog.checkpoint.web import Reply, Target, Web
from homolog.errors import AccessRefused, CheckpointNotFound, HomologError, TransferFailed
from homolog.version import __version__

__all__ = ["list_modelscope"]

_ENDPOINT = "https://modelscope.cn"
_LARGEST_ANSWER = 32 << 20
_TRUNCATED = 3000
"""``REPO_FILES_TRUNCATION_LIMIT``: the server's cap on one listing."""


def list_modelscope(address: Address, web: Web) -> StoredListing:
    """The files of a repository. Raises as `hub.list_repository`."""
    path = address.path
    endpoint = (os.environ.get("MODELSCOPE_ENDPOINT", "").strip() or _ENDPOINT).rstrip("/")
    endpoint = endpoint if "://" in endpoint else f"https://{endpoint}"
    headers = {"User-Agent": f"homolog/{__version__}"}
    if token := os.environ.get("MODELSCOPE_API_TOKEN"):
        headers |= {"Authorization": f"Bearer {token}", "Cookie": f"m_session_id={token}"}
    api, revision = f"{endpoint}/api/v1/models/{address.name}/repo", quote_plus(address.revision or "master")
    reply = web.get(
        f"{api}/files?Revision={revision}&Recursive=False", path, headers=headers, most=_LARGEST_ANSWER, follow=False
    )
    if reply.status != 200:
        raise _explain(reply, path)
    document = parse_document(reply, path, dict)
    data = document.get("Data")
    entries = data.get("Files") if isinstance(data, dict) else None
    if not isinstance(entries, list) or len(entries) >= _TRUNCATED:
        found = str(document.get("Message") or "no list of files")
        raise TransferFailed(path, at="repo/files", found=found, expected=f"at most {_TRUNCATED} files")
    files = {}
    seen = hashlib.sha256()
    for entry in entries:
        name, size, digest = (
            (entry.get(key) for key in ("Path", "Size", "Sha256")) if isinstance(entry, dict) else ("",) * 3
        )
        if (
            not isinstance(name, str)
            or not name.isprintable()
            or "/" in name
            or entry.get("Type") == "tree"
            or not name
        ):
            continue
        if not isinstance(size, int) or not 0 <= size < 1 << 48:
            raise TransferFailed(path / name, at="repo/files", found=f"{size!r} bytes", expected="a size")
        target = Target(path / name, f"{api}?Revision={revision}&FilePath={quote_plus(name)}", size, headers, _explain)
        identity = f"sha256:{digest}" if digest else None
        files[name] = RemoteFile(
            path / name, size, identity, partial(web.get_range, target), partial(_is_ready, target)
        )
        seen.update(f"{name}\0{size}\0{identity}\0".encode())
    return StoredListing(path, f"{endpoint}/{address.name}@{seen.hexdigest()}", files)


def _is_ready(target: Target) -> bool:
    return target.direct is not None


def _explain(reply: Reply, path: Path) -> HomologError:
    if reply.status in (401, 403):
        expected = "a login that may read it: MODELSCOPE_API_TOKEN in the environment"
        return AccessRefused(path, at="repository", found=f"HTTP {reply.status}", expected=expected)
    if reply.status == 404:
        expected = "a public repository, or MODELSCOPE_API_TOKEN for a private one"
        return CheckpointNotFound(path, at="address", found="no such repository, revision or file", expected=expected)
    return TransferFailed(path, at="answer", found=f"HTTP {reply.status}", expected="HTTP 200")
