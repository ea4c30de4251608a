"""The notebooks of the documentation run, and are kept without what they print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
SHOWN = {"look_at_a_space": 10, "search": 6}
"""Cells of each that show a value."""


def test_there_are_notebooks() -> None:
    assert {path.stem for path in NOTEBOOKS} == set(SHOWN)


@pytest.mark.docs
@pytest.mark.filterwarnings("ignore")  # of jupyter's own
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells), "notebooks are kept without outputs"
    assert all(len(line) <= 140 for cell in book.cells for line in cell.source.splitlines())
    client = nbclient.NotebookClient(
        book, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    assert sum(bool(cell.outputs) for cell in cells) >= SHOWN[path.stem]
    assert not any(one.get("name") == "stderr" for cell in cells for one in cell.outputs), "nothing is warned of"
    assert "text/html" in kinds_of(cells[0]), "a space shows itself"
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def kinds_of(cell: Any) -> set[str]:
    return {kind for one in cell.outputs for kind in one.get("data", {})}
