"""Baselines score exactly what they should."""

import pytest
import torch

from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.models import MeanField, Persistence


def describe(inputs, outputs, **options):
    channels = [tuple(Channel(name) for name in names) for names in (inputs, outputs)]
    return FieldMeta("waves", channels[0], channels[1], (Axis("x"), Axis("y")), **options)


def test_persistence_repeats_the_last_frame_of_the_output_channels():
    meta = describe(["u", "c", "v"], ["v", "u"], steps_in=2, steps_out=3, time_step=0.5)
    x = torch.randn(4, 6, 5, 7)
    frames = x.reshape(4, 2, 3, 5, 7)
    y = Persistence(meta)(x).reshape(4, 3, 2, 5, 7)
    for step in range(3):
        torch.testing.assert_close(y[:, step], frames[:, -1, [2, 0]], rtol=0, atol=0)


def test_persistence_of_a_channel_that_is_no_input_is_refused():
    with pytest.raises(UserError, match="cannot predict p of 'waves': not among the inputs u, v"):
        Persistence(describe(["u", "v"], ["u", "p"]))


def test_persistence_refuses_other_axes_by_name():
    with pytest.raises(UserError, match=r"expected \(batch, channel=1, x, y\), got \(batch=2, channel=3, x=4, y=4\)"):
        Persistence(describe(["u"], ["u"]))(torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize("sizes", [(6,), (6, 5), (4, 5, 6)])
def test_mean_field_is_the_stored_field_for_every_sample(sizes):
    mean = torch.randn(2, *sizes)
    y = MeanField(mean)(torch.randn(3, 1, *sizes))
    torch.testing.assert_close(y, mean.expand(3, 2, *sizes), rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(6,), (6, 5), (4, 5, 6)])
def test_mean_per_channel_is_constant_in_space(sizes):
    y = MeanField(torch.tensor([1.0, -2.0]))(torch.randn(3, 1, *sizes))
    assert y.shape == (3, 2, *sizes)
    assert (y[:, 0] == 1).all()
    assert (y[:, 1] == -2).all()


@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_linear_mean_field_is_resampled_exactly_between_the_outer_cell_centres(n_axes):
    centres = [(torch.arange(float(n)) + 0.5) / n for n in (8, 12)]
    coarse, fine = (sum(torch.meshgrid(*[c] * n_axes, indexing="ij")) for c in centres)
    y = MeanField(coarse[None])(torch.zeros(1, 1, *[12] * n_axes))[0, 0]
    inside = (slice(1, -1),) * n_axes
    torch.testing.assert_close(y[inside], fine[inside])


def test_a_mean_field_on_nodes_is_resampled_exactly_up_to_both_ends():
    axes = [Axis("x", grid="nodes"), Axis("y", grid="nodes", upper=2.0)]
    coarse, fine = (
        sum(torch.meshgrid(torch.linspace(0, 1, n), torch.linspace(0, 2, m), indexing="ij"))
        for n, m in ((5, 9), (7, 4))
    )
    torch.testing.assert_close(MeanField(coarse[None], axes)(torch.zeros(1, 1, 7, 4))[0, 0], fine)


def test_a_mean_field_is_resampled_around_a_periodic_axis():
    axis = Axis("x", grid="periodic_nodes", boundary=("periodic", "periodic"))
    y = MeanField(torch.tensor([[0.0, 1.0, 2.0, 5.0]]), [axis])(torch.zeros(1, 1, 8))[0, 0]
    torch.testing.assert_close(y, torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.5, 5.0, 2.5]))


def test_mean_field_with_other_axes_is_refused():
    with pytest.raises(UserError, match="it has 1 spatial axes, the input"):
        MeanField(torch.randn(1, 8))(torch.randn(1, 1, 8, 8))
