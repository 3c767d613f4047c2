"""The losses of a training: scaled metrics, channel groups, masks."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from katops.config import Component
from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.metrics import relative_l2
from katops.training.losses import build_loss, without_masked

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "scot_conditioned.safetensors"


def fluid(names=("density", "velocity_x", "velocity_y", "pressure")):
    channels = tuple(
        Channel(name, quantity="velocity", component=("xy".index(name[-1]),)) if "_" in name else Channel(name)
        for name in names
    )
    return FieldMeta("fluid", channels, channels, (Axis("x"), Axis("y")), time_step=0.1)


def tensors(meta, batch=3):
    torch.manual_seed(0)
    return torch.randn(2, batch, 1, len(meta.outputs), 6, 8).double().unbind()


def test_components_of_one_quantity_are_one_group():
    assert fluid().output_groups == {"density": (0,), "velocity": (1, 2), "pressure": (3,)}


def test_the_group_loss_is_the_mean_over_groups_of_ratios_of_batch_means():
    meta = fluid()
    prediction, target = tensors(meta)
    normalizer = Normalizer(meta, dtype=torch.float64)
    normalizer.state({"density": (0.8, 0.31), "pressure": (0.2, 0.185)})
    loss = build_loss(Component(name="channel_groups"), normalizer, meta)(prediction, target, None)
    p, t = normalizer.encode_output(prediction), normalizer.encode_output(target)
    expected = [(p[:, :, g] - t[:, :, g]).abs().mean() / t[:, :, g].abs().mean() for g in ([0], [1, 2], [3])]
    assert float(loss) == pytest.approx(float(sum(expected) / 3), rel=1e-9)


def test_a_group_that_is_masked_for_all_contributes_nothing_and_gets_no_gradient():
    meta = fluid()
    prediction, target = tensors(meta)
    prediction.requires_grad_()
    mask = torch.tensor([False, False, False, True]).expand(3, 4)
    target = target.clone()
    target[:, :, 3] = 0
    loss = build_loss(Component(name="channel_groups"), Normalizer(meta), meta)
    value = loss(prediction, target, mask)
    value.backward()
    value, prediction_then = value.detach(), prediction.detach()
    assert torch.isfinite(value)
    assert not prediction.grad[:, :, 3].any()
    assert prediction.grad[:, :, :3].all()
    others = [[0], [1, 2]]
    expected = sum((prediction_then - target)[:, :, g].abs().mean() / target[:, :, g].abs().mean() for g in others) / 3
    assert float(value) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="the golden files are not beside the project")
def test_the_group_loss_is_the_published_one():
    with safe_open(GOLDEN, "pt") as file:
        output, labels, expected = (file.get_tensor(name) for name in ("output", "labels", "loss"))
        slices = json.loads(file.metadata()["config"])["channel_slice_list_normalized_loss"]
    names = [f"channel {position}" for position in range(output.shape[1])]
    channels = tuple(map(Channel, names))
    meta = FieldMeta("golden", channels, channels, (Axis("x"), Axis("y")))
    groups = [names[first:last] for first, last in pairwise(slices)]
    loss = build_loss(Component(name="channel_groups", groups=groups), Normalizer(meta), meta)
    assert float(loss(output[:, None], labels[:, None], None)) == pytest.approx(float(expected), rel=1e-5)


def test_a_metric_is_taken_of_scaled_fields():
    meta = fluid()
    prediction, target = tensors(meta)
    normalizer = Normalizer(meta, dtype=torch.float64)
    normalizer.state({"pressure": (3.0, 10.0)})
    scale = torch.tensor([1.0, 1, 1, 10]).view(4, 1, 1)
    value = build_loss(Component(name="relative_l2"), normalizer, meta)(prediction, target, None)
    expected = relative_l2((prediction / scale).flatten(1, 2), (target / scale).flatten(1, 2)).mean()
    assert float(value) == pytest.approx(float(expected))


def test_a_group_without_size_counts_with_its_distance():
    meta = fluid(("density",))
    normalizer = Normalizer(meta)
    normalizer.state({"density": (1.0, 0.5)})
    target = torch.ones(2, 1, 1, 4, 4)
    loss = build_loss(Component(name="channel_groups"), normalizer, meta)(target + 0.01, target, None)
    assert float(loss) == pytest.approx(0.02, rel=1e-4)


def test_what_is_masked_is_not_part_of_what_an_error_is_relative_to():
    meta = fluid()
    prediction, target = tensors(meta)
    mask = torch.tensor([False, False, False, True]).expand(3, 4)
    loss = build_loss(Component(name="relative_l2"), Normalizer(meta, dtype=torch.float64), meta)
    value = loss(prediction, target, mask)
    target[:, :, 3] = 1e6
    assert float(loss(prediction, target, mask)) == pytest.approx(float(value))


def test_masked_points_take_the_target():
    prediction, target = torch.zeros(2, 1, 1, 4, 4), torch.ones(2, 1, 1, 4, 4)
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[1, 0, :2] = True
    replaced = without_masked(prediction, target, mask)
    assert replaced[0].sum() == 0
    assert replaced[1].sum() == 8
    assert without_masked(prediction, target, None) is prediction


@pytest.mark.parametrize(
    ("component", "words"),
    [
        (Component(name="channel_group"), "unknown train.loss 'channel_group'; did you mean 'channel_groups'"),
        (Component(name="channel_groups", order=3), "allowed: 1"),
        (Component(name="channel_groups", groups=[["density"]]), "every output channel belongs to one group"),
        (Component(name="channel_groups", meta=1), "set by katops"),
        (Component(name="relative_l2", n_axes=2), "set by katops"),
    ],
)
def test_wrong_losses_are_refused_in_a_sentence(component, words):
    with pytest.raises(UserError, match=words):
        build_loss(component, Normalizer(fluid()), fluid())
