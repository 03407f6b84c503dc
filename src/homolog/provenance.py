"""What made a result: the version, the command that makes it again, the options, and what the run cost."""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from homolog.version import __version__

__all__ = ["Provenance", "Run", "Stopwatch", "round_floats"]

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Provenance:
    """The version, the command and the options: the same for the same inputs, on any machine and at any time."""

    command: str
    """For a shell: what to type to get the same result."""
    options: Mapping[str, object]
    homolog: str = __version__

    @classmethod
    def of(
        cls, verb: str, inputs: Sequence[str], options: Mapping[str, object], defaults: Mapping[str, object]
    ) -> Provenance:
        """The provenance of one verb; the command spells out the options that differ from their defaults."""
        words = ["homolog", verb, *inputs]
        for name, value in options.items():
            if value != defaults.get(name):
                for item in value if isinstance(value, list) else [value]:
                    words += [f"--{name.replace('_', '-')}", *([] if item is True else [str(item)])]
        return cls(command=shlex.join(words), options=dict(options))

    def to_json(self) -> dict[str, object]:
        """The ``provenance`` of the JSON output."""
        return {"homolog": self.homolog, "command": self.command, "options": dict(self.options)}


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost: the only part of an output that differs from run to run."""

    seconds: float
    peak_bytes: int | None
    """Most memory that this process ever held; ``None`` where the system does not say."""
    fetched_bytes: int = 0
    """What came over the network; less than was read where the cache had it."""
    fetched_requests: int = 0

    def to_json(self) -> dict[str, object]:
        """The ``run`` of the JSON output."""
        fetched = {"bytes": self.fetched_bytes, "requests": self.fetched_requests}
        return {"seconds": round(self.seconds, 3), "peak_bytes": self.peak_bytes, "fetched": fetched}


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Started when it is made."""

    began: float = field(default_factory=time.perf_counter)

    def read(self) -> Run:
        """The cost so far."""
        return Run(seconds=time.perf_counter() - self.began, peak_bytes=_peak_bytes())


def round_floats(value: object) -> object:
    """``value`` with every float rounded to six significant digits: the last bits of a library's sums do not show.

    Raises ``ValueError`` for NaN and infinities: a number that is not there has no place in an output.
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} in an output")
        return float(f"{value:.{_DIGITS}g}") + 0.0  # the sum turns -0.0 into 0.0
    if isinstance(value, Mapping):
        return {key: round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [round_floats(item) for item in value]
    return value


def _peak_bytes() -> int | None:
    try:
        # unlike getrusage, this does not count the process that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    try:
        import resource  # noqa: PLC0415 - there is none on Windows
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
