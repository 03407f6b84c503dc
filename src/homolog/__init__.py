"""homolog reads the weights of language models and says whether one descends from another.

>>> import homolog
>>> homolog.compare  # doctest: +ELLIPSIS
<function compare at ...>
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from homolog.version import __version__

if TYPE_CHECKING:
    from homolog.checkpoint.open import open_checkpoint
    from homolog.compare import compare
    from homolog.comparison import Comparison

__all__ = ["Comparison", "__version__", "compare", "open_checkpoint"]

_HOMES = {
    "Comparison": "homolog.comparison",
    "compare": "homolog.compare",
    "open_checkpoint": "homolog.checkpoint.open",
}


def __getattr__(name: str) -> Any:
    # numpy alone takes longer to import than `homolog --help` may: names are fetched when they are asked for.
    if name not in _HOMES:
        raise AttributeError(f"module 'homolog' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
