"""Ranged requests over HTTP that survive what servers do: they are slow, busy, cut connections, send too little, redirect.

Requests go through the hub client's session, so that its proxies, certificates and offline switch hold for homolog too. Every body is
read in a stream of bounded length; what did arrive before a fault is kept, and only the rest is asked for again.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from homolog.checkpoint.budget import Budget, Promise
from homolog.errors import HomologError, RangesRefused, SourceChanged, TransferFailed

__all__ = ["Reply", "Target", "Web", "origin_of"]

_ATTEMPTS = 6
"""In a row without a byte of progress."""
_MOST_ATTEMPTS = 60
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_LONGEST_WAIT = 300.0
"""Seconds that a server may ask us to wait."""
_SLOWEST = 4096
"""Bytes a second below which, over the whole patience, a connection counts as stuck."""
_MOST_REDIRECTS = 5
_CHUNK = 1 << 16
"""What the HTTP library hands over at once, at most."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EXPIRED = frozenset({400, 401, 403, 404, 410})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")
_RATE = re.compile(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,9})")
"""The hub's ``RateLimit`` header with nothing left (draft-ietf-httpapi-ratelimit-headers)."""
_RATE_OF_HOSTS, _BURST = 20.0, 100.0
"""Requests a second, and at once, to one host: below what the hub allows an anonymous user (500 API calls, 3,000 files in 300 s)."""


def origin_of(url: str) -> str:
    """Scheme, host and port: what a login belongs to."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, with its body where it was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    raw: Any
    """The response of the HTTP library."""

    @property
    def url(self) -> str:
        """Where it came from."""
        return str(self.raw.url)


@dataclass(slots=True)
class Target:
    """One remote file, and what is remembered of it between two requests."""

    path: Path
    url: str
    size: int
    headers: Mapping[str, str]
    """Sent to the host of ``url`` alone: a login must not follow a redirect to another."""
    explain: Callable[[Reply, Path], HomologError]
    """The error for a status that says no."""
    linked: str | None = None
    """What the server's ``X-Linked-Etag`` must be, where it sends one."""
    etag: str | None = None
    """The ``ETag`` of the file at the end of all redirects; learnt from the first response if not known before."""
    direct: str | None = None
    """Where the redirects lead."""


class _FaultError(Exception):
    """What went wrong on the way and may go right the next time."""

    def __init__(self, found: str, wait: float | None = None) -> None:
        super().__init__(found)
        self.found = found
        self.wait = wait


@dataclass(slots=True)
class _Pace:
    """A bucket of permits to ask, which fills at a steady rate, and the moment before which the server wants no request."""

    permits: float = _BURST
    at: float = field(default_factory=time.monotonic)
    closed_until: float = 0.0


