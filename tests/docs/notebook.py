"""Runs the notebook of the docs. ``python -m tests.docs.notebook`` writes its outputs anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["PAGE", "execute", "outputs"]

PAGE = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def execute(page: Path = PAGE) -> nbformat.NotebookNode:
    """The notebook with the outputs of a run in its own folder, by a kernel of this very Python. Raises where a cell does."""
    notebook = nbformat.read(page, as_version=4)
    NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(page.parent)}}
    ).execute()
    for cell in notebook.cells:
        cell.metadata.clear()
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return notebook


def outputs(notebook: nbformat.NotebookNode) -> list[list[dict[str, Any]]]:
    """What each cell shows, by media type or as printed text."""
    return [
        [dict(output.data) if "data" in output else {"printed": output.get("text", output)} for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


if __name__ == "__main__":
    nbformat.write(execute(), PAGE)
