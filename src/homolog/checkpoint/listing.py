"""What lies behind an address: its files with their sizes and identities, and how to fetch a range of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["Fetch", "Listing", "RemoteFile", "StoredListing"]

Fetch = Callable[[int, int], bytes]
"""Bytes ``start:stop`` of one file."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file, as it was listed."""

    path: Path
    size: int
    identity: str | None
    """Tells this content from any other the file had or will have (a digest, an etag); ``None`` where the server gives nothing to go by,
    and what is fetched is of use to this run only."""
    fetch: Fetch
    ready: Callable[[], bool] = lambda: True
    """Whether the next range takes one request, or one more to learn where the file is."""

    @property
    def name(self) -> str:
        """Without its folder."""
        return self.path.name


class Listing(Protocol):
    """The files of one address."""

    @property
    def home(self) -> Path:
        """What the files are named after."""

    @property
    def version(self) -> str:
        """Tells this state of the whole from any other."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it, in plain words."""

    @property
    def files(self) -> Mapping[str, RemoteFile]:
        """By name, as far as they are known: the model's own folder, no folders below it."""

    def find(self, name: str) -> RemoteFile | None:
        """One file, which a server without a table of contents must be asked for; ``None`` if there is none."""

    def find_all(self, names: Iterable[str]) -> None:
        """Ask for several files at once, where they must be asked for."""


@dataclass(frozen=True, slots=True)
class StoredListing:
    """A listing that is complete from the start."""

    home: Path
    version: str
    files: Mapping[str, RemoteFile]
    notes: tuple[str, ...] = ()

    def find(self, name: str) -> RemoteFile | None:
        """See `Listing.find`."""
        return self.files.get(name)

    def find_all(self, names: Iterable[str]) -> None:
        """Nothing: all files are known."""
