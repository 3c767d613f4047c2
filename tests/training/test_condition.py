"""Parameters of the samples as constant channels: ``data.condition``."""

from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from rich.console import Console
from torch.utils.data import DataLoader

from katops import api
from katops.config import RunConfig
from katops.data import batch_loader, fit_normalizer, open_dataset
from katops.errors import UserError

pytestmark = pytest.mark.usefixtures("undrawn_figures")

VISCOSITY = np.linspace(0.5, 2.0, 12)
STATED = {"inputs": ["a"], "outputs": ["u"], "axes": ["sample", "x", "y"], "parameters": ["viscosity"]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Fields whose answer is the input divided by the viscosity of the sample."""
    a = np.random.default_rng(0).standard_normal((12, 8, 16)).astype(np.float32)
    with h5py.File(tmp_path / "flow.h5", "w") as stored:
        stored["a"], stored["u"] = a, a / VISCOSITY[:, None, None].astype(np.float32)
        stored["viscosity"] = VISCOSITY
    return tmp_path / "flow.h5"


@pytest.fixture
def run(file: Path, tmp_path: Path) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "flow",
            "output": str(tmp_path / "run"),
            "data": {"file": str(file), **STATED, "condition": ["viscosity"], "split": {"train": 8}},
            "model": {"name": "mgno_tiny"},
            "train": {"epochs": 1, "batch_size": 4},
        }
    )


def test_a_condition_is_a_constant_channel_with_the_parameter_at_every_point(file: Path) -> None:
    dataset = open_dataset(file, condition=["viscosity"], **STATED)
    assert (dataset.meta.in_channels, dataset.meta.condition) == (2, ("viscosity",))
    batch = dataset.read([11, 2])
    expected = VISCOSITY[[11, 2], None, None, None].astype(np.float32) * np.ones((1, 8, 16), np.float32)
    np.testing.assert_array_equal(batch.constants, expected)
    loaded = next(iter(batch_loader(dataset, batch_size=12)))
    np.testing.assert_array_equal(loaded.constants[:, 0, 0, 0], VISCOSITY.astype(np.float32))


def test_a_condition_is_normalised_by_its_training_samples(file: Path) -> None:
    dataset = open_dataset(file, condition=["viscosity"], **STATED)
    fit = fit_normalizer(dataset, [0, 1, 5])
    [statistics] = fit.statistics.constants
    assert (statistics.name, statistics.count) == ("viscosity", 3)
    seen = VISCOSITY[[0, 1, 5]]
    assert (statistics.mean, statistics.std) == (pytest.approx(seen.mean()), pytest.approx(seen.std()))
    encoded = fit.normalizer.encode_constants(dataset.read([0, 1, 5]).constants)
    np.testing.assert_allclose(encoded[:, 0, 3, 3], (seen - seen.mean()) / seen.std(), rtol=1e-5)


def test_a_condition_that_is_no_parameter_is_refused_with_those_there_are(file: Path) -> None:
    with pytest.raises(UserError, match=r"data\.condition names 'viscocity'.*did you mean 'viscosity'.*viscosity\."):
        open_dataset(file, condition=["viscocity"], **STATED)


def test_a_trained_model_sees_the_parameter_in_files_and_in_arrays(run: RunConfig, file: Path, tmp_path: Path) -> None:
    result = api.train(run)
    bundle = result.bundle
    a = np.random.default_rng(1).standard_normal((2, 8, 16)).astype(np.float32)
    low = bundle.predict({"a": a, "viscosity": np.array([0.5, 0.5])})["u"]
    high = bundle.predict({"a": a, "viscosity": torch.tensor([2.0, 2.0])})["u"]
    field = bundle.predict({"a": a, "viscosity": np.full((2, 8, 16), 0.5)})["u"]
    assert low.shape == (2, 8, 16)
    assert np.abs(low - high).max() > 1e-3
    np.testing.assert_array_equal(low, field)
    api.evaluate(result.directory, file, split="all")
    path = api.predict(result.directory, file, tmp_path / "predicted.h5")
    with h5py.File(file) as stored:
        whole = bundle.predict({"a": stored["a"][:], "viscosity": VISCOSITY})["u"]
    with h5py.File(path) as stored:
        np.testing.assert_allclose(stored["fields/u"][:], whole, rtol=1e-5, atol=1e-6)


def test_a_parameter_that_no_model_sees_is_warned_about(run: RunConfig) -> None:
    values = run.model_dump()
    values["data"]["condition"] = []
    console = Console(file=StringIO(), width=200)
    result = api.train(RunConfig.model_validate(values), console=console)
    printed = " ".join(console.file.getvalue().split())
    assert "the samples differ in viscosity, which the model is not told; data.condition: [viscosity]" in printed
    assert "train 8 samples" in printed
    assert result.bundle.meta.in_channels == 1


def test_torch_s_own_data_loader_makes_the_same_batches(file: Path) -> None:
    dataset = open_dataset(file, condition=["viscosity"], **STATED)
    batches = list(DataLoader(dataset, batch_size=5))
    assert [len(batch.x) for batch in batches] == [5, 5, 2]
    for ours, theirs in zip(batch_loader(dataset, batch_size=5), batches, strict=True):
        for name in ("x", "y", "constants", "parameters", "index"):
            assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
        assert theirs.time is None


def test_one_path_may_stand_for_a_list_of_test_files(file: Path) -> None:
    values = {"name": "flow", "data": {"file": str(file), "test_files": "other.h5"}, "model": "mgno_tiny"}
    assert RunConfig.model_validate(values).data.test_files == ["other.h5"]
