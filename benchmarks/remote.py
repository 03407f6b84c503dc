"""What a comparison of very large models costs over HTTP: bytes, requests and share, counted by the server.

    python benchmarks/make_sparse.py FOLDER qwen2.5-14b
    python benchmarks/remote.py FOLDER

Starts the hub of the tests over FOLDER in a process of its own and runs ``homolog compare`` against it with an empty cache, then once more
with what the first run left there. The budgets are of both models together.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

_SERVER = Path(__file__).parents[1] / "tests" / "remote" / "server.py"
_BUDGETS = {
    ("qwen2.5-14b", "related"): (0.003, 400),
    ("qwen2.5-14b", "independent"): (0.01, 1000),
    ("deepseek-v3", "related"): (0.0005, None),
    ("deepseek-v3", "independent"): (0.0005, None),
}
"""Share of the bytes of both models, and requests."""


def ask(url: str, method: str = "GET") -> bytes:
    """One request past any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, method=method), timeout=60) as reply:
        answer: bytes = reply.read()
    return answer


def measure(hub: str, name: str, other: str, cache: str, *more: str) -> None:
    """Print one line."""
    ask(f"{hub}/_log", "DELETE")
    environment = {**os.environ, "HF_ENDPOINT": hub, "HOMOLOG_CACHE": cache, "HF_HOME": cache, "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "homolog", "compare", f"{name}/base", f"{name}/{other}", "--json", *more]
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    log = json.loads(ask(f"{hub}/_log"))
    sent = sum(entry["sent"] for entry in log)
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr)
    result = json.loads(done.stdout)
    of = sum(result[side]["read"]["of"] for side in ("a", "b"))
    share, requests = _BUDGETS[name, other]
    kept = sent <= share * of and (requests is None or len(log) <= requests)
    print(
        f"{name:12} {other:12} {result['verdict']:12} {sent / 1e6:8.1f} MB {sent / of:8.4%} of {of / 1e9:7.1f} GB"
        f" {len(log):5} requests {seconds:7.1f} s {result['run']['peak_bytes'] / 1e6:6.0f} MB peak"
        f"  log10 p {result['log10_p']}  {'within' if kept else 'OVER'} budget",
        flush=True,
    )


def main() -> None:
    """Measure every pair that is there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where make_sparse.py wrote")
    parser.add_argument("--model", choices=sorted({name for name, _ in _BUDGETS}), help="only this one")
    options = parser.parse_args()
    with subprocess.Popen(
        [sys.executable, str(_SERVER), str(options.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        hub = f"http://127.0.0.1:{json.loads(process.stdout.readline())['hub']}"
        try:
            for name, other in _BUDGETS:
                if options.model in (None, name) and (options.folder / name / other).is_dir():
                    with tempfile.TemporaryDirectory() as cache:
                        measure(hub, name, other, cache)
                        measure(hub, name, other, cache)
        finally:
            process.kill()


if __name__ == "__main__":
    main()
