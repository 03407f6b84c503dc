"""Checkpoints that lie elsewhere: ranges are fetched as they are needed, many at once where it is known what will be, and never twice.

A stage of a comparison reads by shapes alone, so it can be rehearsed: the same code runs over zeros, and what it asks for is the plan.
The plan is then fetched, neighbouring ranges in one request and several requests at a time, into the cache on disk; the reading
itself finds everything there.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from homolog.checkpoint.address import Address, RemotePath
from homolog.checkpoint.base import Meter
from homolog.checkpoint.budget import show_bytes
from homolog.checkpoint.folder import Choice, choose_file, choose_files
from homolog.checkpoint.listing import Listing, RemoteFile, StoredListing
from homolog.checkpoint.session import Session
from homolog.checkpoint.source import FilePool
from homolog.errors import (
    BudgetExceeded,
    CheckpointError,
    CheckpointNotFound,
    IncompleteCheckpoint,
    MalformedCheckpoint,
    NotCached,
)

__all__ = ["FetchPlan", "Remote", "RemoteSource", "find_remote"]

_AT_ONCE = 8
"""Requests under way."""
_GAP = 16 << 10
"""Bytes between two ranges that are cheaper to fetch than another request."""
_LONGEST = 8 << 20
"""Bytes of one request, and of one file of the cache."""
_HEAD = 96 << 10
"""What is fetched of a file before anything is known of it: the headers of most shards."""
_LEAST_AHEAD, _MOST_AHEAD = 64 << 10, 4 << 20
"""What is fetched where nobody could say before what comes next; more if reading goes on from there."""
_LARGEST_SIDE = 100 << 20
_TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt")
"""The most telling first, as `homolog.sketch.vocabulary` looks for them."""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What a stage of reading will cost."""

    pieces: tuple[tuple[RemoteSource, int, int], ...]
    """Ranges to fetch: from where to where, each one request."""
    wanted: int
    """Bytes that the stage reads, those in the cache included."""
    requests: int
    """Requests, those included that only learn where a file is."""

    @property
    def bytes(self) -> int:
        """To be fetched."""
        return sum(stop - start for _, start, stop in self.pieces)

    def describe(self, path: Path, of: int) -> str:
        """In words: what is fetched of a model of ``of`` bytes, in how many requests, and what share that is."""
        cached = self.wanted - self.bytes
        kept = f"; {show_bytes(cached)} more are in the cache" if cached > 0 else ""
        share = f"{self.bytes / max(of, 1):.2%} of {show_bytes(of)}"
        return f"{path}: fetching {show_bytes(self.bytes)} in {self.requests} requests, {share}{kept}"


