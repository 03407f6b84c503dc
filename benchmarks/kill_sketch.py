"""Does a full sketch survive ``kill -9``? One is killed at random moments, finished by the next run, and compared byte by byte.

    python benchmarks/make_checkpoints.py FOLDER
    python benchmarks/kill_sketch.py FOLDER/base

Each of the moments lies anywhere between the start of the process and its end; a run that had ended by then counts for none. Every third
time the next run is killed too. When one has finished, its sketch must be the only file that is there.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def start(model: Path, out: Path) -> subprocess.Popen[bytes]:
    """A full sketch, being made."""
    command = [sys.executable, "-m", "homolog", "sketch", str(model), "-o", str(out), "--full", "--quiet"]
    return subprocess.Popen(command)


def kill(model: Path, out: Path, moment: float) -> bool:
    """Start one and kill it after so many seconds; whether it was not done by then."""
    process = start(model, out)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait() != 0
    return False


def main() -> None:
    """Kill, finish, compare, and print one line for each moment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.hsk"
        began = time.monotonic()
        if start(options.model, plain).wait():
            sys.exit("the first run failed")
        whole = time.monotonic() - began
        expected = plain.read_bytes()
        killed = resumed = same = 0
        while killed < options.kills:
            out = Path(folder) / "killed.hsk"
            moment = draw.uniform(0.0, whole)
            if not kill(options.model, out, moment):
                out.unlink()
                continue
            killed += 1
            said = f"killed after {moment:.1f} s"
            if killed % 3 == 0 and kill(options.model, out, again := draw.uniform(0.0, whole)):
                said += f", again after {again:.1f} s"
            partial = out.with_name(f"{out.name}.partial").exists()
            resumed += partial
            began = time.monotonic()
            code = 0 if out.exists() else start(options.model, out).wait()
            took = time.monotonic() - began
            rest = sorted(path.name for path in out.parent.iterdir() if path not in (out, plain))
            good = code == 0 and not rest and out.read_bytes() == expected
            same += good
            how = "went on from its digests" if partial else "began anew"
            print(f"{said}; {how}: {took:.1f} s, {'the same bytes' if good else f'WRONG ({code}, {rest})'}", flush=True)
            out.unlink(missing_ok=True)
            for name in rest:
                (out.parent / name).unlink()
    print(
        f"{same} of {killed} gave the same {len(expected)} bytes as a run of {whole:.1f} s that nobody disturbed; "
        f"{resumed} went on from digests"
    )
    sys.exit(same != killed)


if __name__ == "__main__":
    main()
