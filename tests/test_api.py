"""The names that the package promises."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import homolog

ZOO = Path(__file__).parent / "zoo"


def test_all_is_sorted_and_holds() -> None:
    assert homolog.__all__ == sorted(homolog.__all__)
    for name in homolog.__all__:
        assert getattr(homolog, name) is not None


def test_functions_stay_functions_whatever_was_imported_before() -> None:
    importlib.import_module("homolog.pipeline")
    assert callable(homolog.compare)
    assert callable(homolog.compare)
    assert callable(homolog.inspect)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'accuse'"):
        homolog.accuse  # noqa: B018


def test_a_first_session() -> None:
    with homolog.open_checkpoint(ZOO / "a") as checkpoint:
        assert homolog.inspect(checkpoint).anatomy.architecture == "llama"
    assert homolog.compare(ZOO / "a", ZOO / "b").verdict.verdict == "independent"
