"""The notebook of the docs runs, and what it shows is what is kept in it."""

from __future__ import annotations

import nbformat
import pytest
from tests.docs.notebook import PAGE, execute, outputs


# a kernel is another process: what its libraries warn of on their way is theirs
@pytest.mark.filterwarnings("default")
def test_the_notebook_shows_what_is_kept_in_it() -> None:
    kept, run = nbformat.read(PAGE, as_version=4), execute()
    assert outputs(run) == outputs(kept)
    html = [output["text/html"] for cell in outputs(run) for output in cell if "text/html" in output]
    assert len(html) == 3
    assert html[0].startswith("<p><b>related</b>: The weights support common descent")
    assert html[1].startswith("<p><b>independent</b>: Nothing in the weights supports common descent")
    assert "B seen from A" in html[0]
    assert "B seen from A" not in html[1]


def test_every_cell_was_run_in_order() -> None:
    counts = [cell.execution_count for cell in nbformat.read(PAGE, as_version=4).cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
