"""Buckets (``s3://``, ``gs://``) through fsspec: an extra, because each store needs a library of its own."""

from __future__ import annotations

import hashlib
import time
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from homolog.checkpoint.address import Address, RemotePath
from homolog.checkpoint.budget import Budget
from homolog.checkpoint.listing import RemoteFile, StoredListing
from homolog.errors import AccessRefused, CheckpointNotFound, SourceChanged, TransferFailed, UsageError

__all__ = ["list_bucket"]

_ATTEMPTS = 4
_DENIED = ("NoCredentials", "Forbidden", "AccessDenied", "Unauthorized", "HttpError: 403", "HttpError: 401")


def list_bucket(address: Address, budget: Budget) -> tuple[StoredListing, str | None]:
    """The files of a folder of a bucket, and the name of the one that was meant, if it was one.

    Raises ``UsageError`` where the library for the store is not installed, ``CheckpointNotFound``, ``AccessRefused``, ``TransferFailed``.
    """
    import fsspec  # noqa: PLC0415 - read over the network only

    try:
        system, root = fsspec.core.url_to_fs(address.name)
    except ImportError as error:
        raise UsageError(f"{address.name}: {error}; pip install 'homolog[buckets]'") from error
    home = RemotePath(address.name)
    info = _ask(system.info, root, home)
    file = None
    if info.get("type") == "file":
        file, home = PurePosixPath(root).name, home.parent
        root = str(PurePosixPath(root).parent)
    entries = _ask(partial(system.ls, detail=True), root, home)
    files, seen = {}, hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: str(entry["name"])):
        name, size = PurePosixPath(entry["name"]).name, entry.get("size")
        if entry.get("type") != "file" or not isinstance(size, int) or not name.isprintable():
            continue
        path = home / name
        # stores call it ETag (S3), etag or generation (GCS); other file systems have a time at best
        version = next(
            (
                entry[key]
                for key in ("ETag", "etag", "generation", "LastModified", "mtime", "created")
                if entry.get(key)
            ),
            None,
        )
        identity = f"{address.name.partition(':')[0]}://{entry['name']} {version} {size}" if version else None
        fetch = partial(_fetch, system, entry["name"], path, size, budget)
        files[name] = RemoteFile(path, size, identity, fetch)
        seen.update(f"{name}\0{size}\0{identity}\0".encode())
    return StoredListing(home, f"{home}@{seen.hexdigest()}", files), file


def _ask(question: Any, root: str, path: RemotePath) -> Any:
    try:
        return question(root)
    except FileNotFoundError as error:
        raise CheckpointNotFound(
            path, at="address", found="nothing there", expected="a model's folder or a weight file"
        ) from error
    except Exception as error:
        raise _translate(error, path) from error


def _fetch(system: Any, name: str, path: RemotePath, size: int, budget: Budget, start: int, stop: int) -> bytes:
    for attempt in range(_ATTEMPTS):
        with budget.promise(stop - start, path) as promise:
            budget.count_request()
            try:
                block: bytes = system.cat_file(name, start=start, end=stop)
            except FileNotFoundError as error:
                raise SourceChanged(
                    path, at="file", found="nothing there any more", expected=f"{size} bytes"
                ) from error
            except Exception as error:
                failure = _translate(error, path)
                if isinstance(failure, AccessRefused) or attempt == _ATTEMPTS - 1:
                    raise failure from error
                time.sleep(0.5 * 2.0**attempt)
                continue
            promise.arrive(len(block))
        if len(block) != stop - start:
            found = f"{len(block)} bytes from {start}"
            raise SourceChanged(path, at="size", found=found, expected=f"{stop - start} of a file of {size}")
        return block
    raise AssertionError


def _translate(error: Exception, path: RemotePath) -> AccessRefused | TransferFailed:
    """The libraries of the stores raise what they like; what they say of rights is told by its name."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, PermissionError) or any(word in text for word in _DENIED):
        expected = "a login of the store's own (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS …) that may read it"
        return AccessRefused(path, at="bucket", found=text, expected=expected)
    return TransferFailed(path, at="bucket", found=text, expected="an answer")
