"""Windows of a file as samples and as batches."""

import copy
import pickle

import numpy as np
import pytest
import torch

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.layout import subsampled_axis
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import Axis


def test_a_steady_sample_is_one_frame_in_and_one_frame_out(steady, fields):
    dataset = FieldDataset(describe(steady))
    assert len(dataset) == 9
    sample = dataset[3]
    assert sample.x.shape == sample.y.shape == (1, 1, 12, 20)
    np.testing.assert_array_equal(sample.y[0, 0], fields["pressure"][3])
    assert sample.time is None
    assert sample.index.tolist() == [3, 0]


def test_a_window_of_a_trajectory_has_frames_lead_time_parameters_and_index(moving, fields):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=2, gap=1, every=1, stride=2))
    batch = dataset.__getitems__([3, 0])
    assert batch.index.tolist() == [[1, 2], [0, 0]]
    assert batch.x.shape == (2, 2, 2, 12, 20)
    assert batch.y.shape == (2, 2, 1, 12, 20)
    np.testing.assert_array_equal(batch.x[0, :, 0], np.stack([fields["coefficient"][1]] * 2))
    np.testing.assert_array_equal(batch.x[0, :, 1], fields["velocity"][1, 2:4])
    np.testing.assert_array_equal(batch.y[0, :, 0], fields["velocity"][1, 5:7])
    np.testing.assert_allclose(batch.time, [1.5, 1.5])
    np.testing.assert_allclose(batch.parameters, [[0.2], [0.1]])


def test_the_description_follows_window_and_subsampling(moving):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=1, every=3), subsample=4)
    assert (dataset.meta.in_channels, dataset.meta.out_channels) == (4, 1)
    assert dataset.meta.time_step == pytest.approx(1.5)
    assert dataset.space == (3, 5) == tuple(dataset[0].x.shape[-2:])


@pytest.mark.parametrize("grid", ["cell_centres", "nodes", "periodic_nodes"])
@pytest.mark.parametrize(("size", "step"), [(12, 2), (13, 4), (20, 3), (9, 1)])
def test_a_subsampled_axis_has_the_coordinates_of_the_points_that_are_kept(grid, size, step):
    axis = Axis("x", grid=grid, lower=-1.0, upper=2.0)
    kept = axis.coordinates(size)[::step]
    np.testing.assert_allclose(subsampled_axis(axis, size, step).coordinates(len(kept)), kept, atol=1e-12)


def test_a_period_is_never_cut_by_subsampling():
    axis = Axis("x", grid="periodic_nodes", boundary=("periodic", "periodic"))
    assert subsampled_axis(axis, 12, 3) == axis
    with pytest.raises(UserError, match="does not divide the 13 points of the periodic axis"):
        subsampled_axis(axis, 13, 3)


def test_subsampling_real_darcy_data_gives_the_published_coarse_file(shared):
    statement = {"inputs": ["x"], "outputs": ["y"], "axes": ["sample", "x", "y"], "grid": "periodic_nodes"}
    fine = FieldDataset(describe(shared / "data/pde/darcy_test_32.h5", **statement), subsample=2)
    coarse = FieldDataset(describe(shared / "data/pde/darcy_test_16.h5", **statement))
    fine_batch, coarse_batch = (dataset.__getitems__(range(50)) for dataset in (fine, coarse))
    assert torch.equal(fine_batch.x, coarse_batch.x)
    assert torch.equal(fine_batch.y, coarse_batch.y)
    assert fine.meta.axes == coarse.meta.axes


def test_a_static_input_of_a_moving_output_belongs_to_frame_zero(shared):
    layout = describe(
        shared / "data/pde/burgers_test_16.h5",
        inputs=["x"],
        outputs=["y"],
        axes=["sample", "time", "x"],
        boundary="periodic",
        grid="periodic_nodes",
        time_step=1 / 16,
    )
    dataset = FieldDataset(layout, window=Window(n_out=16), dtype=torch.float64)
    assert len(dataset) == 400
    batch = dataset.__getitems__(range(400))
    trajectory = FieldDataset(
        describe(layout.path, inputs=["y"], outputs=["y"], axes=["sample", "time", "x"]),
        window=Window(n_out=16),
        dtype=torch.float64,
    ).__getitems__(range(400))
    # In this file frame 0 of y is x, so that both readings agree.
    assert torch.equal(batch.x, trajectory.x)
    assert torch.equal(batch.y, trajectory.y)
    torch.testing.assert_close(batch.time, torch.ones(400, dtype=torch.float64))


def test_without_outputs_there_is_no_target_and_the_last_frame_is_an_input(moving):
    dataset = FieldDataset(describe(moving, outputs=[]), window=Window(n_in=2, n_out=3))
    assert len(dataset) == 9 * 6
    sample = dataset[5]
    assert sample.y is None
    assert sample.index.tolist() == [0, 5]
    assert sample.time == pytest.approx(1.5)


def test_one_sample_equals_its_place_in_a_batch(moving):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2))
    batch = dataset.__getitems__([11, 4])
    for place, index in enumerate((11, 4)):
        assert torch.equal(dataset[index].x, batch.x[place])
        assert torch.equal(dataset[index].y, batch.y[place])
    assert torch.equal(dataset[-1].x, dataset[len(dataset) - 1].x)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_used_dataset_can_be_pickled_and_copied(moving, duplicate):
    dataset = FieldDataset(describe(moving))
    first = dataset[7]
    assert torch.equal(duplicate(dataset)[7].x, first.x)


def test_the_samples_of_a_part_are_all_their_windows(moving):
    dataset = FieldDataset(describe(moving), window=Window(stride=2))
    batch = dataset.__getitems__(dataset.of_samples([6, 2]))
    assert batch.index.tolist() == [[m, s] for m in (6, 2) for s in (0, 2, 4)]


def test_values_that_are_not_finite_are_refused_unless_allowed(write_plain, plane):
    values = np.ones((3, 12, 20))
    values[1, 5, 5] = np.nan
    layout = describe(write_plain(a=np.ones((3, 12, 20)), b=values), **plane)
    with pytest.raises(UserError, match="sample 1 of channel 'b'"):
        FieldDataset(layout)[1]
    assert FieldDataset(layout, allow_nonfinite=True)[1].y.isnan().sum() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": Window(n_in=4, n_out=4)}, r"moving.h5: the window spans 8 frames.*has 7"),
        ({"subsample": 12}, "leaves 1 of the 12 points"),
        ({"subsample": 0}, "at least 1"),
        ({"dtype": torch.float16}, "torch.float16"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(moving, options, message):
    with pytest.raises(UserError, match=message):
        FieldDataset(describe(moving), **options)


def test_a_steady_problem_has_no_frames_to_ask_for(steady):
    with pytest.raises(UserError, match=r"no channel has a time axis.*n_in 10"):
        FieldDataset(describe(steady), window=Window(n_in=10))
