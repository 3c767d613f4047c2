"""Channels that files lack, masks, and several data sets as one."""

import numpy as np
import pytest
import torch

from katops.data.adjustment import Adjustment
from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.joint_statistics import Share, joint_statistics
from katops.data.loader import batch_loader
from katops.data.mixture import MixedDataset
from katops.data.order import Mixing
from katops.data.pairs import Pairs
from katops.data.statistics.fields import field_statistics
from katops.data.windows import Window
from katops.errors import UserError

NAMES = ["density", "velocity", "pressure"]


@pytest.fixture
def incompressible(write_katops, fields):
    """A file with the velocity alone, as (density 1, velocity, pressure 0 that is not learned)."""
    path = write_katops({"velocity": ("state", fields["velocity"])}, times=0.5 * np.arange(7), name="flow.h5")
    dataset = FieldDataset(describe(path), window=Pairs((0, 2, 4)))
    options = {"fill": {"density": 1.0, "pressure": 0.0}, "mask": {"pressure": None}}
    return AlignedDataset(dataset, inputs=NAMES, outputs=NAMES, **options)


@pytest.fixture
def compressible(write_katops, fields):
    """A file with all three."""
    velocity = fields["velocity"]
    states = {"pressure": 5 + velocity, "velocity": 3 * velocity, "density": 2 + 0.1 * velocity}
    path = write_katops({name: ("state", values) for name, values in states.items()}, times=range(7), name="gas.h5")
    return FieldDataset(describe(path, inputs=NAMES, outputs=NAMES), window=Pairs((0, 3, 6)))


def test_filled_channels_have_their_value_and_the_others_what_is_in_the_file(incompressible, fields):
    sample = incompressible.read([0, 7])
    assert [channel.name for channel in incompressible.meta.inputs] == NAMES
    assert torch.equal(sample.x[:, :, 0], torch.ones(2, 1, 12, 20))
    np.testing.assert_array_equal(sample.x[0, 0, 1], fields["velocity"][0, 0])
    assert not sample.y[:, :, 2].any()
    assert sample.mask.tolist() == [[False, False, True]] * 2


def test_a_field_can_fill_a_channel_and_an_input_can_mask_points(write_katops, fields):
    path = write_katops({"coefficient": ("input", fields["coefficient"]), "pressure": ("output", fields["pressure"])})
    forcing = np.arange(240.0).reshape(12, 20)
    aligned = AlignedDataset(
        FieldDataset(describe(path, inputs=["coefficient"], outputs=["pressure"])),
        inputs=["forcing", "coefficient"],
        outputs=["pressure"],
        fill={"forcing": forcing},
        mask={"pressure": "coefficient"},
        lead_time=1.0,
    )
    sample = aligned.read([3, 5])
    np.testing.assert_array_equal(sample.x[1, 0, 0], forcing.astype(np.float32))
    np.testing.assert_array_equal(sample.mask[:, 0], fields["coefficient"][[3, 5]] != 0)
    assert sample.time.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fill": {"density": 1.0}}, "'pressure', which is not there and not in data.fill"),
        ({"fill": {"density": 1.0, "pressure": 0.0, "velocity": 0.0}}, "both in the files and in data.fill"),
        ({"fill": {"density": 1.0, "pressure": 0.0, "presure": 0.0}}, "'presure', which is no channel; did you mean"),
        ({"fill": {"density": np.ones(3), "pressure": 0.0}}, "the grid has"),
        ({"fill": {"density": 1.0, "pressure": 0.0}, "mask": {"presure": None}}, "data.mask names 'presure'"),
        ({"fill": {"density": 1.0, "pressure": 0.0}, "mask": {"velocity": "wall"}}, "which is no input of the files"),
        ({"fill": {"density": 1.0, "pressure": 0.0}, "lead_time": 1.0}, "lead_time is for steady problems"),
    ],
)
def test_channels_that_do_not_fit_are_refused(incompressible, options, words):
    with pytest.raises(UserError, match=words):
        AlignedDataset(incompressible.source, inputs=NAMES, outputs=NAMES, **options)


def test_a_mixture_hands_out_what_its_parts_do(incompressible, compressible):
    mixed = MixedDataset([incompressible, compressible])
    assert len(mixed) == len(incompressible) + len(compressible) == 108
    order = [60, 2, 107, 54, 5]
    sample = mixed.read(order)
    for row, number in enumerate(order):
        part, within = (incompressible, number) if number < 54 else (compressible, number - 54)
        alone = part.read([within])
        assert torch.equal(sample.x[row], alone.x[0])
        assert torch.equal(sample.y[row], alone.y[0])
        assert sample.time[row] == alone.time[0]
        assert sample.index[row].tolist()[1:] == alone.index[0].tolist()[1:]
    assert sample.index[:, 0].tolist() == [1, 0, 1, 1, 0]
    assert sample.mask[:, 2].tolist() == [False, True, False, False, True]
    assert mixed.samples_of(mixed.of_samples([1, 12])).tolist() == [1, 12]


def test_a_mixture_of_different_channels_or_grids_is_refused(incompressible, compressible):
    with pytest.raises(UserError, match="name the same ones in the same order"):
        MixedDataset([compressible, incompressible.source])


