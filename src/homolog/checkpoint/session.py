"""What all remote models of one run share: the budget, the cache, and the connection with its pace."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from homolog.checkpoint.budget import Budget
from homolog.errors import UsageError

if TYPE_CHECKING:
    from homolog.checkpoint.cache import BlockCache
    from homolog.checkpoint.web import Web

__all__ = ["Session"]

_PATIENCE = 20.0


class Session:
    """Made at the start of a run; it costs nothing until something remote is opened.

    ``budget`` is how many bytes may be fetched, ``offline`` forbids fetching. The environment may say more: ``HOMOLOG_TIMEOUT`` (seconds
    without progress after which a connection is given up), ``HOMOLOG_CACHE`` and ``HOMOLOG_CACHE_LIMIT``, ``HF_HUB_OFFLINE``.
    """

    def __init__(self, *, budget: int | None = None, offline: bool = False) -> None:
        self.budget = Budget(budget)
        self.offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")

    @cached_property
    def web(self) -> Web:
        """Asks servers over HTTP."""
        from homolog.checkpoint.web import Web  # noqa: PLC0415

        text = os.environ.get("HOMOLOG_TIMEOUT", "")
        try:
            patience = float(text) if text else _PATIENCE
        except ValueError:
            patience = 0.0
        if not 0.0 < patience <= 3600.0:
            raise UsageError(f"HOMOLOG_TIMEOUT is {text!r}; it must be a number of seconds above 0 and up to 3600")
        return Web(self.budget, patience=patience)

    @cached_property
    def cache(self) -> BlockCache:
        """What was fetched before."""
        from homolog.checkpoint.budget import parse_bytes  # noqa: PLC0415
        from homolog.checkpoint.cache import BlockCache, default_folder  # noqa: PLC0415

        limit = os.environ.get("HOMOLOG_CACHE_LIMIT")
        return BlockCache(default_folder(), parse_bytes(limit)) if limit else BlockCache(default_folder())
