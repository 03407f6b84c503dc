"""What a user may name: a path of this machine, a repository of a hub, a web address or a bucket. A local path always wins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from homolog.errors import CheckpointNotFound

__all__ = ["Address", "RemotePath", "name_repository", "parse_address", "show_address"]

HUB: Final = "hub"
MODELSCOPE: Final = "modelscope"
WEB: Final = "web"
BUCKET: Final = "bucket"

_REPOSITORY = re.compile(r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(@(?P<revision>[\w][\w./-]{0,254}))?(?<![./-])", re.ASCII)
"""The hub's own rule (huggingface_hub, ``validate_repo_id``), and a branch, tag or commit."""
_SCHEMES = {"hf": HUB, "modelscope": MODELSCOPE, "ms": MODELSCOPE, "http": WEB, "https": WEB}
_BUCKETS = ("s3", "gs", "gcs")


class RemotePath(type(Path())):  # type: ignore[misc]
    """An address that is passed around as a path, for its name and suffix; shown as the address that it is."""

    def __str__(self) -> str:
        return re.sub(r"^([a-z][a-z0-9]+):/(?!/)", r"\1://", str(super().__str__()).replace("\\", "/"))


@dataclass(frozen=True, slots=True)
class Address:
    """Where a checkpoint lies that is not on this machine."""

    kind: str
    """``hub``, ``modelscope``, ``web`` or ``bucket``."""
    name: str
    """``org/name`` of a repository; else the whole address."""
    revision: str | None = None
    """Branch, tag or commit; ``None`` for the default branch."""

    @property
    def path(self) -> RemotePath:
        """What errors and reports name."""
        if self.kind in (WEB, BUCKET):
            return RemotePath(self.name)
        tail = f"@{self.revision}" if self.revision else ""
        return RemotePath(f"{'modelscope://' if self.kind == MODELSCOPE else ''}{self.name}{tail}")


def parse_address(given: str | os.PathLike[str]) -> Address | None:
    """The address that ``given`` is, or ``None`` for a path of this machine.

    What exists here is a path, even where a repository of a hub has the same name; ``hf://org/name`` always means the hub. Raises
    ``CheckpointNotFound`` for a scheme that homolog does not read and for a repository that is not named ``org/name``.
    """
    text = os.fspath(given)
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, mark, rest = text.partition(":/")  # a path library took one of the slashes
        if not mark or scheme.lower() not in (*_SCHEMES, *_BUCKETS):
            return None if os.path.lexists(text) else _hub_address(text)
    kind = _SCHEMES.get(scheme.lower(), BUCKET if scheme.lower() in _BUCKETS else "")
    if kind in (HUB, MODELSCOPE):
        match = _REPOSITORY.fullmatch(rest)
        if match is None:
            raise CheckpointNotFound(
                text, at="address", found=f"the repository {rest!r}", expected="org/name or org/name@revision"
            )
        return Address(kind, match["name"], match["revision"])
    if kind and urlsplit(f"{scheme}://{rest}").netloc:
        return Address(kind, f"{scheme.lower()}://{rest}")
    expected = "a path, org/name, or an address: https, s3, gs, hf or modelscope"
    raise CheckpointNotFound(text, at="address", found=f"the scheme {scheme!r}", expected=expected)


def show_address(given: str | os.PathLike[str]) -> str:
    """``given`` as results may name it: without the login or the signature that a web address can carry."""
    text = os.fspath(given)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return str(Path(text))
    if _SCHEMES.get(scheme.lower()) != WEB:
        return text
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{re.split('[?#]', path, maxsplit=1)[0]}"


def name_repository(given: str | os.PathLike[str]) -> str | None:
    """The repository that the name of an existing path could also mean, to be said beside the result; ``None`` for other paths."""
    text = os.fspath(given)
    return text if _hub_address(text) is not None else None


def _hub_address(text: str) -> Address | None:
    match = _REPOSITORY.fullmatch(text)
    if match is None or match["name"].startswith((".", "-")) or "/." in match["name"]:
        return None
    # a file that was mistyped is no repository
    if Path(match["name"]).suffix in (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".json", ".hsk"):
        return None
    return Address(HUB, match["name"], match["revision"])
