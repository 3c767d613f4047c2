"""Fixtures for the whole suite."""

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

# How long an example takes decides no test.
settings.register_profile("katops", deadline=None)
settings.load_profile("katops")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers with several threads each wait for one another most of the time.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Else torch's compiler starts a process that imports torch, to compile in other processes still.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared(repository: Path) -> Path:
    """Reference data that lies beside the checkout and is not part of it."""
    path = repository.parent / "shared"
    if not path.is_dir():
        pytest.skip("the reference data ../shared is not beside this checkout")
    return path


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same torch and numpy generators."""
    import numpy
    import torch

    torch.manual_seed(0)
    numpy.random.seed(0)  # noqa: NPY002 - libraries under test may read the legacy generator


@pytest.fixture(scope="session")
def undrawn() -> Callable[[], AbstractContextManager]:
    """A context in which the figures of reports are made and not drawn; their files are empty.

    Drawing takes most of the time of a run that trains for a second. The tests of the report and of the installed
    command draw what is seen.
    """

    @contextmanager
    def context() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("katops.report.html.to_png", lambda figure: b"")
            yield

    return context


@pytest.fixture
def undrawn_figures(undrawn: Callable[[], AbstractContextManager]) -> Iterator[None]:
    """The figures of reports are made and not drawn during the test."""
    with undrawn():
        yield


@pytest.fixture(scope="session")
def darcy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated Darcy data set: 224 samples of 12 x 12."""
    from katops.generators import generate

    return generate("darcy", tmp_path_factory.mktemp("data") / "darcy.h5", samples=224, resolution=12)


@pytest.fixture(scope="session")
def small_run(darcy_file: Path) -> dict:
    """A configuration that trains in a second or two, without a folder to write to; not to be changed."""
    return {
        "name": "small",
        "data": {"file": str(darcy_file), "split": {"train": 192, "validation": 16, "test": 16}},
        "model": {"name": "mgno", "hidden_channels": 6, "n_layers": 2, "schedule": [[1, 1], [1, 0]]},
        "train": {"epochs": 4, "batch_size": 8, "learning_rate": 1e-2},
    }


@pytest.fixture
def run_values(small_run: dict, tmp_path: Path) -> dict:
    """The same for one test, which may change it."""
    return {**copy.deepcopy(small_run), "output": str(tmp_path / "run")}


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Small colour images, ``train`` and ``val`` with a folder per class: vertical, horizontal and diagonal stripes."""
    import numpy
    from PIL import Image

    generator = numpy.random.default_rng(0)
    rows, columns = numpy.mgrid[:12, :12]
    patterns = {"cat": columns, "dog": rows, "owl": rows + columns}
    for split, count in (("train", 8), ("val", 4)):
        for name, position in patterns.items():
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                values = 200 * (position // 3 % 2) + generator.integers(0, 50, (12, 12))
                picture = numpy.repeat(values[..., None], 3, axis=2).astype(numpy.uint8)
                Image.fromarray(picture).save(folder / f"{number}.png")
    return tmp_path / "images"
