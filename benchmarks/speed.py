"""Time ``homolog compare`` and ``homolog sketch --full`` on large checkpoints, each run in a fresh process.

    python benchmarks/make_checkpoints.py FOLDER
    python benchmarks/speed.py FOLDER

Beside them stand, in the same run, ``cat`` of the same files, ``cat … | sha256sum``, and the peers whose command is on the PATH.
Absolute times drift with the machine and with what else it does: compare ratios, and CPU seconds, which other work disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
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
    """User and system time of all threads and children."""
    peak_bytes: int
    exit_code: int
    output: str


def run(command: Sequence[str]) -> Sample:
    """Run a command to its end; the peak is that of the process itself and its children, as GNU time reports it."""
    with tempfile.TemporaryFile("w+b") as out, open(os.devnull, "w+b") as null:  # noqa: PTH123
        began = time.perf_counter()
        # a shell-free spawn and wait4: subprocess does not hand over the resource usage of one child
        # what is installed has its bytecode
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
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


def files_of(folder: Path) -> list[str]:
    """The weight files of a checkpoint."""
    return [str(path) for path in sorted(folder.glob("*.safetensors"))]


def median(samples: Sequence[Sample]) -> Sample:
    """Seconds and CPU seconds in the middle, memory at its worst."""
    return Sample(
        statistics.median(sample.seconds for sample in samples),
        statistics.median(sample.cpu_seconds for sample in samples),
        max(sample.peak_bytes for sample in samples),
        max(sample.exit_code for sample in samples),
        samples[0].output,
    )


def show(what: str, cache: str, tool: str, found: Sample, base: Sample, rest: str) -> None:
    """Print one line; the ratios are to ``base``, in seconds and in CPU seconds."""
    print(
        f"{what:12} {cache:5} {tool:21}{found.seconds:8.2f} s {found.cpu_seconds:7.2f} s"
        f" {base.seconds / found.seconds:7.1f} x {base.cpu_seconds / found.cpu_seconds:6.1f} x {found.peak_bytes / 1e6:6.0f} MB {rest}",
        flush=True,
    )


def measure(folder: Path, other: str, runs: int, cold: bool) -> None:
    """Print one line for homolog and one for every peer at hand, on ``base`` against ``other``."""
    pair = (folder / "base", folder / other)
    names = {"a": str(pair[0]), "b": str(pair[1])}
    commands = {
        "cat": ["sh", "-c", 'exec cat "$@" >/dev/null', "sh", *files_of(pair[0]), *files_of(pair[1])],
        "homolog": [sys.executable, "-m", "homolog", "compare", *names.values(), "--json", "--quiet"],
    }
    samples: dict[str, list[Sample]] = {tool: [] for tool in commands}
    for number in range(runs + (not cold)):
        for tool, command in commands.items():
            if cold:
                evict(pair)
            sample = run(command)
            if number or cold:  # the first warm run warms the cache
                samples[tool].append(sample)
    base, found = median(samples["cat"]), median(samples["homolog"])
    cache = "cold" if cold else "warm"
    show(other, cache, "cat", base, base, "")
    rest = f"exit code {found.exit_code}"
    if found.exit_code in {0, 1, 3}:
        result = json.loads(found.output)
        share = max(result[side]["read"]["bytes"] / result[side]["read"]["of"] for side in ("a", "b"))
        limits = _BUDGETS[other]
        kept = all(have <= limit for have, limit in zip((found.seconds, found.peak_bytes, share), limits, strict=True))
        rest = f"{share:.2%} read, {result['verdict']}, {'within' if kept else 'OVER'} budget"
    show(other, cache, "homolog", found, base, rest)
    for peer, words in _PEERS.items():
        if not cold and shutil.which(words[0]):
            slow = run([word.format_map(names) for word in words])
            times = f"{slow.seconds / found.seconds:.1f} times as long as homolog, {slow.cpu_seconds / found.cpu_seconds:.1f} in CPU"
            show(other, cache, peer, slow, base, times if not slow.exit_code else f"exit code {slow.exit_code}")


def measure_sketches(folder: Path, runs: int) -> None:
    """Print a line for ``cat … | sha256sum`` of ``base`` and one for a sketch with a digest of every tensor, made twice and more."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "base.hsk"
        hashing = ["sh", "-c", 'cat "$@" | sha256sum', "sh", *files_of(folder / "base")]
        sketching = [sys.executable, "-m", "homolog", "sketch", str(folder / "base"), "-o", str(out), "--full"]
        samples: dict[str, list[Sample]] = {"cat | sha256sum": [], "homolog sketch --full": []}
        bodies = set()
        for _ in range(runs):
            samples["cat | sha256sum"].append(run(hashing))
            samples["homolog sketch --full"].append(run([*sketching, "--force", "--quiet"]))
            bodies.add(out.read_bytes())
        size = out.stat().st_size
    base, found = (median(list_of) for list_of in samples.values())
    show("full sketch", "warm", "cat | sha256sum", base, base, "")
    kept = base.seconds >= 0.5 * found.seconds and found.peak_bytes <= 1e9 and len(bodies) == 1 and not found.exit_code
    rest = f"{size / 1e6:.2f} MB, {len(bodies)} different in {runs} runs, {'within' if kept else 'OVER'} budget"
    show("full sketch", "warm", "homolog sketch --full", found, base, rest)


def measure_help(runs: int) -> None:
    """Print how long ``homolog --help`` takes."""
    found = median([run([sys.executable, "-m", "homolog", "--help"]) for _ in range(runs)])
    show("help", "warm", "homolog --help", found, found, f"{'within' if found.seconds <= 0.3 else 'OVER'} budget")


def main() -> None:
    """Measure both pairs, with warm and with cold page cache, a full sketch and the help."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="where make_checkpoints.py wrote")
    parser.add_argument("--warm", action="store_true", help="leave out the runs with a cold page cache")
    parser.add_argument("--runs", type=int, default=5, help="runs of each; the median counts, of memory the worst")
    parser.add_argument("--only", choices=[*_BUDGETS, "sketch", "help"], help="one of the four alone")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {os.getloadavg()[0]:.1f} processes that wanted one in the last minute")
    print(f"{'what':12} {'cache':5} {'tool':21}{'wall':>10} {'CPU':>9} {'vs first':>9} {'in CPU':>8} {'peak':>9}")
    for other in _BUDGETS:
        for cold in (False,) if options.warm else (False, True):
            if options.only in (None, other):
                measure(options.folder, other, options.runs, cold)
    if options.only in (None, "sketch"):
        measure_sketches(options.folder, options.runs)
    if options.only in (None, "help"):
        measure_help(options.runs)


if __name__ == "__main__":
    main()
