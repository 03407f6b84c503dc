"""Kill ``homolog sketch --full`` at random moments, until it ends: are the bytes those of a run that nobody stopped?

python benchmarks/kill_sketch.py FOLDER/base --kills 20
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random


def start(model: Path, out: Path) -> subprocess.Popen[bytes]:
    """One run in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "homolog", "sketch", str(model), "-o", str(out), "--full", "--quiet"]
    )


def main() -> None:
    """Kill, go on, and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, killed = Path(folder) / "plain.hsk", Path(folder) / "killed.hsk"
        began = time.perf_counter()
        if start(options.model, plain).wait():
            sys.exit("the run that nobody stopped failed")
        whole = time.perf_counter() - began
        random, kills = Random(0), 0
        while kills < options.kills:
            process = start(options.model, killed)
            try:
                process.wait(random.uniform(0, whole))
                killed.unlink()  # it got through: start another one
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        if start(options.model, killed).wait():
            sys.exit("the run after the last kill failed")
        same = killed.read_bytes() == plain.read_bytes()
        left = sorted(path.name for path in Path(folder).iterdir() if path not in (plain, killed))
        print(
            f"{kills} kills within {whole:.1f} s each: {'the same bytes' if same else 'OTHER BYTES'}, left behind: {left or 'nothing'}"
        )
        sys.exit(0 if same and not left else 1)


if __name__ == "__main__":
    main()
