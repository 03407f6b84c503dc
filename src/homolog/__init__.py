"""homolog reads the weights of language models and says whether one descends from another.

`compare` two checkpoints, `inspect` one that `open_checkpoint` opened, `make_sketch` of one to compare in its place.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from homolog.version import __version__

if TYPE_CHECKING:
    from homolog.checkpoint.open import open_checkpoint
    from homolog.comparison import Comparison
    from homolog.examination.alone import inspect
    from homolog.pipeline import compare
    from homolog.roles.inspect import Inspection
    from homolog.sketch.make import make_sketch

__all__ = ["Comparison", "Inspection", "__version__", "compare", "inspect", "make_sketch", "open_checkpoint"]

_HOMES = {
    "Comparison": "homolog.comparison",
    "Inspection": "homolog.roles.inspect",
    "compare": "homolog.pipeline",
    "inspect": "homolog.examination.alone",
    "make_sketch": "homolog.sketch.make",
    "open_checkpoint": "homolog.checkpoint.open",
}


def __getattr__(name: str) -> Any:
    # numpy alone takes longer to import than `homolog --help` may: names are fetched when they are asked for.
    if name not in _HOMES:
        raise AttributeError(f"module 'homolog' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
