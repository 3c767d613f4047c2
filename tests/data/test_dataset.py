"""Windows of one or many files as samples and as batches."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.layout import FileLayout
from katops.data.resample import Resample
from katops.data.splits import split
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import Channel


@pytest.fixture
def ragged(write_katops, fields) -> list[FileLayout]:
    """Three files of one kind with trajectories of 7, 4 and 7 frames; velocities tell where they come from."""
    layouts = []
    for number, frames in enumerate((7, 4, 7)):
        path = write_katops(
            {
                "coefficient": ("input", fields["coefficient"] + number),
                "velocity": ("state", fields["velocity"][:, :frames] + 100 * number),
            },
            times=1.0 + 0.5 * np.arange(frames),
            name=f"part{number}.h5",
            parameters={"viscosity": number + np.linspace(0.1, 0.9, 9)},
        )
        layouts.append(describe(path))
    return layouts


def test_a_steady_sample_is_one_frame_in_and_one_frame_out(steady, fields):
    dataset = FieldDataset(describe(steady))
    assert len(dataset) == 9
    sample = dataset[3]
    assert sample.x.shape == sample.y.shape == (1, 1, 12, 20)
    np.testing.assert_array_equal(sample.y[0, 0], fields["pressure"][3])
    assert sample.time is None
    assert sample.index.tolist() == [0, 3, 0, 1]
    assert (sample.times_in, sample.scalars_in, sample.constants, sample.parameters) == (None, None, None, None)


def test_a_window_of_a_trajectory_has_frames_lead_time_parameters_and_index(moving, fields):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=2, gap=1, every=1, stride=2))
    batch = dataset.read([3, 0])
    assert batch.index.tolist() == [[0, 1, 2, 1], [0, 0, 0, 1]]
    assert batch.x.shape == (2, 2, 2, 12, 20)
    assert batch.y.shape == (2, 2, 1, 12, 20)
    np.testing.assert_array_equal(batch.x[0, :, 0], np.stack([fields["coefficient"][1]] * 2))
    np.testing.assert_array_equal(batch.x[0, :, 1], fields["velocity"][1, 2:4])
    np.testing.assert_array_equal(batch.y[0, :, 0], fields["velocity"][1, 5:7])
    np.testing.assert_allclose(batch.time, [1.5, 1.5])
    np.testing.assert_allclose(batch.times_in, [[2.0, 2.5], [1.0, 1.5]])
    np.testing.assert_allclose(batch.times_out, [[3.5, 4.0], [2.5, 3.0]])
    np.testing.assert_allclose(batch.parameters, [[0.2], [0.1]])


def test_the_description_follows_window_and_subsampling(moving):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=1, every=3), resample=Resample(4))
    assert (dataset.meta.in_channels, dataset.meta.out_channels) == (4, 1)
    assert dataset.meta.time_step == pytest.approx(1.5)
    assert dataset.space == (3, 5) == tuple(dataset[0].x.shape[-2:])


def test_subsampling_real_darcy_data_gives_the_published_coarse_file(shared):
    statement = {"inputs": ["x"], "outputs": ["y"], "axes": ["sample", "x", "y"], "grid": "periodic_nodes"}
    fine = FieldDataset(describe(shared / "data/pde/darcy_test_32.h5", **statement), resample=Resample(2))
    coarse = FieldDataset(describe(shared / "data/pde/darcy_test_16.h5", **statement))
    fine_batch, coarse_batch = (dataset.read(range(50)) for dataset in (fine, coarse))
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
    batch = dataset.read(range(400))
    trajectory = FieldDataset(
        describe(layout.path, inputs=["y"], outputs=["y"], axes=["sample", "time", "x"]),
        window=Window(n_out=16),
        dtype=torch.float64,
    ).read(range(400))
    # In this file frame 0 of y is x, so that both readings agree.
    assert torch.equal(batch.x, trajectory.x)
    assert torch.equal(batch.y, trajectory.y)
    torch.testing.assert_close(batch.time, torch.ones(400, dtype=torch.float64))


def test_without_outputs_there_is_no_target_and_the_last_frame_is_an_input(moving):
    dataset = FieldDataset(describe(moving, outputs=[]), window=Window(n_in=2, n_out=3))
    assert len(dataset) == 9 * 6
    sample = dataset[5]
    assert sample.y is None
    assert sample.index.tolist() == [0, 0, 5, 1]
    assert sample.time == pytest.approx(1.5)


def test_one_sample_equals_its_place_in_a_batch(moving):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2))
    batch = dataset.read([11, 4])
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
    batch = dataset.read(dataset.of_samples([6, 2]))
    assert batch.index.tolist() == [[0, m, s, 1] for m in (6, 2) for s in (0, 2, 4)]


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
        (
            {"window": Window(n_in=4, n_out=4)},
            r"spans 8 frames.*sample 0 of .*moving.h5 has 7 \(and 8 more.*at most 7 frames",
        ),
        ({"resample": Resample(12)}, "leaves 1 of the 12 points"),
        ({"memory": "disk"}, "unknown data.memory 'disk'"),
        ({"exclude": [9]}, "sample 9; the samples are numbered 0 to 8"),
        ({"exclude": range(9)}, "none of the 9 samples"),
        ({"dtype": torch.float16}, "torch.float16"),
    ],
)
def test_options_that_do_not_fit_the_file_are_refused(moving, options, message):
    with pytest.raises(UserError, match=message):
        FieldDataset(describe(moving), **options)


def test_a_steady_problem_has_no_frames_to_ask_for(steady):
    with pytest.raises(UserError, match=r"no channel has a time axis.*n_in 10"):
        FieldDataset(describe(steady), window=Window(n_in=10))


def test_samples_are_counted_file_after_file_and_may_differ_in_length(ragged, fields):
    dataset = FieldDataset(ragged, window=Window(n_in=2, n_out=1, every=1))
    assert dataset.n_samples == 27
    assert len(dataset) == 9 * (5 + 2 + 5)
    files, samples, starts = dataset.locate(np.arange(len(dataset)))
    expected = [(f, m, s) for f, frames in enumerate((7, 4, 7)) for m in range(9) for s in range(frames - 2)]
    assert list(zip(files.tolist(), samples.tolist(), starts.tolist(), strict=True)) == expected
    batch = dataset.read([100, 46, 60, 3])
    assert batch.index.tolist() == [[2, 7, 2, 1], [1, 0, 1, 1], [1, 7, 1, 1], [0, 0, 3, 1]]
    np.testing.assert_allclose(batch.x[2, 1, 1], fields["velocity"][7, 2] + 100, rtol=1e-6)
    np.testing.assert_allclose(batch.y[0, 0, 0], fields["velocity"][7, 4] + 200, rtol=1e-6)
    np.testing.assert_allclose(batch.parameters[:, 0], [2.8, 1.1, 1.8, 0.1], rtol=1e-6)


def test_a_part_of_a_split_goes_over_all_files(ragged):
    dataset = FieldDataset(ragged, window=Window(n_in=1, n_out=1))
    parts = split(dataset.n_samples, validation=5, test=5)
    flat = [dataset.of_samples(part) for part in (parts.train, parts.validation, parts.test)]
    assert sorted(np.concatenate(flat).tolist()) == list(range(len(dataset)))
    files, samples, _ = dataset.locate(flat[2])
    assert set((9 * files + samples).tolist()) == set(parts.test.tolist())


def test_a_trajectory_too_short_for_the_window_is_named_and_may_be_excluded(ragged):
    message = (
        r"spans 6 frames.*sample 0 of .*part1.h5 \(sample 9 of all files\) has 4 \(and 8 more of 27 are too short\)"
    )
    with pytest.raises(UserError, match=message + r"; make the window at most 4 frames long, or exclude"):
        FieldDataset(ragged, window=Window(n_in=2, n_out=4))
    dataset = FieldDataset(ragged, window=Window(n_in=2, n_out=4), exclude=range(9, 18))
    assert (len(dataset), dataset.n_samples) == (18 * 2, 27)
    assert len(dataset.of_samples(range(9, 18))) == 0
    # The others keep their numbers.
    assert dataset.read(dataset.of_samples([20])).index.tolist() == [[2, 2, 0, 1], [2, 2, 1, 1]]
    with pytest.raises(UserError, match="sample 10 is excluded"):
        dataset.trajectory(10)


def test_an_excluded_sample_may_hold_anything(write_plain, plane):
    values = np.ones((3, 12, 20))
    values[1, 5, 5] = np.nan
    layout = describe(write_plain(a=np.ones((3, 12, 20)), b=values), **plane)
    dataset = FieldDataset(layout, exclude=[1])
    assert dataset.read(range(len(dataset))).index[:, 1].tolist() == [0, 2]


def test_a_trajectory_is_its_first_frames_and_all_later_ones(ragged, fields):
    dataset = FieldDataset(ragged, window=Window(n_in=2, n_out=1, gap=1, every=2), exclude=range(9, 18))
    whole = dataset.trajectory(22)
    assert whole.index.tolist() == [2, 4, 0, 2]
    np.testing.assert_allclose(whole.x[:, 1], fields["velocity"][4, [0, 2]] + 200, rtol=1e-6)
    np.testing.assert_allclose(whole.y[:, 0], fields["velocity"][4, [4, 6]] + 200, rtol=1e-6)
    assert whole.times_in.tolist() == [1.0, 2.0]
    assert whole.times_out.tolist() == [3.0, 4.0]
    assert whole.time == pytest.approx(2.0)
    with pytest.raises(IndexError, match="27 is outside 0 to 26"):
        dataset.trajectory(27)


def test_without_outputs_a_trajectory_is_its_first_frames(moving):
    whole = FieldDataset(describe(moving, outputs=[]), window=Window(n_in=7)).trajectory(3)
    assert whole.y is None
    assert whole.x.shape == (7, 2, 12, 20)


def test_the_trajectory_of_a_steady_sample_is_the_sample(steady):
    dataset = FieldDataset(describe(steady))
    whole, sample = dataset.trajectory(4), dataset[4]
    assert torch.equal(whole.x, sample.x)
    assert torch.equal(whole.y, sample.y)


def test_times_may_be_uneven_and_differ_between_samples(ragged):
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.1, 1.0, (9, 7)), axis=1)
    layout = replace(ragged[0], times=times, meta=replace(ragged[0].meta, time_step=None))
    dataset = FieldDataset([layout, ragged[1]], window=Window(n_in=2, n_out=2), dtype=torch.float64)
    assert dataset.meta.time_step is None
    batch = dataset.read(range(len(dataset)))
    for item, (file, sample, start, _) in enumerate(batch.index.tolist()):
        expected = (times[sample] if file == 0 else ragged[1].times)[start : start + 4]
        np.testing.assert_allclose(batch.times_in[item], expected[:2])
        np.testing.assert_allclose(batch.times_out[item], expected[2:])
        np.testing.assert_allclose(batch.time[item], expected[3] - expected[1])


def test_files_with_different_time_steps_keep_their_own_lead_times(ragged):
    slow = replace(ragged[1], times=2 * ragged[1].times, meta=replace(ragged[1].meta, time_step=1.0))
    dataset = FieldDataset([ragged[0], slow])
    batch = dataset.read([0, len(dataset) - 1])
    assert batch.time.tolist() == [0.5, 1.0]
    assert dataset.meta.time_step is None


def test_scalars_of_frames_follow_the_window(ragged):
    scalars = np.random.default_rng(0).normal(size=(9, 7, 2))
    meta = replace(ragged[0].meta, scalars=(Channel("flow"), Channel("force")))
    own = replace(ragged[0], meta=meta, scalars=scalars)
    shared = replace(ragged[2], meta=meta, scalars=scalars[4:5])
    dataset = FieldDataset([own, shared], window=Window(n_in=2, n_out=1, gap=1), dtype=torch.float64)
    batch = dataset.read(range(len(dataset)))
    for item, (file, sample, start, _) in enumerate(batch.index.tolist()):
        row = scalars[sample if file == 0 else 4]
        np.testing.assert_array_equal(batch.scalars_in[item], row[start : start + 2])
        np.testing.assert_array_equal(batch.scalars_out[item], row[start + 3 : start + 4])


def test_constants_are_handed_out_once_and_resampled_like_the_rest(moving, fields):
    layout = describe(moving)
    static = next(array for array in layout.inputs if not array.has_time)
    others = tuple(array for array in layout.inputs if array.has_time)
    meta = replace(layout.meta, inputs=tuple(array.channel for array in others), constants=(static.channel,))
    dataset = FieldDataset(
        replace(layout, inputs=others, constants=(static,), meta=meta),
        window=Window(n_in=2),
        resample=Resample((2, 4), "block_mean"),
    )
    batch = dataset.read([7, 0])
    assert batch.constants.shape == (2, 1, 6, 5)
    assert batch.x.shape == (2, 2, 1, 6, 5)
    means = fields["coefficient"].reshape(9, 6, 2, 5, 4).mean((2, 4))
    np.testing.assert_allclose(batch.constants[:, 0], means[[1, 0]], rtol=1e-6)
    assert dataset.meta.in_channels == 3
    assert dataset[7].constants.shape == (1, 6, 5)


@pytest.mark.parametrize(("method", "factor"), [("stride", (5, 3)), ("block_mean", (3, 4)), ("stride", (1, 7))])
def test_resampled_fields_are_those_of_the_file(moving, fields, method, factor):
    dataset = FieldDataset(describe(moving), resample=Resample(factor, method, ((0, 12), (4, 16))))
    expected = Resample(factor, method).apply(fields["velocity"][:, :, :, 4:16], 2)
    batch = dataset.read(range(len(dataset)))
    rows = batch.index.numpy()
    np.testing.assert_array_equal(batch.x[:, 0, 1], expected[rows[:, 1], rows[:, 2]])
    for axis, size, ours in zip(dataset.layout.meta.axes, (12, 20), dataset.meta.axes, strict=True):
        points = axis.coordinates(size)[slice(4, 16) if axis.name == "y" else slice(None)]
        position = 0 if axis.name == "x" else 1
        kept = Resample(factor[position], method).apply(points, 1)
        np.testing.assert_allclose(ours.coordinates(len(kept)), kept, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: {"inputs": meta.inputs[::-1]}, r"the inputs are \(velocity, coefficient\) in the former"),
        (lambda meta: {"parameters": (Channel("viscosity", "m2/s"),)}, r"viscosity \[m2/s\]"),
        (lambda meta: {"time_unit": "ms"}, "the times are told in ms in the former and told in s"),
        (lambda meta: {"axes": (meta.axes[0], replace(meta.axes[1], upper=2.5))}, "axis 1 is Axis.*upper=2.5"),
        (lambda meta: {"axes": (replace(meta.axes[0], boundary=("open", "open")), meta.axes[1])}, "axis 0 is"),
    ],
)
def test_files_that_do_not_belong_together_are_refused_by_name(ragged, change, message):
    other = replace(ragged[1], meta=replace(ragged[1].meta, **change(ragged[1].meta)))
    with pytest.raises(UserError, match=message) as caught:
        FieldDataset([ragged[0], other])
    assert "part1.h5" in str(caught.value)
    assert "part0.h5" in str(caught.value)


def test_coordinates_may_differ_by_their_rounding(ragged):
    axes = (replace(ragged[1].meta.axes[0], upper=1.0 + 1e-7), ragged[1].meta.axes[1])
    other = replace(ragged[1], meta=replace(ragged[1].meta, axes=axes))
    assert len(FieldDataset([ragged[0], other])) == 9 * (6 + 3)


@pytest.mark.parametrize("place", ["parameters", "times"])
def test_parameters_and_times_that_are_not_finite_are_refused_unless_excluded_or_allowed(ragged, place):
    values = np.array(np.broadcast_to(ragged[1].times, (9, 4)) if place == "times" else ragged[1].parameters)
    values[5] = np.nan
    broken = [ragged[0], replace(ragged[1], **{place: values})]
    with pytest.raises(UserError, match=r"part1.h5: '(viscosity|time)' of sample 5 is nan"):
        FieldDataset(broken)
    assert len(FieldDataset(broken, exclude=[14])) == 9 * 6 + 8 * 3
    assert len(FieldDataset(broken, allow_nonfinite=True)) == 9 * (6 + 3)


def test_a_file_that_is_moved_after_it_was_used_is_named(moving):
    dataset = FieldDataset(describe(moving), memory="file")
    dataset[0]
    duplicate = pickle.loads(pickle.dumps(dataset))
    moving.rename(moving.with_name("elsewhere.h5"))
    for one in (dataset, duplicate, copy.deepcopy(dataset)):
        with pytest.raises(UserError, match=r"moving\.h5"):
            one[1]
