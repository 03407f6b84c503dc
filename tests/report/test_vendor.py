"""The vendored scripts are the published ones, of versions that belong together."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import altair as alt

VENDOR = files("homolog.report") / "vendor"


def test_digests_are_those_of_the_readme() -> None:
    rows = re.findall(
        r"^\| `(\S+)` \|.*`LICENSE\.(\S+)` \| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.M
    )
    assert [name for name, _, _ in rows] == ["vega.min.js", "vega-lite.min.js", "vega-embed.min.js"]
    for name, licence, digest in rows:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
        assert "University of Washington" in (VENDOR / f"LICENSE.{licence}").read_text()


def test_versions_are_those_that_altair_writes_for() -> None:
    readme = (VENDOR / "README.md").read_text()
    for package, wanted in (
        ("vega", alt.VEGA_VERSION),
        ("vega-lite", alt.VEGALITE_VERSION),
        ("vega-embed", alt.VEGAEMBED_VERSION),
    ):
        found = re.search(rf"`{package}@(\d+)\.", readme)
        assert found is not None
        assert found[1] == wanted.split(".")[0]


def test_no_script_could_close_its_own_element() -> None:
    for script in VENDOR.iterdir():
        if script.name.endswith(".js"):
            text = script.read_text(encoding="utf-8")
            assert "</script" not in text.lower()
            assert "<!--" not in text
            assert "\r" not in text, "an HTML parser would change it, and the policy's hash would not hold"