class Web:
    """Asks servers, patiently and at a measured pace; one for all models of a run."""

    def __init__(self, budget: Budget, *, patience: float = 20.0) -> None:
        self.budget = budget
        self._patience = patience
        self._paces: dict[str, _Pace] = {}
        self._lock = threading.Lock()

    def get(
        self, url: str, path: Path, *, headers: Mapping[str, str], most: int, method: str = "GET", follow: bool = True
    ) -> Reply:
        """A whole small document of at most ``most`` bytes; what its status means is for the caller to say.

        Raises ``TransferFailed`` where the server or the network fails, and goes on failing.
        """
        for failures in range(1, _ATTEMPTS + 1):
            try:
                return self._get_once(url, path, headers, most, method, follow)
            except _FaultError as fault:
                self._rest(fault, failures, path, url)
        raise AssertionError("resting raises in the end")

    def probe(self, url: str, path: Path, headers: Mapping[str, str]) -> Reply:
        """Ask for the first byte of a file, for the sake of the headers. Raises as `get`."""
        for failures in range(1, _ATTEMPTS + 1):
            try:
                ask = {**headers, "Range": "bytes=0-0"}
                with (
                    self.budget.promise(1, path) as promise,
                    self._open(url, ask, path, "GET", follow=True, secret=headers) as (reply, _),
                ):
                    if reply.status == 206 and _length(reply) == 1:
                        for _chunk in self._read(reply, promise):
                            pass
                    return reply
            except _FaultError as fault:
                self._rest(fault, failures, path, url)
        raise AssertionError("resting raises in the end")

    def get_range(self, target: Target, start: int, stop: int) -> bytes:
        """Bytes ``start:stop`` of a file.

        Raises ``RangesRefused``, ``SourceChanged``, ``TransferFailed``, ``BudgetExceeded``, or what ``target`` makes of a status.
        """
        parts: list[bytes] = []
        have, failures = start, 0
        for _ in range(_MOST_ATTEMPTS):
            before = have
            try:
                for chunk in self._stream_range(target, have, stop):
                    parts.append(chunk)
                    have += len(chunk)
                return parts[0] if len(parts) == 1 else b"".join(parts)
            except _FaultError as fault:
                failures = failures + 1 if have == before else 1
                self._rest(fault, failures, target.path, target.url)
        raise TransferFailed(
            target.path,
            at=f"bytes {start} to {stop}",
            found=f"a connection that broke {_MOST_ATTEMPTS} times",
            expected="one that lasts",
        )

    def _get_once(
        self, url: str, path: Path, headers: Mapping[str, str], most: int, method: str, follow: bool
    ) -> Reply:
        with (
            # set aside before it is asked for: a small answer is here by the time that its length is known
            self.budget.promise(min(most, _CHUNK), path) as promise,
            self._open(url, headers, path, method, follow=follow) as (reply, _),
        ):
            if reply.status != 200 or method == "HEAD":
                return reply
            stated = _length(reply)
            if stated is not None and stated > most:
                raise TransferFailed(
                    path, at="answer", found=f"{stated} bytes", expected=f"a document of at most {most}"
                )
            promise.extend(min(most, _CHUNK) if stated is None else stated)
            parts: list[bytes] = []
            have = 0
            for chunk in self._read(reply, promise):
                parts.append(chunk)
                have += len(chunk)
                if have > most:
                    raise TransferFailed(
                        path, at="answer", found=f"more than {most} bytes", expected="a small document"
                    )
                if stated is None:
                    promise.extend(_CHUNK)
            return Reply(reply.status, reply.headers, b"".join(parts), reply.raw)

    def _stream_range(self, target: Target, start: int, stop: int) -> Iterator[bytes]:
        """The bytes as they arrive."""
        with (
            self.budget.promise(stop - start, target.path) as promise,
            self._open_range(target, start, stop) as reply,
        ):
            left = _check_range(target, reply, start, stop)
            for chunk in self._read(reply, promise):
                if len(chunk) > left:
                    raise _FaultError(f"a body longer than the {stop - start} bytes that were asked for")
                left -= len(chunk)
                start += len(chunk)
                yield chunk
                if start == stop:
                    return
            raise _FaultError(f"a connection that ended {stop - start} bytes too early")

    @contextmanager
    def _open_range(self, target: Target, start: int, stop: int) -> Iterator[Reply]:
        wanted = {"Range": f"bytes={start}-{stop - 1}"}
        direct, own = target.direct, target.headers
        url, headers = (target.url, {**own, **wanted}) if direct is None else (direct, wanted)
        with self._open(url, headers, target.path, "GET", follow=True, secret=own, linked=target.linked) as (
            reply,
            moved,
        ):
            if (
                (direct or moved) is not None
                and origin_of(reply.url) != origin_of(target.url)
                and reply.status in _EXPIRED
            ):
                target.direct = None  # a signed address runs out: ask for another
                raise _FaultError(f"HTTP {reply.status} from the address that the server redirects to", 0.0)
            if reply.status not in (200, 206, 416):
                raise target.explain(reply, target.path)
            if moved is not None:
                target.direct = moved
            yield reply

    @contextmanager
    def _open(
        self,
        url: str,
        headers: Mapping[str, str],
        path: Path,
        method: str,
        *,
        follow: bool,
        secret: Mapping[str, str] | None = None,
        linked: str | None = None,
    ) -> Iterator[tuple[Reply, str | None]]:
        """A response whose body is still to come, and where redirects led."""
        withheld = {name.lower() for name in (headers if secret is None else secret)}
        moved: str | None = None
        for _ in range(_MOST_REDIRECTS + 1):
            with self._send(method, url, headers) as reply:
                if linked and reply.headers.get("x-linked-etag", f'"{linked}"').strip('"') != linked:
                    found = f"the content {reply.headers['x-linked-etag']}"
                    raise SourceChanged(path, at="redirect", found=found, expected=f"{linked}, as listed before")
                location = reply.headers.get("location")
                if reply.status not in _REDIRECTS or not location or not follow:
                    yield reply, moved
                    return
                moved = urljoin(url, location)
            if origin_of(moved) != origin_of(url):
                headers = {name: value for name, value in headers.items() if name.lower() not in withheld}
            if urlsplit(moved).scheme not in ("https", urlsplit(url).scheme):
                found = f"a redirect from {urlsplit(url).scheme} to {urlsplit(moved).scheme}"
                raise TransferFailed(path, at="redirect", found=found, expected="one that stays encrypted")
            url = moved
        raise TransferFailed(
            path, at="redirect", found=f"more than {_MOST_REDIRECTS} in a row", expected="an end to them"
        )

    @contextmanager
    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[Reply]:
        from huggingface_hub.utils import get_session  # noqa: PLC0415 - nobody who reads local files waits for it

        self._await_turn(origin_of(url))
        self.budget.count_request()
        plain = {"Accept-Encoding": "identity", **headers}
        library = _library()
        try:
            with get_session().stream(
                method, url, headers=plain, follow_redirects=False, timeout=self._patience
            ) as response:
                reply = Reply(response.status_code, response.headers, b"", response)
                if reply.status in _BUSY:
                    self._close_for(origin_of(url), wait := _asked_to_wait(reply.headers))
                    raise _FaultError(f"HTTP {reply.status}", wait)
                yield reply
        except library.HTTPError as error:
            raise _FaultError(_describe(error)) from error

    def _read(self, reply: Reply, promise: Promise) -> Iterator[bytes]:
        """The body in pieces; what the connection delivers is counted, and it must not drip."""
        began, have = time.monotonic(), 0
        for chunk in reply.raw.iter_raw():
            promise.arrive(len(chunk))
            have += len(chunk)
            yield chunk
            elapsed = time.monotonic() - began
            if elapsed > self._patience and have < _SLOWEST * elapsed:
                raise _FaultError(f"a connection that sent {have} bytes in {elapsed:.0f} s")

    def _rest(self, fault: _FaultError, failures: int, path: Path, url: str) -> None:
        """Wait before the next attempt. Raises ``TransferFailed`` where there will be none."""
        if fault.wait is not None and fault.wait > _LONGEST_WAIT:
            found = f"{fault.found} and the wish to be asked again in {fault.wait:.0f} s"
            raise TransferFailed(
                path, at=origin_of(url), found=found, expected=f"at most {_LONGEST_WAIT:.0f} s"
            ) from fault
        if failures >= _ATTEMPTS:
            found = f"{fault.found}, {failures} times in a row"
            raise TransferFailed(path, at=origin_of(url), found=found, expected="an answer") from fault
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** (failures - 1))
        time.sleep(pause if fault.wait is None else fault.wait)

    def _await_turn(self, origin: str) -> None:
        while True:
            with self._lock:
                pace = self._paces.setdefault(origin, _Pace())
                now = time.monotonic()
                pace.permits = min(_BURST, pace.permits + (now - pace.at) * _RATE_OF_HOSTS)
                pace.at = now
                wait = max(pace.closed_until - now, (1.0 - pace.permits) / _RATE_OF_HOSTS)
                if wait <= 0:
                    pace.permits -= 1.0
                    return
            time.sleep(wait)

    def _close_for(self, origin: str, seconds: float | None) -> None:
        """A server that asks for a pause means all connections of ours."""
        with self._lock:
            pace = self._paces[origin]
            pace.closed_until = max(pace.closed_until, time.monotonic() + min(seconds or 0.0, _LONGEST_WAIT))


