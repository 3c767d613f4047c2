"""FNO, TFNO, U-NO and the U-Net of other packages, behind our contract."""

import builtins

import h5py
import pytest
import torch
from torch import nn

from katops.api import evaluate, predict, train
from katops.bundle import load, save
from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.models import build_model
from katops.models.padding import crop, extend, margins
from katops.predictors import FieldPredictor

pytest.importorskip("neuralop", reason="the extra 'baselines' is not installed")
pytest.importorskip("monai", reason="the extra 'baselines' is not installed")

SMALL = {
    "fno": {"hidden_channels": 8, "modes": 4, "n_layers": 2},
    "tfno": {"hidden_channels": 8, "modes": 4, "n_layers": 2},
    "uno": {"hidden_channels": 8, "modes": 4},
    "unet": {"hidden_channels": 4},
}
SPECTRAL = ("fno", "tfno", "uno")
every_model = pytest.mark.parametrize("name", list(SMALL))
spectral = pytest.mark.parametrize("name", SPECTRAL)
DIRICHLET, PERIODIC = ("dirichlet", "dirichlet"), ("periodic", "periodic")


class NoCoordinates(nn.Module):
    """Zeros in place of the coordinates x and y, which are what a shift changes."""

    def forward(self, x):
        return torch.cat([x, torch.zeros_like(x[:, :1]).expand(-1, 2, -1, -1)], 1)


@every_model
@pytest.mark.parametrize("boundary", ["dirichlet", "periodic"])
@pytest.mark.parametrize("sizes", [(31,), (64,), (16, 21), (33, 64), (9, 8, 11)])
def test_net_serves_one_to_three_axes_of_any_length(name, boundary, sizes):
    model = build_model(name, in_channels=2, out_channels=3, boundary=boundary, spatial_dims=len(sizes), **SMALL[name])
    y = model(torch.randn(2, 2, *sizes))
    assert y.shape == (2, 3, *sizes)
    assert y.isfinite().all()


@pytest.mark.parametrize("name", ["fno", "tfno"])
def test_periodic_net_without_coordinates_commutes_with_shifts(name):
    model = build_model(name, boundary="periodic", **SMALL[name]).eval()
    model.net.positional_embedding = NoCoordinates()
    x = torch.randn(1, 1, 16, 32)
    with torch.no_grad():
        difference = model(x.roll((5, 7), (2, 3))) - model(x).roll((5, 7), (2, 3))
    assert difference.abs().max() < 1e-4 * model(x).abs().max()


@spectral
def test_finer_grid_changes_the_answer_by_less_than_the_coarse_grid_resolves(name):
    model = build_model(name, boundary="periodic", **SMALL[name]).eval()
    coordinate = torch.arange(64) / 64
    wave = torch.sin(2 * torch.pi * coordinate)[:, None] * torch.cos(2 * torch.pi * coordinate)
    with torch.no_grad():
        coarse, fine = model(wave[None, None, ::2, ::2]), model(wave[None, None])[..., ::2, ::2]
    assert (coarse - fine).norm() < 0.05 * fine.norm()


def test_margin_is_the_same_fraction_of_the_domain_on_every_grid():
    for length in (64, 128, 256):
        (extra,) = margins((length,), (DIRICHLET,), 0.125, 1)
        assert extra == length // 8


def test_periodic_axis_has_no_margin_but_what_the_multiple_needs():
    assert margins((64, 64), (PERIODIC, DIRICHLET), 0.1, 1) == [0, 6]
    assert margins((63, 61), (PERIODIC, DIRICHLET), 0.0, 4) == [1, 3]


def test_margin_wraps_a_periodic_axis_and_repeats_the_last_value_of_another():
    x = torch.arange(6.0).reshape(1, 1, 2, 3)
    extended = extend(x, (1, 2), (PERIODIC, DIRICHLET))
    assert extended[0, 0].tolist() == [[0, 1, 2, 2, 2], [3, 4, 5, 5, 5], [0, 1, 2, 2, 2]]
    assert torch.equal(crop(extended, (2, 3)), x)


@every_model
def test_state_dict_holds_tensors_only_and_loads_strictly(name):
    state = build_model(name, **SMALL[name]).state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    other = build_model(name, **SMALL[name])
    assert not any(other.load_state_dict(state))


@every_model
def test_model_file_gives_the_same_answers_back(name, tmp_path):
    meta = FieldMeta("flow", (Channel("a"),), (Channel("u"),), (Axis("x"), Axis("y")))
    predictor = FieldPredictor(build_model(name, meta=meta, **SMALL[name]), Normalizer(meta), meta).eval()
    x = torch.randn(2, 1, 1, 16, 16)
    save(tmp_path, predictor)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path).predictor(x), predictor(x), rtol=0, atol=0)


@spectral
def test_double_reaches_complex_weights(name):
    model = build_model(name, **SMALL[name]).double()
    assert {p.dtype for p in model.parameters()} <= {torch.float64, torch.complex128}


@spectral
def test_modes_for_another_number_of_axes_are_refused(name):
    for modes in ([4, 4, 4], 0, [4, 0]):
        with pytest.raises(UserError, match=r"give one number of at least 1 for all axes, or one for each of the 2"):
            build_model(name, **{**SMALL[name], "modes": modes})


@every_model
def test_width_of_zero_is_refused(name):
    with pytest.raises(UserError, match="hidden_channels must be at least 1, got 0"):
        build_model(name, **{**SMALL[name], "hidden_channels": 0})


@every_model
@pytest.mark.parametrize("spatial_dims", [-1, 0, 4])
def test_other_numbers_of_axes_are_refused(name, spatial_dims):
    with pytest.raises(UserError, match=f"spatial_dims must be 1, 2 or 3, got {spatial_dims}"):
        build_model(name, spatial_dims=spatial_dims, **SMALL[name])


@spectral
@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf")])
def test_margin_that_is_no_fraction_is_refused(name, margin):
    with pytest.raises(UserError, match="margin must be a finite number of at least 0"):
        build_model(name, margin=margin, **SMALL[name])


def test_rank_beyond_one_is_refused():
    with pytest.raises(UserError, match=r"rank must be above 0 and at most 1, got 1\.5"):
        build_model("tfno", rank=1.5)


@every_model
def test_missing_package_is_named_with_the_extra_that_brings_it(name, monkeypatch):
    real = builtins.__import__

    def without_baselines(module, *arguments, **options):
        if module.split(".")[0] in {"neuralop", "monai"}:
            raise ImportError(f"No module named {module!r}")
        return real(module, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_baselines)
    with pytest.raises(UserError, match=r'package: pip install "katops\[baselines\]"'):
        build_model(name, **SMALL[name])


@pytest.mark.usefixtures("undrawn_figures")
@every_model
def test_model_is_trained_evaluated_and_applied_by_the_same_commands(name, run_values, tmp_path):
    run_values["model"] = {"name": name, **SMALL[name]}
    run_values["train"] = {**run_values["train"], "epochs": 2, "ema_decay": 0.9}
    result = train(run_values)
    run, data = result.directory, run_values["data"]["file"]
    metrics = result.evaluations["darcy.h5"].metrics
    assert metrics["model"]["relative_l2"] < 1
    assert evaluate(run, data).metrics["model"] == pytest.approx(metrics["model"], rel=1e-5)
    with h5py.File(predict(run, data, tmp_path / "predictions.h5")) as file:
        assert file[f"fields/{result.bundle.meta.outputs[0].name}"].shape == (224, 12, 12)
