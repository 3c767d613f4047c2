"""An ensemble as one network computes what its members compute, and nothing passes between them."""

import pytest
import torch

from katops.estimators.joint import build_members, joint_model
from katops.estimators.regressor import KANRegressor
from katops.estimators.settings import Settings


def members(hidden: tuple[int, ...], **options) -> list:
    settings = Settings.checked(KANRegressor(hidden=hidden, **options).get_params())
    return [net.double() for net in build_members(settings, 3, 2, [1, 2, 3])]


@pytest.mark.parametrize("hidden", [(), (4,), (4, 3)])
@pytest.mark.parametrize("linear", [True, False])
def test_it_gives_the_outputs_of_its_members(hidden, linear):
    each = members(hidden, network={"linear": linear})
    joint = joint_model(each).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    expected = torch.stack([net(x) for net in each], dim=1)
    torch.testing.assert_close(joint(joint.features(x)), expected)
    for taken, net in zip(joint.members(joint.snapshots()), each, strict=True):
        assert torch.equal(taken(x), net(x))


def test_a_member_has_no_gradient_from_another():
    joint = joint_model(members((4, 3))).double()
    x = torch.randn(20, 3, dtype=torch.float64)
    joint(joint.features(x))[:, 1].sum().backward()
    for layer in joint.net.layers:
        of_member = layer.coefficients.grad.abs().sum(dim=(1, 2)).unflatten(0, (3, -1)).sum(dim=1)
        assert of_member[1] > 0
        assert of_member[[0, 2]].tolist() == [0, 0]


def test_moved_and_refined_grids_come_back_with_the_members():
    joint = joint_model(members((4,))).double()
    x = torch.randn(200, 3, dtype=torch.float64)
    before = joint.members(joint.snapshots())
    joint.update_grid(x)
    moved = joint(joint.features(x)).detach()
    for place, net in enumerate(joint.members(joint.snapshots())):
        torch.testing.assert_close(net(x), moved[:, place])
    joint.refine(6)
    for place, net in enumerate(joint.members(joint.snapshots())):
        torch.testing.assert_close(net(x), moved[:, place])
        assert net.layers[1].basis.intervals == 6
        assert net.recipe["arguments"]["basis_layer"]["intervals"] == 6
        assert before[place].recipe["arguments"]["basis_layer"]["intervals"] == 3


def test_penalties_are_the_sums_of_those_of_the_members():
    each = members((4,))
    joint = joint_model(each).double()
    x = torch.randn(50, 3, dtype=torch.float64)
    torch.testing.assert_close(joint.penalty(x), sum(net.penalty(x) for net in each))


def test_members_are_drawn_from_their_seeds_alone():
    first = members((4,))[0].state_dict()
    torch.manual_seed(7)
    again = members((4,))[0].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
