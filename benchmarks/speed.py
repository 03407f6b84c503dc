"""Time ``homolog compare`` on large checkpoints, each run in a fresh process, beside ``cat`` of the same files.

    python benchmarks/make_checkpoints.py FOLDER
    python benchmarks/speed.py FOLDER

Absolute times drift with the machine; the ratio to ``cat`` in the same run is what to compare. Peers are timed too,
where their command is on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_BUDGETS = {"related": (1.5, 250e6, 0.01), "independent": (5.0, 250e6, 0.03)}
"""Seconds, bytes of memory, share of the bytes read."""
_PEERS = {
    "modelDNA": ("modeldna", "compare", "{b}", "{a}"),
    "Model Provenance Kit": ("provenancekit", "compare", "{a}", "{b}", "--no-cache", "--plain"),
}


@dataclass(frozen=True)
class Sample:
    """One run of one command."""

    seconds: float
    cpu_seconds: float
    """User and system time of all threads: what other work on the machine disturbs least."""
    peak_bytes: int
    exit_code: int
    output: str


def run(command: Sequence[str]) -> Sample:
    """Run a command to its end; the peak is that of the process itself and its children, as GNU time reports it."""
    with tempfile.TemporaryFile("w+b") as out, open(os.devnull, "w+b") as null:  # noqa: PTH123
        began = time.perf_counter()
        # a shell-free spawn and wait4: subprocess does not hand over the resource usage of one child
        pid = os.posix_spawnp(
            command[0],
            list(command),
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
            ],
        )
        _, status, usage = os.wait4(pid, 0)
        seconds = time.perf_counter() - began
        out.seek(0)
        output = out.read().decode(errors="replace")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Sample(seconds, cpu_seconds, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status), output)


def evict(folders: Sequence[Path]) -> None:
    """Drop the files from the page cache, as far as the system lets a user do that."""
    for folder in folders:
        for path in folder.iterdir():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cat(folders: Sequence[Path]) -> float:
    """Seconds to read the weight files once from end to end."""
    files = [str(path) for folder in folders for path in sorted(folder.glob("*.safetensors"))]
    began = time.perf_counter()
    subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def measure(folder: Path, other: str, runs: int, cold: bool) -> None:
    """Print one line for homolog and one for every peer at hand, on ``base`` against ``other``."""
    pair = (folder / "base", folder / other)
    names = {"a": str(pair[0]), "b": str(pair[1])}
    commands = {"homolog": [sys.executable, "-m", "homolog", "compare", *names.values(), "--json", "--quiet"]}
    for peer, words in _PEERS.items():
        if shutil.which(words[0]):
            commands[peer] = [word.format_map(names) for word in words]
    readings = []
    for _ in range(runs):
        if cold:
            evict(pair)
        readings.append(cat(pair))
    cat_seconds = statistics.median(readings)
    for tool, command in commands.items():
        samples = []
        for _ in range(runs if tool == "homolog" else 1):
            if cold:
                evict(pair)
            samples.append(run(command))
        seconds = statistics.median(sample.seconds for sample in samples)
        cpu = statistics.median(sample.cpu_seconds for sample in samples)
        peak = max(sample.peak_bytes for sample in samples)
        line = f"{other:12} {'cold' if cold else 'warm':5} {tool:21}{seconds:8.2f} s {cpu:7.2f} s"
        line += f" {cat_seconds / seconds:7.1f} x {peak / 1e6:8.0f} MB"
        if tool == "homolog" and samples[0].exit_code in {0, 1, 3}:
            result = json.loads(samples[0].output)
            share = max(result[side]["read"]["bytes"] / result[side]["read"]["of"] for side in ("a", "b"))
            limits = _BUDGETS[other]
            kept = all(have <= limit for have, limit in zip((seconds, peak, share), limits, strict=True))
            line += f" {share:8.2%}  {result['verdict']}, {'within' if kept else 'OVER'} budget"
        else:
            line += f"{'':10} exit code {samples[0].exit_code}"
        print(line, flush=True)


def main() -> None:
    """Measure both pairs, with warm and with cold page cache."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where make_checkpoints.py wrote")
    parser.add_argument("--warm", action="store_true", help="leave out the runs with a cold page cache")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts, of memory the worst")
    options = parser.parse_args()
    print(f"{'pair':12} {'cache':5} {'tool':21}{'wall':>10} {'cpu':>9} {'vs cat':>9} {'peak':>11} {'read':>8}")
    for other in _BUDGETS:
        for cold in (False,) if options.warm else (False, True):
            measure(options.folder, other, options.runs, cold)


if __name__ == "__main__":
    main()
