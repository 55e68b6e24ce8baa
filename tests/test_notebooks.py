"""The notebooks run, without an error or a word on stderr, and stand in the repository with the outputs of a full run.

`python tests/test_notebooks.py` runs them in full and saves their outputs: after a change to one, or to what it shows.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbclient
import nbformat
import pytest

import tfopt

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PLACES = re.compile(r"(?<![\w.:/*])/(?:home|root|Users|work|tmp|var|usr)/\w")  # also of temporary folders, in messages

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def read(path):
    return nbformat.read(path, as_version=4)


def execute(notebook, folder):
    """Runs all cells in `folder` with the tfopt that is imported here."""
    paths = [str(Path(tfopt.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    client = nbclient.NotebookClient(notebook, timeout=600, coalesce_streams=True, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters(notebook):
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    return cell


def said(notebook, *names):
    """What the cells wrote to these streams."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name in names)


@each
def test_it_runs_in_quick_mode(path, tmp_path):
    notebook = read(path)
    parameters(notebook).source = "quick = True"
    execute(notebook, tmp_path)  # raises on an error in a cell
    assert said(notebook, "stderr") == ""
    assert not re.search(r"warning|^INFO", said(notebook, "stdout"), re.IGNORECASE | re.MULTILINE)
    assert "Quick run" in said(notebook, "stdout")
    assert (tmp_path / "runs" / f"{path.stem}-quick" / "report.html").is_file()


@each
def test_it_is_saved_as_it_came_out_of_a_full_run(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert parameters(notebook).source.startswith("quick = False")
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert said(notebook, "stderr") == ""
    assert "optimized int8: accuracy" in said(notebook, "stdout")
    assert "Quick run" not in said(notebook, "stdout")


@each
def test_it_names_no_place_of_one_machine(path):
    notebook = read(path)
    assert not PLACES.search(said(notebook, "stdout", "stderr"))
    assert not PLACES.search("\n".join(cell.source for cell in notebook.cells))


@each
def test_its_badge_opens_it(path):
    url = f"https://colab.research.google.com/github/tfopt/tfopt/blob/main/notebooks/{path.name}"
    assert f"({url})" in read(path).cells[0].source


@each
def test_it_installs_nothing_where_tfopt_is_there(path):
    (cell,) = [cell for cell in code_cells(read(path)) if "pip install" in cell.source]
    assert 'find_spec("tfopt") is None' in cell.source
    assert cell.outputs == []


def save_outputs(path):
    notebook = read(path)
    with tempfile.TemporaryDirectory() as folder:
        execute(notebook, folder)
    for cell in code_cells(notebook):
        cell.metadata.pop("execution", None)  # when each cell began and ended
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for each_path in NOTEBOOKS:
        save_outputs(each_path)
