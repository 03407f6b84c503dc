from __future__ import annotations

from pathlib import Path

import pytest

ZOO = Path(__file__).parents[1] / "zoo"
CHOSEN = ("a", "a-order2", "a-same-1x", "a-zh-1x", "b", "b-order2", "g")


@pytest.fixture
def small_zoo(tmp_path: Path) -> Path:
    """Seven models of the zoo: a base with two descendants and a twin of its start, an independent one with its twin, and a GPT-2."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in CHOSEN:
        (folder / name).symlink_to(ZOO / name)
    return folder
