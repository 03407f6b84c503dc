"""A hub on this machine: the routes of the Hugging Face hub, of ModelScope and of a plain web server, over the folders of ROOT.

    python tests/remote/server.py ROOT

Prints one line, ``{"hub": port, "cdn": port}``, and serves until it is ended. Large files are redirected from the hub to the second
port, as the real hub redirects to its CDN. ``POST /_control`` takes a JSON object that is merged into the settings: how to fail, who may
read what. ``GET /_log`` returns every request since the last ``DELETE /_log``. Standard library only.

A fault is ``{"at": regex of "METHOD path", "kind": …, "times": how often, -1 for always, "skip": how many to let pass first}``; the
kinds are those of `Handler.serve_file` and `Handler.misbehave`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

TOKEN = "hf_a_valid_token"
_LARGE = (".safetensors", ".bin", ".gguf", ".pt")
_PAGE = 3
_BLOCK = 1 << 16


class State:
    """Settings and log, shared by both ports."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        self.cdn = 0
        self.settings: dict[str, Any] = {
            "faults": [],
            "gated": [],
            "private": [],
            "disabled": [],
            "moved": {},
            "bytes_a_second": 0,
            "signature": "1",
        }
        self.log: list[dict[str, Any]] = []

    def fault(self, request: str, kinds: tuple[str, ...]) -> dict[str, Any] | None:
        """The fault that this request shall meet, counted down."""
        with self.lock:
            for fault in self.settings["faults"]:
                if fault["kind"] not in kinds or not re.search(fault["at"], request):
                    continue
                if fault.get("skip", 0) > 0:
                    fault["skip"] -= 1
                    continue
                if fault.get("times", -1) != 0:
                    fault["times"] = fault.get("times", -1) - 1
                    return dict(fault)
        return None


@cache
def digest_of(path: Path, size: int, stamp: int, kind: str) -> str:
    """SHA-256 of a file, or git's SHA-1 of a blob; of files too large to hash in a test, of their name and size."""
    if size > 256 << 20:
        return hashlib.new(kind, f"{path.name} {size} {stamp}".encode()).hexdigest()
    whole = path.read_bytes()
    return hashlib.new(kind, whole if kind == "sha256" else b"blob %d\0" % len(whole) + whole).hexdigest()


def identity(path: Path) -> tuple[int, str]:
    """Size and digest; the digest of a large file is its SHA-256."""
    status = path.stat()
    kind = "sha256" if path.suffix in _LARGE else "sha1"
    return status.st_size, digest_of(path, status.st_size, status.st_mtime_ns, kind)


