"""Contrast of the two palettes, by the formula of WCAG 2.2: text at least 4.5, marks at least 3."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

STYLE = (files("homolog.report") / "templates" / "style.css").read_text(encoding="utf-8")


def palette(scheme: str) -> dict[str, str]:
    light, dark = (
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6});", block))
        for block in STYLE.split("@media screen and (prefers-color-scheme", 1)
    )
    return light if scheme == "light" else light | dark


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    colors = palette(scheme)
    for text in ("ink", "quiet", "pair"):
        for ground in ("paper", "sheet"):
            assert contrast(colors[text], colors[ground]) >= 4.5, (text, ground)
    assert contrast(colors["heat-8"], colors["heat-0"]) >= 3


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_heat_grows_in_even_steps(scheme: str) -> None:
    shades = [luminance(palette(scheme)[f"heat-{step}"]) for step in range(9)]
    assert shades == sorted(shades, reverse=scheme == "light")


def test_dark_palette_does_not_reach_print() -> None:
    assert "@media (prefers-color-scheme" not in STYLE
    assert "@media screen and (prefers-color-scheme: dark)" in STYLE
