"""Estimators on a GPU: the same fit as on the CPU, from tensors on the device, and back."""

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

import katops
from katops import KANClassifier, KANRegressor

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SHORT = {"hidden": (3,), "epochs": 15, "ensemble": 2, "random_state": 0}


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).uniform(-1, 1, size=(150, 3))
    return x, 5 + x[:, 0] + np.sin(3 * x[:, 1])


def test_a_fit_on_the_gpu_is_that_on_the_cpu(rows):
    x, y = rows
    cpu, gpu = (KANRegressor(device=device, **SHORT).fit(x, y) for device in ("cpu", "cuda"))
    assert next(gpu.models_[0].parameters()).is_cuda
    np.testing.assert_allclose(gpu.predict(x), cpu.predict(x), rtol=1e-5)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adamw"])
def test_the_same_seed_gives_the_same_predictions(rows, optimiser):
    one, other = (KANRegressor(device="cuda", optimiser=optimiser, **SHORT).fit(*rows).predict(rows[0]) for _ in "12")
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_tensors_on_the_gpu_give_tensors_on_the_gpu(rows):
    x, y = (torch.from_numpy(values).cuda() for values in rows)
    model = KANRegressor(device="cuda", **SHORT).fit(x, y)
    assert model.predict(x).device == x.device
    probabilities = KANClassifier(device="cuda", **SHORT).fit(x, y > 5).predict_proba(x)
    assert probabilities.is_cuda


def test_everything_that_is_given_may_lie_on_the_gpu(rows):
    pytest.importorskip("mapie")
    from katops.estimators.conformal import ConformalRegressor, coverage_report

    x, y = (torch.from_numpy(values).cuda() for values in rows)
    weight, groups = torch.ones(150, device="cuda"), torch.arange(150, device="cuda") // 2
    model = KANRegressor(device="cuda", **SHORT).fit(x, y, sample_weight=weight, groups=groups)
    assert model.score(x, y, sample_weight=weight) > 0.5
    lower, upper = model.calibrate(x, y, groups=groups, sample_weight=weight, folds=2).interval(x, 0.8)
    assert lower.is_cuda
    assert (lower < upper).all()
    classifier = KANClassifier(device="cuda", **SHORT).fit(x, y > 5, weight, groups)
    assert classifier.score(x, y > 5) > 0.8
    found = ConformalRegressor(KANRegressor(device="cuda", **SHORT), folds=2).fit(x, y, groups, weight)
    assert coverage_report(found.intervals(x), y).measured > 0.5


def test_the_global_random_numbers_of_the_gpu_stay_as_they_are(rows):
    before = torch.cuda.get_rng_state()
    KANRegressor(device="cuda", **SHORT).fit(*rows)
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_a_model_that_was_fitted_on_the_gpu_is_loaded_on_the_cpu_and_on_the_gpu(rows, tmp_path):
    model = KANRegressor(device="cuda", **SHORT).fit(*rows)
    path = model.save(tmp_path)
    for device in ("cpu", "cuda"):
        np.testing.assert_allclose(katops.load(path, device).predict(rows[0]), model.predict(rows[0]), rtol=1e-9)