class Handler(BaseHTTPRequestHandler):
    """One connection to either port."""

    protocol_version = "HTTP/1.1"
    server: Server
    sent = 0

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        with self.server.state.lock:
            self.server.state.log.clear()
        self.answer(200, b"{}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.state.lock:
            self.server.state.settings.update(body)
        self.answer(200, b"{}")

    def do_GET(self) -> None:
        state, parts = self.server.state, urlsplit(self.path)
        self.sent = 0
        if parts.path == "/_log":
            with state.lock:
                text = json.dumps(state.log).encode()
            self.answer(200, text)
            return
        entry: dict[str, Any] = {
            "port": self.server.kind,
            "method": self.command,
            "path": parts.path,
            "range": self.headers.get("Range"),
            "token": self.headers.get("Authorization") or self.headers.get("Cookie"),
        }
        with state.lock:
            state.log.append(entry)
        try:
            self.route(parts.path, parse_qs(parts.query))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            entry["sent"] = self.sent

    def route(self, path: str, query: dict[str, list[str]]) -> None:
        """Dispatch by path."""
        state = self.server.state
        fault = state.fault(f"{self.command} {path}", ("status", "headers", "endless", "hang up", "junk"))
        if fault is not None:
            self.misbehave(fault)
        elif self.server.kind == "cdn":
            if query.get("signature") != [state.settings["signature"]]:
                self.answer(403, b"expired")
            else:
                self.serve_file(self.local(path.removeprefix("/cdn/")), linked=False)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self.model_info(match[1], unquote(match[2] or "main"))
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self.tree(match[1], unquote(match[2]), int(query.get("cursor", ["0"])[0]))
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo/files", path):
            self.modelscope_files(match[1])
        elif match := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo", path):
            self.modelscope_file(match[1], query["FilePath"][0])
        elif path.startswith("/plain/"):
            self.serve_file(self.local(unquote(path.removeprefix("/plain/"))), linked=False)
        else:
            self.answer(404, b"no such route")

    def local(self, path: str) -> Path:
        return self.server.state.root / path

    def commit(self, repository: str) -> str:
        """A digest of all files stands for git's."""
        files = sorted(path for path in self.local(repository).iterdir() if path.is_file())
        return hashlib.sha1(repr([(path.name, identity(path)) for path in files]).encode()).hexdigest()

    def refused(self, repository: str, *, content: bool) -> bool:
        """Answer as the hub does for a repository that is not there or not for everybody."""
        settings, token = self.server.state.settings, self.headers.get("Authorization")
        if token is not None and token != f"Bearer {TOKEN}":
            self.error(401, None, "Invalid credentials in Authorization header")
        elif repository in settings["moved"]:
            to = self.path.replace(repository, settings["moved"][repository], 1)
            self.answer(307, b"", {"Location": to})
        elif not self.local(repository).is_dir() or (repository in settings["private"] and token is None):
            self.error(401 if token is None else 404, "RepoNotFound", "Repository not found")
        elif repository in settings["disabled"]:
            self.error(403, None, "Access to this resource is disabled.")
        elif content and repository in settings["gated"] and token is None:
            self.error(401, "GatedRepo", f"Access to model {repository} is restricted.")
        else:
            return False
        return True

    def model_info(self, repository: str, revision: str) -> None:
        if self.refused(repository, content=False):
            return
        commit = self.commit(repository)
        if revision not in ("main", "v1.0", commit):
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        names = sorted(path.name for path in self.local(repository).iterdir())
        gated = repository in self.server.state.settings["gated"]
        info = {
            "_id": "0" * 24,
            "id": repository,
            "modelId": repository,
            "sha": commit,
            "private": repository in self.server.state.settings["private"],
            "gated": "auto" if gated else False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in names],
        }
        self.answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def tree(self, repository: str, revision: str, cursor: int) -> None:
        if self.refused(repository, content=False):
            return
        entries: list[dict[str, Any]] = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": "onnx"}]
        for path in sorted(self.local(repository).iterdir()):
            size, digest = identity(path)
            entry: dict[str, Any] = {"type": "file", "oid": digest[:40], "size": size, "path": path.name}
            if path.suffix in _LARGE:
                entry["lfs"] = {"oid": digest, "size": size, "pointerSize": 135}
            entries.append(entry)
        headers = {"Content-Type": "application/json"}
        if cursor + _PAGE < len(entries):
            own = f"http://{self.headers['Host']}{urlsplit(self.path).path}?cursor={cursor + _PAGE}"
            headers["Link"] = f'<{own}>; rel="next"'
        self.answer(200, json.dumps(entries[cursor : cursor + _PAGE]).encode(), headers)

    def resolve(self, repository: str, revision: str, name: str) -> None:
        if self.refused(repository, content=True):
            return
        path, commit = self.local(repository) / name, self.commit(repository)
        if not path.is_file():
            self.error(404, "EntryNotFound", "Entry not found")
            return
        size, digest = identity(path)
        fault = self.server.state.fault(f"{self.command} {self.path}", ("other content",))
        digest = "f" * len(digest) if fault else digest
        headers = {"X-Repo-Commit": commit, "X-Linked-Size": str(size), "X-Linked-Etag": f'"{digest}"'}
        if path.suffix not in _LARGE:
            self.serve_file(path, linked=True, extra={"X-Repo-Commit": commit})
            return
        signature = self.server.state.settings["signature"]
        where = f"http://127.0.0.1:{self.server.state.cdn}/cdn/{quote(repository)}/{quote(name)}?signature={signature}"
        self.answer(302, b"", {**headers, "ETag": f'"{digest}"', "Location": where, "Accept-Ranges": "bytes"})

    def modelscope_files(self, repository: str) -> None:
        if not self.local(repository).is_dir():
            self.answer(404, b'{"Code": 10010205001, "Message": "not found"}')
            return
        files = []
        for path in sorted(self.local(repository).iterdir()):
            size, _ = identity(path)
            status = path.stat()
            sha = digest_of(path, status.st_size, status.st_mtime_ns, "sha256")
            files.append({"Name": path.name, "Path": path.name, "Type": "blob", "Size": size, "Sha256": sha})
        files.append({"Name": "assets", "Path": "assets", "Type": "tree", "Size": 0, "Sha256": ""})
        self.answer(200, json.dumps({"Code": 200, "Success": True, "Data": {"Files": files}}).encode())

    def modelscope_file(self, repository: str, name: str) -> None:
        path = self.local(repository) / name
        if path.suffix in _LARGE:
            signature = self.server.state.settings["signature"]
            where = (
                f"http://127.0.0.1:{self.server.state.cdn}/cdn/{quote(repository)}/{quote(name)}?signature={signature}"
            )
            self.answer(302, b"", {"Location": where})
        else:
            self.serve_file(path, linked=False)

    def serve_file(self, path: Path, *, linked: bool, extra: dict[str, str] | None = None) -> None:
        """A file or a range of it, perhaps with a fault.

        ``cut``: the connection ends after half of the body · ``drip``: a byte every 50 ms · ``short``: half of the range, under the
        Content-Range of the whole · ``long``: a Content-Length larger than the range · ``etag``: another ETag · ``whole``: 200 and
        everything · ``total``: the file is said to be larger · ``shift``: another range than was asked for · ``no etag``
        """
        if not path.is_file():
            self.answer(404, b"")
            return
        size, digest = identity(path)
        kinds = ("cut", "drip", "short", "long", "etag", "whole", "total", "shift", "no etag")
        fault = self.server.state.fault(f"{self.command} {self.path}", kinds) or {"kind": ""}
        kind = fault["kind"]
        headers = {"ETag": f'"{digest}"', "Accept-Ranges": "bytes", **(extra or {})}
        if kind == "etag":
            headers["ETag"] = '"another"'
        if kind == "no etag":
            del headers["ETag"]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match is None or kind == "whole":
            self.send_span(200, path, 0, size, headers, kind)
            return
        start, stop = int(match[1]), min(int(match[2]) + 1, size)
        if start >= size:
            self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        if kind == "shift":
            start, stop = start + 1, min(stop + 1, size)
        said = size + 1 if kind == "total" else size
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{said}"
        if kind == "short":
            stop = start + max(1, (stop - start) // 2)
        self.send_span(206, path, start, stop, headers, kind)

    def send_span(self, status: int, path: Path, start: int, stop: int, headers: dict[str, str], kind: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(stop - start + (1000 if kind == "long" else 0)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "cut":
            stop = start + (stop - start) // 2
        with path.open("rb") as file:
            while start < stop:
                block = os.pread(file.fileno(), min(1 if kind == "drip" else _BLOCK, stop - start), start)
                self.pace(len(block), kind)
                self.wfile.write(block)
                self.sent += len(block)
                start += len(block)
        if kind in ("cut", "long"):
            self.close_connection = True

    def pace(self, count: int, kind: str) -> None:
        speed = self.server.state.settings["bytes_a_second"]
        if kind == "drip":
            self.wfile.flush()
            time.sleep(0.05)
        elif speed:
            time.sleep(count / speed)

    def misbehave(self, fault: dict[str, Any]) -> None:
        """Faults that need no file: a status, headers without end, a closed door, bytes that are no HTTP."""
        if fault["kind"] == "status":
            self.answer(fault["status"], b"no", fault.get("headers", {}))
        elif fault["kind"] == "headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(10_000_000):  # ten gigabytes, if anybody reads them
                self.wfile.write(b"X-%d: %s\r\n" % (number, b"x" * 1000))
                self.sent += 1000
        elif fault["kind"] == "endless":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[")
            while self.sent < 10_000_000_000:
                self.wfile.write(b"1," * 50_000)
                self.sent += 100_000
        elif fault["kind"] == "junk":
            self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")
        self.close_connection = True

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.sent += len(body)

    def error(self, status: int, code: str | None, message: str) -> None:
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.answer(status, b"", headers)


class Server(ThreadingHTTPServer):
    """One port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, kind: str, state: State) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.kind = kind
        self.state = state


def main() -> None:
    """Serve both ports until the process is ended."""
    state = State(Path(sys.argv[1]))
    hub, cdn = Server("hub", state), Server("cdn", state)
    state.cdn = cdn.server_address[1]
    threading.Thread(target=cdn.serve_forever, daemon=True).start()
    print(json.dumps({"hub": hub.server_address[1], "cdn": state.cdn}), flush=True)  # noqa: T201
    hub.serve_forever()


if __name__ == "__main__":
    main()
