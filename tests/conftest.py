"""What all tests share: published weights, fetched once a machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

from homolog.demo.catalogue import read_catalogue
from homolog.demo.fetch import default_cache, fetch

# as the command line has it; read when numpy is loaded, which is after this file
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# where a run decides whether a change may land, it tries the same examples every time
settings.register_profile("homolog", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
settings.load_profile("homolog")


@pytest.fixture(scope="session")
def real() -> Callable[[str], Path]:
    """``real("sceptr")`` is the folder of that published package, fetched on first use."""
    catalogue = read_catalogue()
    cache = default_cache()

    def folder(name: str) -> Path:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f"{name}.lock"):
            return fetch(catalogue.packages[name], cache)

    return folder