class Remote:
    """All files of one remote checkpoint."""

    def __init__(self, listing: Listing, session: Session, meter: Meter, folder: Path) -> None:
        self.session = session
        self.meter = meter
        self.folder = folder
        self._listing = listing
        self._nonce = secrets.token_hex(8)
        self._sources: dict[str, RemoteSource] = {}
        self._rehearsed: list[tuple[RemoteSource, int, int]] | None = None
        self._lock = threading.Lock()
        meter.remote = self

    @property
    def rehearsing(self) -> list[tuple[RemoteSource, int, int]] | None:
        """What the rehearsal under way has asked for; ``None`` if there is none."""
        return self._rehearsed

    def open(self, name: str) -> RemoteSource:
        """One file. Raises ``CheckpointNotFound``."""
        if name not in self._sources:
            file = self._listing.find(name)
            if file is None:
                raise CheckpointNotFound(self._listing.home / name, at="file", found="no such file", expected="a file")
            self._sources[name] = RemoteSource(file, self, file.identity or f"{file.path} {self._nonce}")
            self.meter.sizes[file.path] = file.size
        return self._sources[name]

    def expect(self, names: Sequence[str]) -> None:
        """Fetch the heads of files that will be opened."""
        self._listing.find_all(names)
        sources = [self.open(name) for name in names if self._listing.find(name) is not None]
        heads = [(source, 0, min(source.size, _HEAD)) for source in sources if source.size]
        self.fetch(self._plan(heads, gap=0))

    def find_side(self, names: Sequence[str]) -> str | None:
        """The first of these small files that the listing has."""
        return next((name for name in names if name in self._listing.files), None)

    def bring_sides(self) -> None:
        """Bring the tokenizer into the side folder. A tokenizer too large to be one is left where it is."""
        for name in _TOKENIZERS:
            file = self._listing.files.get(name)
            if file is not None and file.size <= _LARGEST_SIDE:
                self.bring(name)
                return

    def bring(self, name: str) -> None:
        """Bring one small file, whole, into the side folder."""
        target = self.folder / name
        file = self._listing.find(name)
        if file is None or (target.is_file() and target.stat().st_size == file.size):
            return
        if self.session.offline:
            raise NotCached(file.path, at="file", found="offline, and it is not in the cache", expected="it there")
        self.session.cache.write(target, file.fetch(0, file.size) if file.size else b"")

    @contextmanager
    def rehearse(self) -> Iterator[list[tuple[RemoteSource, int, int]]]:
        """Let reading run over zeros; what it asks for is collected. What the zeros break ends the rehearsal, not the run."""
        wanted: list[tuple[RemoteSource, int, int]] = []
        self._rehearsed = wanted
        try:
            with suppress(CheckpointError, ArithmeticError, LookupError, ValueError):
                yield wanted
        finally:
            self._rehearsed = None

    def plan(self, wanted: Iterable[tuple[RemoteSource, int, int]]) -> FetchPlan:
        """What of the ranges is to be fetched, in as few requests as is sensible."""
        return self._plan(wanted, gap=_GAP)

    def prepare(
        self,
        read: Callable[[], object],
        announce: Callable[[FetchPlan], None] = lambda plan: None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> FetchPlan:
        """Fetch at once what ``read`` will ask for; what was fetched for it.

        ``announce`` is called with the plan before anything of it is fetched, ``progress`` with the bytes that arrived and those that
        will. Raises ``BudgetExceeded`` and ``NotCached`` where the plan
        cannot be kept, and what fetching raises.
        """
        with self.rehearse() as wanted:
            read()
        plan = self.plan(wanted)
        if plan.pieces:
            self.require(plan.pieces)
            announce(plan)
            self.fetch(plan, lambda done: progress(done, plan.bytes))
        return plan

    def require_all(self, announce: Callable[[FetchPlan], None]) -> None:
        """Say what reading every byte takes, before it is begun. Raises ``BudgetExceeded`` and ``NotCached``."""
        plan = self.plan_all()
        if plan.pieces:
            self.require(plan.pieces)
            announce(plan)

    def plan_all(self) -> FetchPlan:
        """Every byte of every file that was opened."""
        return self._plan([(source, 0, source.size) for source in self._sources.values() if source.size], gap=0)

    @property
    def version(self) -> str:
        """Names the content of all files: the commit of a repository, or a digest of what the server states of each file."""
        return self._listing.version

    def holds_the_same_as(self, other: Remote) -> bool:
        """Whether the servers state the same content, by digest, for all files that were opened."""
        mine, theirs = (
            sorted(str(source.file.identity) for source in side._sources.values()) for side in (self, other)
        )
        return mine == theirs and all(identity.startswith("sha256:") for identity in mine)

    def fetch(self, plan: FetchPlan, progress: Callable[[int], None] = lambda done: None) -> None:
        """Fetch a plan into the cache. What did arrive is kept even if something else fails.

        ``progress`` is called with the bytes that arrived so far. Raises what fetching raises, and ``BudgetExceeded`` beforehand.
        """
        pieces = [(source, *gap) for source, start, stop in plan.pieces for gap in source.blocks.missing(start, stop)]
        if not pieces:
            return
        self.require(pieces)
        done = 0
        todo = iter(pieces)
        running: dict[Future[bytes], tuple[RemoteSource, int]] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while True:
                while failure is None and len(running) < 2 * _AT_ONCE and (piece := next(todo, None)) is not None:
                    source, start, stop = piece
                    running[pool.submit(source.file.fetch, start, stop)] = (source, start)
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    source, start = running.pop(future)
                    try:
                        block = future.result()
                    except BaseException as error:
                        failure = failure or error
                        for other in running:
                            other.cancel()
                        running = {other: place for other, place in running.items() if not other.cancelled()}
                        continue
                    source.blocks.add(start, block)
                    done += len(block)
                    progress(done)
        if failure is not None:
            raise failure

    def require(self, pieces: Sequence[tuple[RemoteSource, int, int]]) -> None:
        """Raise ``NotCached`` offline and ``BudgetExceeded`` where the ranges, of which there is at least one, do not fit."""
        source = pieces[0][0]
        count = sum(stop - start for _, start, stop in pieces)
        if self.session.offline:
            found = f"offline, and {count} bytes that are needed are not in the cache"
            raise NotCached(source.path, at=f"byte {pieces[0][1]}", found=found, expected="them there")
        left = self.session.budget.left
        if left is not None and count > left:
            raise BudgetExceeded(
                source.path, at="budget", found=f"{left} bytes left", expected=f"{count} bytes for what comes next"
            )

    def _plan(self, wanted: Iterable[tuple[RemoteSource, int, int]], *, gap: int) -> FetchPlan:
        spans: dict[RemoteSource, list[tuple[int, int]]] = {}
        total = 0
        for source, start, stop in wanted:
            spans.setdefault(source, []).append((start, stop))
        pieces = []
        for source, ranges in spans.items():
            total += sum(stop - start for start, stop in _join(ranges, 0))
            missing = [part for start, stop in _join(ranges, 0) for part in source.blocks.missing(start, stop)]
            for start, stop in _join(missing, gap):
                # what lies in a gap may be there already
                for first, last in source.blocks.missing(start, stop):
                    pieces += [(source, at, min(at + _LONGEST, last)) for at in range(first, last, _LONGEST)]
        fresh = {source for source, _, _ in pieces if not source.file.ready()}
        return FetchPlan(tuple(pieces), total, len(pieces) + len(fresh))


class RemoteSource:
    """One remote file; see `homolog.checkpoint.source.Source`."""

    def __init__(self, file: RemoteFile, remote: Remote, identity: str) -> None:
        self.file = file
        self.blocks = remote.session.cache.blocks(identity)
        self._remote = remote
        self._reached = -1
        self._ahead = _LEAST_AHEAD

    @property
    def path(self) -> Path:
        """The address of the file."""
        return self.file.path

    @property
    def size(self) -> int:
        """Bytes, as listed."""
        return self.file.size

    def open_beside(self, name: str) -> RemoteSource:
        """Another file of the same folder."""
        return self._remote.open(name)

    def read(self, offset: int, length: int) -> bytes:
        """One range, out of the cache or fetched; counted by the meter, unless it is rehearsed."""
        stop = offset + length
        if offset < 0 or stop > self.size:
            found = f"{max(0, self.size - offset)} bytes before the end"
            raise MalformedCheckpoint(self.path, at=f"byte {offset}", found=found, expected=f"{length} bytes")
        if not length:
            return b""
        rehearsed = self._remote.rehearsing
        if rehearsed is not None:
            rehearsed.append((self, offset, stop))
            return bytes(length)
        block = self.blocks.read(offset, stop)
        if block is None:
            block = self._fetch(offset, stop)
        self._remote.meter.record(self.path.name, offset, block)
        return block

    def _fetch(self, start: int, stop: int) -> bytes:
        """What nobody planned: the range, and some of what follows."""
        self._ahead = min(2 * self._ahead, _MOST_AHEAD) if start == self._reached else _LEAST_AHEAD
        self._reached = stop
        left = self._remote.session.budget.left
        far = min(self.size, max(stop, start + self._ahead))
        gaps = self.blocks.missing(start, far)
        if left is not None and sum(last - first for first, last in gaps) > left:
            gaps = self.blocks.missing(start, stop)
        self._remote.require([(self, *gap) for gap in gaps])
        fetched = {}
        for first, last in gaps:
            for at in range(first, last, _LONGEST):
                fetched[at] = self.file.fetch(at, min(at + _LONGEST, last))
                self.blocks.add(at, fetched[at])
        block = self.blocks.read(start, stop)
        if block is None:  # a cache too small for one range keeps nothing
            block = self.file.fetch(start, stop)
        return block


class _RemotePlace:
    """See `homolog.checkpoint.place.Place`."""

    def __init__(self, path: Path, remote: Remote, listing: Listing, save: Callable[[], None]) -> None:
        self.path = path
        self.home = listing.home
        self.folder = remote.folder
        self.pool = FilePool()
        self.meter = remote.meter
        self.notes = listing.notes
        self._remote = remote
        self._listing = listing
        self._save = save

    def source(self, file: Path) -> RemoteSource:
        return self._remote.open(file.name)

    def check_shards(self, files: Sequence[Path], index: Path) -> None:
        for file in files:
            if self._listing.find(file.name) is None:
                found = f"no file {file.name} there"
                raise IncompleteCheckpoint(index, at="weight_map", found=found, expected="every shard")

    def expect(self, files: Sequence[Path]) -> None:
        self._remote.expect([file.name for file in files])
        self._save()


def _join(spans: Iterable[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Ranges that overlap, or that lie within ``gap`` bytes of each other, as one; in order."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1] + gap:
            joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
        else:
            joined.append((start, stop))
    return joined


def find_remote(address: Address, session: Session) -> tuple[_RemotePlace, Choice]:
    """The files behind an address, and which of them are the model.

    Raises the ``CheckpointError`` that fits, and ``UsageError`` where a library for the store is not installed.
    """
    listing, file = _recall(address, session) if session.offline else _list(address, session)
    cache = session.cache
    remote = Remote(listing, session, Meter(), cache.side_folder(listing.version))
    path = listing.home / file if file else address.path if address.kind == "hub" else listing.home
    sizes = {name: found.size for name, found in listing.files.items()}
    choice = choose_file(listing.home / file) if file else choose_files(listing.home, sizes)
    remote.bring("config.json")
    remote.folder.mkdir(parents=True, exist_ok=True)
    save = partial(_remember, address, session, listing, file)
    if not session.offline:
        save()
    return _RemotePlace(path, remote, listing, save if not session.offline else lambda: None), choice


def _list(address: Address, session: Session) -> tuple[Listing, str | None]:
    if address.kind == "hub":
        from homolog.checkpoint.hub import list_repository  # noqa: PLC0415 - one of four, each with libraries of its own

        return list_repository(address, session.web), None
    if address.kind == "modelscope":
        from homolog.checkpoint.modelscope import list_modelscope  # noqa: PLC0415

        return list_modelscope(address, session.web), None
    if address.kind == "web":
        from homolog.checkpoint.weblist import WebFolder  # noqa: PLC0415

        folder = WebFolder(address, session.web)
        return folder, folder.file
    from homolog.checkpoint.bucket import list_bucket  # noqa: PLC0415

    return list_bucket(address, session.budget)


def _key(address: Address) -> str:
    endpoints = [os.environ.get(name, "") for name in ("HF_ENDPOINT", "MODELSCOPE_ENDPOINT")]
    return "\0".join((address.kind, address.name, address.revision or "", *endpoints))


def _remember(address: Address, session: Session, listing: Listing, file: str | None) -> None:
    document = {
        "home": str(listing.home),
        "version": listing.version,
        "notes": list(listing.notes),
        "file": file,
        "files": [[found.name, found.size, found.identity] for found in listing.files.values()],
    }
    session.cache.write_document(_key(address), json.dumps(document).encode())


def _recall(address: Address, session: Session) -> tuple[Listing, str | None]:
    """The listing of the last run that was online."""
    text = session.cache.read_document(_key(address))
    try:
        document = json.loads(text or b"")
        home = RemotePath(document["home"])
        files = {
            name: RemoteFile(home / name, size, identity, partial(_refuse, home / name))
            for name, size, identity in document["files"]
        }
        listing = StoredListing(home, document["version"], files, tuple(document["notes"]))
        return listing, document["file"]
    except (ValueError, KeyError, TypeError) as error:
        found = "offline, and nothing of it is in the cache"
        raise NotCached(address.path, at="address", found=found, expected="a run that was online before") from error


def _refuse(path: Path, start: int, stop: int) -> bytes:
    found = f"offline, and bytes {start} to {stop} are not in the cache"
    raise NotCached(path, at=f"byte {start}", found=found, expected="them there")