def _check_range(target: Target, reply: Reply, start: int, stop: int) -> int:
    """How many bytes the body has; the response must be the range that was asked for, of the file as it was listed."""
    if reply.status == 416:
        raise SourceChanged(
            target.path, at=f"byte {start}", found="the end of the file", expected=f"{target.size} bytes"
        )
    headers, length = reply.headers, _length(reply)
    encoding = headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RangesRefused(target.path, at="answer", found=f"the encoding {encoding}", expected="bytes as stored")
    etag = headers.get("etag")
    if etag is not None and etag != (target.etag or etag):
        raise SourceChanged(target.path, at="ETag", found=etag, expected=f"{target.etag}, as before")
    if reply.status == 200 and (start, stop) != (0, target.size):
        found = f"the whole file (HTTP 200) for bytes {start} to {stop}"
        raise RangesRefused(target.path, at="answer", found=found, expected="a server that sends ranges (HTTP 206)")
    if reply.status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if match is None:
            found = f"Content-Range {headers.get('content-range')!r}"
            raise RangesRefused(target.path, at="answer", found=found, expected="one range")
        if match[3] not in ("*", str(target.size)):
            raise SourceChanged(target.path, at="size", found=f"{match[3]} bytes", expected=f"{target.size}, as before")
        if int(match[1]) != start or int(match[2]) >= stop or int(match[2]) < start:
            raise _FaultError(f"bytes {match[1]} to {match[2]} where {start} to {stop - 1} were asked for")
        stop = int(match[2]) + 1
    if length is not None and length != stop - start:
        raise _FaultError(f"a body of {length} bytes where {stop - start} were asked for")
    target.etag = etag if etag is not None else target.etag
    return stop - start


def _length(reply: Reply) -> int | None:
    text = reply.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds, from ``Retry-After`` (a number or a date) or the hub's ``RateLimit``."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    if text:
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except (ValueError, OverflowError):
            pass
    match = _RATE.search(headers.get("ratelimit", ""))
    return float(match[1]) if match else None


def _describe(error: Exception) -> str:
    return (
        f"a network error ({type(error).__name__}: {error})"
        if str(error)
        else f"a network error ({type(error).__name__})"
    )


@cache
def _library() -> Any:
    """The HTTP library of the hub client: httpx, or the successor that its newer versions use."""
    from huggingface_hub.utils import get_session  # noqa: PLC0415

    roots = [cls.__module__.partition(".")[0] for cls in type(get_session()).__mro__]
    return next(sys.modules[root] for root in roots if hasattr(sys.modules.get(root), "HTTPError"))
