"""``kill -9`` at random moments: the next run finishes, gives the same bytes, and fetches nothing twice that was kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.remote.conftest import Hub

_DRIVER = """
import json, os, random, signal, sys, time
from huggingface_hub import get_token
import homolog.pipeline, homolog.checkpoint.remote, homolog.checkpoint.web, homolog.checkpoint.hub
from homolog import compare

rng = random.Random(int(sys.argv[1]))
killed = 0
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        compare("zoo/a", "zoo/a-zh-1x")
        os._exit(0)
    time.sleep(rng.uniform(0.0, float(sys.argv[3])))
    os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
document = compare("zoo/a", "zoo/a-zh-1x").to_json()
del document["run"]
print(json.dumps({"killed": killed, "document": document}, sort_keys=True))
"""


def _run(hub: Hub, cache: Path, kills: int) -> dict[str, object]:
    environment = {**os.environ, "HOMOLOG_CACHE": str(cache)}
    command = [sys.executable, "-c", _DRIVER, "7", str(kills), "0.5"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_killed_twenty_times(hub: Hub, tmp_path: Path) -> None:
    undisturbed = _run(hub, tmp_path / "one", 0)
    hub.forget()
    hub.control(bytes_a_second=2_000_000)
    disturbed = _run(hub, tmp_path / "two", 20)
    assert disturbed["killed"] == 20
    assert disturbed["document"] == undisturbed["document"]
    kept = [path for path in (tmp_path / "two").rglob("*") if path.is_file()]
    assert not [path for path in kept if path.name.startswith(".")]
    sizes = {path.relative_to(tmp_path / "two"): path.stat().st_size for path in kept}
    assert sizes == {
        path.relative_to(tmp_path / "one"): path.stat().st_size
        for path in (tmp_path / "one").rglob("*")
        if path.is_file()
    }
