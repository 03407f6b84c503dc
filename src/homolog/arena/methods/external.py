"""Installed programs, called as they are: modelDNA and Cisco's Model Provenance Kit. Where they are not installed the column says so.

They are run in a home folder of their own that is thrown away, with the hub switched off, and stopped after five minutes. The kit imports
torch and transformers for some four seconds before it begins, so it is asked about one pair of every truth and operation, not about all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from homolog.arena.methods.base import Method, Model, NotApplicable, Opinion

__all__ = ["MODELDNA", "PROVENANCE_KIT", "find_program", "run_program"]

_PATIENCE = 300.0
_POSITIVE = frozenset({"EXACT_COPY", "QUANTIZED_COPY", "FINE_TUNE", "SAME_LINEAGE", "LIKELY_MERGE"})


def find_program(name: str) -> str | None:
    """Where a program lies: on the path, or beside the Python that runs this."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def run_program(command: Sequence[str], *, patience: float = _PATIENCE) -> tuple[dict[str, Any], float, int | None]:
    """The JSON object that a program prints, its seconds, and the most memory it held.

    Raises `NotApplicable` where it fails, prints something else, or takes longer than ``patience``.
    """
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as out:
        quiet = {"HOME": home, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100000"}
        with subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL, env={**os.environ, **quiet}
        ) as process:
            code, peak = _wait(process, began + patience)
        seconds = time.perf_counter() - began
        out.seek(0)
        printed = out.read().decode("utf-8", "replace")
    try:
        document = json.loads(printed[printed.index("{") :])
    except ValueError:
        raise NotApplicable(f"{Path(command[0]).name} ended with {code} and printed no JSON object") from None
    return document, seconds, peak


def _wait(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, int | None]:
    """Wait for one child; unlike `Popen.wait` this learns what memory that child held."""
    while time.perf_counter() < deadline:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        time.sleep(0.01)
    process.kill()
    raise NotApplicable("stopped after taking too long")


def _modeldna(a: Model, b: Model) -> Opinion:
    document, seconds, peak = run_program(
        [find_program("modeldna") or "modeldna", "compare", str(b.path), str(a.path), "--json"]
    )
    verdict = document.get("verdict") or {}
    if verdict.get("verdict") in (None, "INSUFFICIENT"):
        raise NotApplicable("modelDNA: insufficient")
    # a pair that it rules out before comparing has no probability: the answer is no
    return Opinion(float(verdict.get("probability") or 0.0), verdict["verdict"] in _POSITIVE, seconds, peak)


def _provenance_kit(a: Model, b: Model) -> Opinion:
    program = find_program("provenancekit") or "provenancekit"
    document, seconds, peak = run_program([program, "compare", str(a.path), str(b.path), "--no-cache", "--json"])
    value = (document.get("scores") or {}).get("pipeline_score")
    if value is None:
        raise NotApplicable("Model Provenance Kit: no pipeline score")
    return Opinion(float(value), float(value) > 0.65, seconds, peak)


def _not_installed(program: str) -> Callable[[], str | None]:
    return lambda: None if find_program(program) else "not installed"


MODELDNA = Method(
    name="modeldna",
    citation="modelDNA 0.1, arXiv 2607.10617",
    access="weights",
    statistic="its probability of descent",
    compute=_modeldna,
    own_threshold=0.9,
    threshold_source="its verdict: a copy, a fine-tune, one lineage or a merge",
    missing=_not_installed("modeldna"),
    needs_roles=False,
)
PROVENANCE_KIT = Method(
    name="provenancekit",
    citation="Cisco Model Provenance Kit 1.0",
    access="config, tokenizer and weights",
    statistic="its pipeline score",
    compute=_provenance_kit,
    own_threshold=0.65,
    threshold_source="its verdict: a weak match or better, above 0.65",
    missing=_not_installed("provenancekit"),
    needs_roles=False,
    most=1,
)
