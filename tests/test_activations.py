"""Facts about recorded activations: every input is counted once, and the model is left as it was."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from katops.errors import UserError
from katops.evaluation.activations import record_activations
from katops.layers.group_rational import GroupRational, GroupRationalKAN


class Recorded(nn.Module):
    """A rational activation applied to what it is given."""

    def __init__(self, channels, groups, channel_dim=-1, **options):
        super().__init__()
        self.act = GroupRational(channels, groups, channel_dim=channel_dim, **options)

    def forward(self, x):
        return self.act(x)


def batches_of(*tensors):
    return [(x, torch.zeros(len(x), dtype=torch.int64)) for x in tensors]


def hooks_of(model):
    return [hook for module in model.modules() for hook in (*module._forward_pre_hooks, *module._forward_hooks)]


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    per_group=st.integers(1, 3),
    channel_dim=st.sampled_from([1, -1]),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    bins=st.integers(1, 40),
)
def test_every_input_of_every_group_is_counted_once(groups, per_group, channel_dim, scale, bins):
    channels = groups * per_group
    shape = (5, channels, 7) if channel_dim == 1 else (5, 7, channels)
    first, second = scale * torch.randn(shape), 3 * scale * torch.randn(shape)
    (record,) = record_activations(Recorded(channels, groups, channel_dim), batches_of(first, second), bins=bins)
    assert record.histogram.shape == (groups, bins)
    total = record.histogram.sum(1) + record.below + record.above
    np.testing.assert_array_equal(total, np.full(groups, 2 * first.numel() // groups))
    values = torch.cat([first, second]).movedim(channel_dim, 0).reshape(groups, -1).double().numpy()
    for group in range(groups):
        expected, _ = np.histogram(values[group], record.edges)
        assert np.abs(record.histogram[group] - expected).max() <= 1  # an edge may round to the other side
        assert record.outside_fit[group] == (np.abs(values[group]) > 3).mean()
        assert record.far[group] == (np.abs(values[group]) > 10).mean()


def test_groups_are_blocks_of_consecutive_channels_on_either_axis():
    x = torch.randn(6, 4, 5, 5) + torch.tensor([0.0, 0.0, 100.0, 100.0]).reshape(4, 1, 1)
    (first,) = record_activations(Recorded(4, 2, 1), batches_of(x))
    (last,) = record_activations(Recorded(4, 2, -1), batches_of(x.movedim(1, -1)))
    np.testing.assert_array_equal(first.histogram, last.histogram)
    assert first.quantiles[0].max() < 10
    assert first.quantiles[1].min() > 90


def test_quantiles_lie_within_a_fraction_of_a_bin():
    x = torch.randn(40, 50, 64)
    (record,) = record_activations(Recorded(64, 2), batches_of(*x.split(8)))
    exact = np.quantile(x.reshape(-1, 2, 32).movedim(1, 0).reshape(2, -1).numpy(), [0.001, 0.999], axis=1).T
    np.testing.assert_allclose(record.quantiles, exact, atol=np.diff(record.edges)[0] / 8)


def test_inputs_beyond_the_first_batch_are_counted_outside():
    (record,) = record_activations(Recorded(2, 1), batches_of(torch.rand(50, 2), torch.full((3, 2), 40.0)))
    assert record.edges[0] < 0
    assert 1 < record.edges[-1] < 2
    assert record.above.tolist() == [6]
    assert record.histogram.sum() == 100
    assert record.far[0] == pytest.approx(6 / 106)


def test_the_denominator_is_that_of_the_function():
    model = Recorded(4, 2, shared_numerator=False)
    with torch.no_grad():
        model.act.weight_denominator.copy_(torch.randn(2, 4))
    x = 2 * torch.randn(30, 4)
    (record,) = record_activations(model, batches_of(x))
    magnitude = x.double().abs().reshape(-1, 2, 2).movedim(1, 0).reshape(2, -1)
    powers = torch.stack([magnitude**j for j in range(1, 5)], -1)
    q = 1 + (powers * model.act.weight_denominator.detach().double().abs()[:, None]).sum(-1)
    np.testing.assert_allclose(record.smallest_denominator, q.amin(1), rtol=1e-6)
    np.testing.assert_allclose(record.largest_denominator, q.amax(1), rtol=1e-6)


@pytest.mark.parametrize("shared", [True, False])
def test_the_recorded_curves_are_what_the_module_computes(shared):
    model = Recorded(6, 3, shared_numerator=shared).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    (record,) = record_activations(model, batches_of(torch.randn(9, 6).double()))
    x = np.linspace(-4, 4, 50)
    outputs = model(torch.from_numpy(x)[:, None].expand(50, 6)).detach()
    np.testing.assert_allclose(record.curves(x), outputs[:, ::2].T, rtol=1e-10, atol=1e-12)
    start = GroupRational(6, 3)(torch.from_numpy(x).float()[:, None].expand(50, 6)).detach()[:, 0]
    np.testing.assert_allclose(record.initial_curve(x), start, atol=1e-6)


def test_later_training_does_not_change_a_record():
    model = Recorded(4, 2)
    (record,) = record_activations(model, batches_of(torch.randn(5, 4)))
    before = record.numerator.copy()
    with torch.no_grad():
        model.act.weight_numerator.add_(1)
    np.testing.assert_array_equal(record.numerator, before)


def test_modules_are_recorded_in_order_and_others_are_left_alone():
    model = nn.Sequential(GroupRationalKAN(8, 16, 8), nn.GELU(), GroupRationalKAN(8, 16, 8, shared_numerator=False))
    records = record_activations(model, batches_of(torch.randn(4, 3, 8)))
    assert [record.name for record in records] == ["0.act1", "0.act2", "2.act1", "2.act2"]
    assert [record.numerator.shape for record in records] == [(1, 6), (1, 6), (8, 6), (8, 6)]
    assert {record.groups for record in records} == {8}
    assert record_activations(nn.Linear(2, 2), batches_of(torch.zeros(1, 2))) == []


def test_hooks_are_gone_and_modes_are_back_after_a_run():
    model = nn.Sequential(GroupRationalKAN(8, drop=0.5), nn.Dropout())
    model[1].eval()
    modes = [module.training for module in model.modules()]
    record_activations(model, batches_of(torch.randn(4, 8)))
    assert hooks_of(model) == []
    assert [module.training for module in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())


def test_hooks_are_gone_and_modes_are_back_when_the_model_raises():
    model = nn.Sequential(GroupRationalKAN(8), nn.Linear(9, 1))
    with pytest.raises(RuntimeError):
        record_activations(model, batches_of(torch.randn(4, 8)))
    assert hooks_of(model) == []
    assert all(module.training for module in model.modules())


def test_inputs_that_are_not_finite_are_counted_apart():
    x = torch.randn(20, 4)
    x[0, 0], x[1, 1], x[2, 3] = math.nan, math.inf, -math.inf
    (record,) = record_activations(Recorded(4, 2), batches_of(x))
    assert record.nonfinite.tolist() == [2, 1]
    assert record.histogram.sum() + record.below.sum() + record.above.sum() == 77
    assert np.isfinite(record.quantiles).all()


def test_a_group_without_finite_inputs_has_no_quantiles_and_a_module_without_any_is_left_out():
    x = torch.randn(20, 4)
    x[:, :2] = math.nan
    (record,) = record_activations(Recorded(4, 2), batches_of(x))
    assert np.isnan(record.quantiles[0]).all()
    assert np.isfinite(record.quantiles[1]).all()
    assert json.loads(json.dumps(record.to_dict(), allow_nan=False))["smallest_denominator"][0] is None
    assert record_activations(Recorded(4, 2), batches_of(torch.full((3, 4), math.nan))) == []


def test_constant_inputs_lie_inside_the_edges():
    (record,) = record_activations(Recorded(2, 1), batches_of(torch.full((8, 2), 5.0)))
    assert record.histogram.sum() == 16
    np.testing.assert_allclose(record.quantiles, [[5, 5]])


def test_nothing_to_record_from_is_told_in_a_sentence():
    with pytest.raises(UserError, match="no batch of images"):
        record_activations(Recorded(2, 1), [])
    with pytest.raises(UserError, match="bins=0"):
        record_activations(Recorded(2, 1), batches_of(torch.zeros(1, 2)), bins=0)
