"""MgNO as a model: axes, equivariance, linearity with activations off, and learning."""

import pytest
import timm
import torch
from torch import nn

from katops.errors import UserError
from katops.layers import MultigridCycle
from katops.models import MgNO, build_model, list_models

SMALL = {"hidden_channels": 4, "n_layers": 2, "schedule": ((1, 1), (1, 1), (1, 0))}


def test_periodic_model_commutes_with_shifts_of_its_coarsest_grid_at_48_by_80():
    model = MgNO(2, 1, boundary="periodic", hidden_channels=8, n_layers=3)
    x = torch.randn(1, 2, 48, 80)
    with torch.no_grad():
        shifted, expected = model(x.roll((16, 32), (2, 3))), model(x).roll((16, 32), (2, 3))
    assert (shifted - expected).abs().max() < 1e-5 * expected.abs().max()


def test_dirichlet_model_does_not_commute_with_shifts():
    model = MgNO(**SMALL)
    x = torch.randn(1, 1, 16, 16)
    assert (model(x.roll(4, 2)) - model(x).roll(4, 2)).abs().max() > 1e-3


def test_model_is_affine_when_the_activation_is_the_identity():
    model = MgNO(2, 3, **SMALL, act_layer=nn.Identity)
    x, z = torch.randn(2, 1, 2, 13, 10)
    torch.testing.assert_close(model(x + z) - model(z), model(x) - model(0 * x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [(31,), (16, 21), (7, 8, 9)])
@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_one_model_class_serves_one_to_three_axes_of_any_length(sizes, boundary):
    model = MgNO(2, 3, **SMALL, boundary=boundary, spatial_dims=len(sizes))
    assert model(torch.randn(2, 2, *sizes)).shape == (2, 3, *sizes)


def test_one_set_of_weights_serves_every_resolution():
    model = MgNO(**SMALL)
    for size in [(16, 16), (33, 20), (5, 64)]:
        assert model(torch.randn(1, 1, *size)).shape == (1, 1, *size)


@pytest.mark.parametrize(
    ("shape", "given"),
    [
        ((2, 3, 8, 8), r"got \(batch=2, channel=3, x=8, y=8\)"),
        ((2, 1, 8), r"got \(batch=2, channel=1, x=8\)"),
        ((8, 8), r"got \(8, 8\) with 2 axes"),
        ((2, 1, 0, 8), r"got \(batch=2, channel=1, x=0, y=8\)"),
    ],
)
def test_input_with_other_axes_is_refused_by_naming_them(shape, given):
    with pytest.raises(UserError, match=rf"expected \(batch, channel=1, x, y\), {given}"):
        MgNO(**SMALL)(torch.randn(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"in_channels": 2, "add_input": True}, "add_input needs equal channels, got 2 in and 1 out"),
        ({"boundary": ["periodic"], "spatial_dims": 2}, "has 1 entries; give one for each of the 2 axes"),
        ({"boundary": "dirichlet", "spatial_dims": 4}, "spatial_dims must be 1, 2 or 3, got 4"),
    ],
)
def test_impossible_sizes_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MgNO(**options)


def test_add_input_adds_the_input():
    model = MgNO(2, 2, **SMALL, add_input=True)
    x = torch.randn(1, 2, 8, 8)
    with_input = model(x)
    model.add_input = False
    torch.testing.assert_close(with_input, model(x) + x)


def test_space_mixer_replaces_the_cycle_and_gets_the_boundary():
    seen = []

    class Pointwise(nn.Conv2d):
        def __init__(self, in_channels, out_channels, *, boundary):
            seen.append((in_channels, out_channels, boundary))
            super().__init__(in_channels, out_channels, 1)

    model = MgNO(2, 1, **{**SMALL, "schedule": None}, space_mixer=Pointwise, boundary="neumann")
    sides = (("neumann", "neumann"),) * 2
    assert seen == [(2, 4, sides), (4, 4, sides)]
    assert not any(isinstance(module, MultigridCycle) for module in model.modules())
    assert model(torch.randn(1, 2, 6, 6)).shape == (1, 1, 6, 6)


def test_tiny_model_learns_an_operator_that_needs_the_whole_domain():
    """x -> x + 4 (mean of x over the domain); the zero predictor scores 1."""
    model = timm.create_model("mgno_tiny", hidden_channels=8, n_layers=2, boundary="periodic")
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=100)

    def relative_error(samples):
        x = torch.randn(samples, 1, 8, 8) + torch.randn(samples, 1, 1, 1)
        y = x + 4 * x.mean((2, 3), keepdim=True)
        return (model(x) - y).norm() / y.norm()

    for _ in range(100):
        optimiser.zero_grad()
        relative_error(16).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        assert relative_error(256) < 0.3


def test_sizes_grow_from_tiny_to_base():
    assert {"mgno", "mgno_tiny", "mgno_small", "mgno_base"} <= set(list_models("mgno*"))
    with torch.device("meta"):
        counts = [
            sum(parameter.numel() for parameter in build_model(name).parameters())
            for name in ("mgno_tiny", "mgno_small", "mgno_base")
        ]
    assert counts == sorted(counts)
    assert counts[0] < 0.5e6 < counts[1] < 2e6 < counts[2]
