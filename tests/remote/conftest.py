"""A hub in a process of its own, with the models of the zoo on it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_ZOO = Path(__file__).parents[1] / "zoo"


@dataclass
class Hub:
    """The server, as a test sees it."""

    root: Path
    url: str
    cdn: str

    def control(self, **settings: Any) -> None:
        """Change how it behaves."""
        self._ask("POST", "/_control", json.dumps(settings).encode())

    def fail(self, *faults: Mapping[str, Any]) -> None:
        """Meet requests with these faults from now on."""
        self.control(faults=[dict(fault) for fault in faults])

    def log(self) -> list[dict[str, Any]]:
        """All requests since `forget`."""
        entries: list[dict[str, Any]] = json.loads(self._ask("GET", "/_log"))
        return entries

    def forget(self) -> None:
        """Empty the log."""
        self._ask("DELETE", "/_log")

    def reset(self) -> None:
        """Behave."""
        self.control(faults=[], gated=[], private=[], disabled=[], moved={}, bytes_a_second=0, signature="1")
        self.forget()

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as reply:
            answer: bytes = reply.read()
        return answer


def start_hub(root: Path) -> tuple[subprocess.Popen[str], Hub]:
    """Start the server over the folders of ``root``."""
    program = Path(__file__).with_name("server.py")
    process = subprocess.Popen([sys.executable, str(program), str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ports = json.loads(process.stdout.readline())
    return process, Hub(root, f"http://127.0.0.1:{ports['hub']}", f"http://127.0.0.1:{ports['cdn']}")


def stop_hub(process: subprocess.Popen[str]) -> None:
    """End the server."""
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("hub")
    for name in ("a", "a-zh-1x", "b"):
        shutil.copytree(_ZOO / name, root / "zoo" / name)
    process, hub = start_hub(root)
    yield hub
    stop_hub(process)


@pytest.fixture
def hub(_running: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub, well behaved; homolog and the hub client go to it, with a cache of their own and no login."""
    _running.reset()
    for name, value in environment(_running, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "ENDPOINT", _running.url)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr("homolog.checkpoint.web._FIRST_PAUSE", 0.01)
    close_session()
    return _running


def environment(hub: Hub, cache: Path) -> dict[str, str]:
    """What a process needs to be told to use the hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "MODELSCOPE_ENDPOINT": hub.url,
        "HF_HOME": str(cache / "hf"),
        "HOMOLOG_CACHE": str(cache / "cache"),
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def run_homolog(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """homolog in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "homolog", *arguments],
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
