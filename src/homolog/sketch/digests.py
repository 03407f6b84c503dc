"""A digest of every tensor in one pass over a checkpoint, however large: read, hashed and forgotten block by block.

The pass can be stopped at any moment: the digests that are done lie in a file beside the output, which is replaced whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from homolog.checkpoint.base import Checkpoint, Meter, TensorInfo
from homolog.errors import UsageError
from homolog.roles.role import Anatomy
from homolog.sketch.stored import TensorDigest
from homolog.sketch.stream import Progress

__all__ = ["ResumeFile", "digest_tensors", "fold_digests"]

_FORMAT = "homolog.sketch.partial"
_BLOCK = 8 * 2**20
"""Bytes read at once."""
_WAITING = 4 * _BLOCK
"""Bytes that may wait to be hashed."""
_AHEAD = 16 * _BLOCK
"""What is fetched at once, at least, where the weights lie elsewhere: several requests at a time, into the cache on disk."""
_SECONDS = 2.0
"""Between two writes of the resume file."""


class ResumeFile:
    """The digests done so far, bound to what they are of: a checkpoint that changed in between starts from the beginning."""

    def __init__(self, path: Path, bound: str) -> None:
        self.path, self._bound = path, bound
        self._written = time.monotonic()
        self.done = self._read()

    def save(self, *, now: bool = False) -> None:
        """Write what is done, if the last time is long enough ago; the file is replaced in one step."""
        if not now and time.monotonic() - self._written < _SECONDS:
            return
        fresh = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        document = {"format": _FORMAT, "bound": self._bound, "tensors": self.done}
        try:
            fresh.write_text(json.dumps(document), encoding="utf-8")
            fresh.replace(self.path)
        finally:
            fresh.unlink(missing_ok=True)
        self._written = time.monotonic()

    def remove(self) -> None:
        """The pass is complete and its result is written."""
        self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        try:
            document = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise UsageError(f"{self.path}: exists and is no unfinished sketch; it stands where one would be kept")
        done = document.get("tensors")
        if document.get("bound") != self._bound or not isinstance(done, dict):
            return {}
        return {str(name): str(digest) for name, digest in done.items()}


def digest_tensors(
    checkpoint: Checkpoint, anatomy: Anatomy, resume: ResumeFile | None, progress: Progress
) -> tuple[TensorDigest, ...]:
    """SHA-256 of the bytes of every tensor, as stored, with the roles that it has.

    One block is read while the one before is hashed; no more than a few are held. Raises CheckpointError where the file cannot be read.
    """
    done = resume.done if resume is not None else {}
    # as the tensors lie, so that a disk reads forwards
    order = list(
        dict.fromkeys([*filter(checkpoint.tensors.__contains__, checkpoint.stored_order()), *checkpoint.tensors])
    )
    todo = deque(checkpoint.tensors[name] for name in order if name not in done)
    total = sum(info.nbytes for info in checkpoint.tensors.values())
    behind = total - sum(info.nbytes for info in todo)
    fetched = 0
    with _no_other_digest(checkpoint.meter), ThreadPoolExecutor(1) as hasher:
        while todo:
            progress("hashing tensors", behind >> 20, total >> 20)
            if not fetched:
                fetched = _fetch_ahead(checkpoint, todo)
            info = todo.popleft()
            done[info.name] = _digest_tensor(checkpoint, info, hasher)
            if resume is not None:
                resume.save()
            behind += info.nbytes
            fetched -= 1
    if resume is not None:
        resume.save(now=True)
    roles = _list_roles(anatomy)
    return tuple(
        TensorDigest(name, info.dtype, info.shape, f"sha256:{done[name]}", roles.get(name, ()))
        for name, info in checkpoint.tensors.items()
    )


def fold_digests(tensors: tuple[TensorDigest, ...]) -> str:
    """SHA-256 over names, dtypes, shapes and digests of all tensors, sorted by name."""
    whole = hashlib.sha256()
    for tensor in sorted(tensors, key=lambda tensor: tensor.name):
        line = f"{tensor.name}\0{tensor.dtype}\0{tensor.shape}\0{tensor.sha256}\0"
        whole.update(line.encode("utf-8", "surrogatepass"))
    return f"sha256:{whole.hexdigest()}"


@contextmanager
def _no_other_digest(meter: Meter) -> Iterator[None]:
    """Hash every byte once, not twice: what a sketch is bound to was read before."""
    meter.digesting = False
    try:
        yield
    finally:
        meter.digesting = True


def _fetch_ahead(checkpoint: Checkpoint, todo: Iterable[TensorInfo]) -> int:
    """Have the next tensors at hand, in few requests; how many they are."""
    remote = checkpoint.meter.remote
    chosen: list[TensorInfo] = []
    size = 0
    for info in todo:
        chosen.append(info)
        size += info.nbytes
        if remote is None or size >= _AHEAD:
            break

    def read() -> None:
        for info in chosen:
            for _ in checkpoint.read_stored(info.name, _BLOCK):
                pass

    if remote is not None:
        remote.prepare(read)
    return len(chosen)


def _digest_tensor(checkpoint: Checkpoint, info: TensorInfo, hasher: ThreadPoolExecutor) -> str:
    digest = hashlib.sha256()
    waiting: deque[tuple[Future[None], int]] = deque()
    held = 0
    for block in checkpoint.read_stored(info.name, _BLOCK):
        waiting.append((hasher.submit(digest.update, block), len(block)))
        held += len(block)
        while held > _WAITING:
            hashed, size = waiting.popleft()
            hashed.result()
            held -= size
    for hashed, _ in waiting:
        hashed.result()
    return digest.hexdigest()


def _list_roles(anatomy: Anatomy) -> Mapping[str, tuple[str, ...]]:
    """For each tensor the roles in it, each with the part of the tensor that it is."""
    roles: dict[str, list[str]] = {}
    for role, view in anatomy.views.items():
        roles.setdefault(view.tensor, []).append(f"{role}{_part_of(view)}")
    return {name: tuple(sorted(listed)) for name, listed in roles.items()}


def _part_of(view: Any) -> str:
    return "" if view.stop is None else f" [axis {view.axis}, {view.start}:{view.stop}]"