def test_joint_statistics_are_those_of_all_windows_and_leave_masked_fillings_out(incompressible, compressible):
    mixed = MixedDataset([incompressible, compressible])
    shares = [
        Share(incompressible, field_statistics(incompressible.source, np.arange(54)), 2.0),
        Share(compressible, field_statistics(compressible, np.arange(54)), 1.0),
    ]
    joint = joint_statistics(shares, mixed.meta)
    samples = mixed.read(np.arange(108))
    weights = np.repeat([2.0, 1.0], 54)[:, None]
    velocity = samples.y[:, 0, 1].double().flatten(1).numpy()
    mean = (weights * velocity).sum() / (weights.sum() * 240)
    assert joint.outputs[1].mean == pytest.approx(mean, abs=1e-8)
    assert joint.outputs[1].std == pytest.approx(
        ((weights * (velocity - mean) ** 2).sum() / (weights.sum() * 240)) ** 0.5
    )
    density = samples.y[:, 0, 0].double().flatten(1).numpy()
    assert joint.outputs[0].mean == pytest.approx((weights * density).sum() / (weights.sum() * 240))
    # Nothing is known of the pressure of the incompressible fluid, so the other data set decides.
    pressure = samples.y[54:, 0, 2].double().numpy()
    assert joint.outputs[2].mean == pytest.approx(pressure.mean())
    assert joint.outputs[2].std == pytest.approx(pressure.std())
    target = (weights[:, :, None, None] * samples.y[:, 0].double().numpy()).sum(0) / weights.sum()
    np.testing.assert_allclose(joint.target_mean[0, :2], target[:2], atol=1e-6)
    np.testing.assert_allclose(joint.target_mean[0, 2], pressure.mean(0), atol=1e-6)


def test_windows_of_different_lengths_are_refused(write_katops, fields):
    path = write_katops({"velocity": ("state", fields["velocity"])}, times=range(7))
    parts = [FieldDataset(describe(path), window=Window(n_in=n_in)) for n_in in (1, 2)]
    with pytest.raises(UserError, match="have 2 frames in and 1 out"):
        MixedDataset(parts)


def test_filled_channels_are_moved_too(incompressible):
    moved = AlignedDataset(
        incompressible.source,
        inputs=NAMES,
        outputs=NAMES,
        fill=incompressible.fill,
        adjustment=Adjustment({"pressure": 5.0}),
    )
    assert (moved.read([0]).y[:, :, 2] == -5).all()
    statistics = field_statistics(incompressible.source, np.arange(54))
    joint = joint_statistics([Share(moved, statistics)], moved.meta)
    assert joint.outputs[2].mean == -5
    assert (joint.target_mean[:, 2] == -5).all()


def mixing(weights=(1.0, 0.5), together=1):
    sources = np.repeat([0, 1], [30, 40])
    return Mixing(sources, np.arange(70) // 5, weights, together)


def test_weights_say_how_often_windows_are_drawn():
    drawn = mixing((2.5, 0.25)).order(seed=0, epoch=0)
    counts = np.bincount(drawn, minlength=70)
    assert len(drawn) == len(mixing((2.5, 0.25))) == 75 + 10
    assert set(counts[:30]) == {2, 3}
    assert counts[:30].sum() == 75
    assert set(counts[30:]) == {0, 1}
    assert set(mixing((2.5, 0.25)).order(0, 1)) != set(drawn)


def test_the_order_is_a_pure_function_of_seed_and_epoch_and_keeps_trajectories_together():
    plan = mixing((1.0, 1.0), together=5)
    order = plan.order(3, 7)
    assert order.tolist() == plan.order(3, 7).tolist()
    assert order.tolist() != plan.order(3, 8).tolist()
    assert sorted(order) == list(range(70))
    owners = plan.owners[order].reshape(-1, 5)
    assert (owners == owners[:, :1]).all()
    assert len(set(owners[:, 0])) == 14


def test_nothing_to_draw_is_refused():
    with pytest.raises(UserError, match="leave nothing to draw"):
        mixing((0.0, 0.0))
    with pytest.raises(UserError, match="leave nothing to draw"):
        mixing((-1.0, 1.0))


def test_a_loader_of_a_mixture_continues_where_it_stopped(incompressible, compressible):
    mixed = MixedDataset([incompressible, compressible])
    sources = np.repeat([0, 1], 54)
    plan = Mixing(sources, np.arange(108) // 6, (0.5, 1.5), 3)

    def loader():
        return batch_loader(mixed, batch_size=10, shuffle=True, seed=4, mixing=plan)

    whole = [batch.index for batch in loader()]
    assert sum(map(len, whole)) == 27 + 81
    first = loader()
    batches = iter(first)
    for _ in range(3):
        next(batches)
    state = first.state_dict()
    batches.close()
    second = loader()
    second.load_state_dict(state)
    assert all(torch.equal(a.index, b) for a, b in zip(second, whole[3:], strict=True))


def test_an_offset_is_subtracted_from_fields_statistics_and_mean_targets(compressible):
    moved = AlignedDataset(compressible, inputs=NAMES, outputs=NAMES, adjustment=Adjustment({"pressure": 5.0}))
    ours, theirs = moved.read([1, 4]), compressible.read([1, 4])
    torch.testing.assert_close(ours.x[:, :, 2], theirs.x[:, :, 2] - 5)
    assert torch.equal(ours.y[:, :, :2], theirs.y[:, :, :2])
    statistics = field_statistics(compressible, np.arange(54))
    joint = joint_statistics([Share(moved, statistics)], moved.meta)
    assert joint.outputs[2].mean == pytest.approx(statistics.outputs[2].mean - 5)
    assert joint.outputs[2].std == pytest.approx(statistics.outputs[2].std)
    np.testing.assert_allclose(joint.target_mean[:, 2], statistics.target_mean[:, 2] - 5)
