"""Everything that homolog raises on purpose.

HomologError
├── UsageError                  the call itself is off: an unknown option, an output that exists already
├── FetchError                  published weights could not be fetched, or are not what the catalogue says
└── CheckpointError             a file; carries path, at, found, expected
    ├── CheckpointNotFound      no such path, or nothing in it that could be a checkpoint
    ├── UnsupportedFormat       a file of a kind that homolog does not read
    ├── IncompleteCheckpoint    a shard, a config or the base of an adapter is missing
    ├── MalformedCheckpoint     the bytes contradict the format, or the config contradicts the shapes
    ├── UnsafeCheckpoint        reading on would run code, or leave the checkpoint's own folder
    └── RemoteError             an address; the file may be sound, but it cannot be had
        ├── AccessRefused       gated or private: the server wants a login, or one with more rights
        ├── BudgetExceeded      reading on would cost more than the budget
        ├── CheckpointMoved     the repository has another name now
        ├── NotCached           offline, and what is needed is not in the cache
        ├── RangesRefused       the server sends whole files only
        ├── SourceChanged       the file changed between two reads
        └── TransferFailed      the server or the network failed, and went on failing
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
    "AccessRefused",
    "BudgetExceeded",
    "CheckpointError",
    "CheckpointMoved",
    "CheckpointNotFound",
    "FetchError",
    "HomologError",
    "IncompleteCheckpoint",
    "MalformedCheckpoint",
    "NotCached",
    "RangesRefused",
    "RemoteError",
    "SourceChanged",
    "TransferFailed",
    "UnsafeCheckpoint",
    "UnsupportedFormat",
    "UsageError",
]

_LONGEST_QUOTE = 200


class HomologError(Exception):
    """The root of the tree; catching it catches all that homolog raises on purpose."""


class UsageError(HomologError):
    """The call is off; the message says what to do instead."""


class FetchError(HomologError):
    """Published weights could not be fetched, or are not what the catalogue says."""


class CheckpointError(HomologError):
    """A checkpoint cannot be read: which file, where in it, what was found and what was expected."""

    def __init__(self, path: Path | str, *, at: str, found: str, expected: str) -> None:
        self.path = path if isinstance(path, Path) else Path(path)  # an address is a path that shows itself as one
        self.at = _clip(at)
        self.found = _clip(found)
        self.expected = _clip(expected)
        super().__init__(f"{self.path}: at {self.at}: found {self.found}, expected {self.expected}")

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.path, self.at, self.found, self.expected))


class CheckpointNotFound(CheckpointError):
    """No such path, or nothing in it that could be a checkpoint."""


class UnsupportedFormat(CheckpointError):
    """A file of a kind that homolog does not read."""


class IncompleteCheckpoint(CheckpointError):
    """A shard, a config or the base of an adapter is missing."""


class MalformedCheckpoint(CheckpointError):
    """The bytes contradict the format, or the config contradicts the shapes."""


class UnsafeCheckpoint(CheckpointError):
    """Reading on would run code, or leave the checkpoint's own folder."""


class RemoteError(CheckpointError):
    """What lies behind an address cannot be had; nothing is said of the file itself."""


class AccessRefused(RemoteError):
    """Gated or private: the server wants a login, or one with more rights."""


class BudgetExceeded(RemoteError):
    """Reading on would cost more than the budget."""


class CheckpointMoved(RemoteError):
    """The repository has another name now."""


class NotCached(RemoteError):
    """Offline, and what is needed is not in the cache."""


class RangesRefused(RemoteError):
    """The server sends whole files only."""


class SourceChanged(RemoteError):
    """The file changed between two reads."""


class TransferFailed(RemoteError):
    """The server or the network failed, and went on failing."""


def _clip(text: str) -> str:
    """Quote hostile text in bounded length, on one line and without control characters."""
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[: _LONGEST_QUOTE + 1])
    return shown if len(shown) <= _LONGEST_QUOTE else shown[:_LONGEST_QUOTE] + "…"


def _rebuild(kind: type[CheckpointError], path: Path, at: str, found: str, expected: str) -> CheckpointError:
    return kind(path, at=at, found=found, expected=expected)
