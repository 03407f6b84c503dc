"""Fuzz one target with atheris: ``python -m tests.fuzz.run unpickler -atheris_runs=1000000 /tmp/corpus``; see README.md."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["homolog.checkpoint", "homolog.sketch"]):
    from tests.fuzz.targets import TARGETS

import gguf.quants  # noqa: F401 - the first block of an input must not pay for the import
from tests.fuzz.mutators import MUTATORS
from tests.fuzz.seeds import make_seeds


def main() -> None:
    target, *options = sys.argv[1:]
    corpus = next((Path(option) for option in options if not option.startswith("-")), None)
    if corpus is not None:
        corpus.mkdir(parents=True, exist_ok=True)
        for place, seed in enumerate(make_seeds()[target]):
            (corpus / f"seed-{place:02}").write_bytes(seed)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.1:
            return bytes(atheris.Mutate(data, longest))
        return MUTATORS[target](bytes(data), random)[:longest]

    atheris.Setup([sys.argv[0], *options], TARGETS[target], custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
