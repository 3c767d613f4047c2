"""Normalisation: numpy's two-pass statistics, of the training samples alone, and its own inverse."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.normalize import Normalizer, fit_normalizer
from katops.data.statistics import fields as field_statistics
from katops.data.statistics import window_frames
from katops.data.statistics.fields import field_statistics as statistics_of
from katops.data.statistics.moments import FieldMoments, Moments
from katops.data.windows import Window
from katops.data.writing import StoredField, create_layout, layout_file
from katops.errors import UserError
from katops.fields import Axis

TRAIN = [0, 3, 4, 7]


@pytest.fixture
def small_batches(monkeypatch):
    """Several batches, and several blocks of windows, even for small files."""
    monkeypatch.setattr(field_statistics, "_BATCH_BYTES", 3 * 12 * 20 * 4)
    monkeypatch.setattr(window_frames, "_MOST_FRAMES", 20)


@pytest.mark.usefixtures("small_batches")
def test_statistics_are_those_of_two_passes_over_the_training_samples(steady, fields):
    dataset = FieldDataset(describe(steady))
    fit = fit_normalizer(dataset, TRAIN)
    for side, name in (("input", "coefficient"), ("output", "pressure")):
        values = fields[name][TRAIN].astype(np.float64)
        np.testing.assert_allclose(getattr(fit.normalizer, f"{side}_mean"), [values.mean()], rtol=1e-6)
        np.testing.assert_allclose(getattr(fit.normalizer, f"{side}_std"), [values.std()], rtol=1e-6)
    np.testing.assert_allclose(fit.target_mean[0, 0], fields["pressure"][TRAIN].mean(0), atol=1e-6)
    assert fit.target_mean.shape == (1, 1, 12, 20)
    assert fit.count == 4


@pytest.mark.usefixtures("small_batches")
def test_the_order_of_the_training_samples_changes_no_bit(steady):
    dataset = FieldDataset(describe(steady))
    one, other = (fit_normalizer(dataset, order).normalizer.state_dict() for order in (TRAIN, TRAIN[::-1]))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_other_samples_do_not_influence_the_statistics(write_katops, fields):
    spoiled = {name: values.copy() for name, values in fields.items()}
    for values in spoiled.values():
        values[[1, 2, 5, 6, 8]] = np.nan
    states = []
    for name, source in (("clean.h5", fields), ("spoiled.h5", spoiled)):
        channels = {"coefficient": ("input", source["coefficient"]), "pressure": ("output", source["pressure"])}
        states.append(fit_normalizer(FieldDataset(describe(write_katops(channels, name=name))), TRAIN))
    for key, value in states[0].normalizer.state_dict().items():
        assert torch.equal(value, states[1].normalizer.state_dict()[key])
    assert torch.equal(states[0].target_mean, states[1].target_mean)


def test_windows_of_a_trajectory_are_counted_as_training_sees_them(moving, fields):
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=3), dtype=torch.float64)
    fit = fit_normalizer(dataset, dataset.of_samples(TRAIN))
    velocity = fields["velocity"][TRAIN].astype(np.float64)
    inputs = np.stack([velocity[:, s : s + 2] for s in range(3)])
    targets = np.stack([velocity[:, s + 2 : s + 5] for s in range(3)])
    np.testing.assert_allclose(fit.normalizer.input_mean[1], inputs.mean(), rtol=1e-12)
    np.testing.assert_allclose(fit.normalizer.output_std[0], targets.std(), rtol=1e-12)
    np.testing.assert_allclose(fit.target_mean[:, 0], targets.mean((0, 1)), rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("small_batches")
def test_a_small_variation_on_a_large_offset_is_accurate(write_plain, plane):
    values = 1e6 + np.random.default_rng(0).uniform(-1, 1, (40, 12, 20))
    layout = describe(write_plain(a=values, b=values), **plane)
    exact = fit_normalizer(FieldDataset(layout, dtype=torch.float64), range(40)).normalizer
    np.testing.assert_allclose(exact.input_std, values.std(), rtol=1e-9)
    np.testing.assert_allclose(exact.input_mean, values.mean(), rtol=1e-15)
    single = fit_normalizer(FieldDataset(layout), range(40)).normalizer
    np.testing.assert_allclose(single.input_std, values.astype("f4").astype("f8").std(), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.floats(-1e4, 1e4), st.floats(1e-3, 1e3))
def test_merged_batches_of_any_size_equal_one_batch(sizes, offset, scale):
    generator = torch.Generator().manual_seed(sum(sizes))
    values = offset + scale * torch.randn(sum(sizes), 3, 4, 5, dtype=torch.float64, generator=generator)
    weights = torch.randint(0, 4, (sum(sizes),), generator=generator)
    weights[0] = 1
    moments = Moments(3)
    for batch, weight in zip(values.split(sizes), weights.split(sizes), strict=True):
        moments.add(FieldMoments.of(batch), weight.numpy())
    counted = values.repeat_interleave(weights, 0)
    assert moments.count == counted[:, 0].numel()
    np.testing.assert_allclose(moments.mean, counted.mean((0, 2, 3)), rtol=1e-12, atol=1e-12 * scale)
    variance = counted.var((0, 2, 3), correction=0)
    # The condition number of the variance is |mean| / std; a one-pass sum of squares would lose its square.
    tolerance = 1e-12 + 1e-14 * abs(offset) / scale
    np.testing.assert_allclose(np.square(moments.std), variance, rtol=tolerance, atol=0.0)
    np.testing.assert_array_equal(moments.minimum, counted.amin((0, 2, 3)))
    np.testing.assert_array_equal(moments.maximum, counted.amax((0, 2, 3)))


@pytest.fixture
def two_files(write_katops, fields) -> list:
    """Trajectories of 7 and of 5 frames, with a coefficient as a second input."""
    layouts = []
    for name, frames in (("long.h5", 7), ("short.h5", 5)):
        velocity = fields["velocity"][:, :frames] + (frames == 5)
        channels = {"coefficient": ("input", fields["coefficient"]), "velocity": ("state", velocity)}
        layouts.append(describe(write_katops(channels, times=0.5 * np.arange(frames), name=name)))
    return layouts


WINDOWS = st.builds(
    Window,
    n_in=st.integers(1, 2),
    n_out=st.integers(1, 2),
    gap=st.integers(0, 1),
    stride=st.integers(1, 3),
    every=st.integers(1, 1),
) | st.just(Window(every=2, stride=1))


@pytest.mark.usefixtures("small_batches")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(window=WINDOWS, state=st.booleans(), data=st.data())
def test_frames_that_windows_share_are_read_once_and_counted_as_often_as_they_occur(two_files, window, state, data):
    layouts = two_files
    if state:
        layouts = [describe(layout.path, inputs=["velocity"], outputs=["velocity"]) for layout in two_files]
    dataset = FieldDataset(layouts, window=window, dtype=torch.float64)
    chosen = data.draw(st.sets(st.integers(0, len(dataset) - 1), min_size=1))
    batch = dataset.read(sorted(chosen))
    found = statistics_of(dataset, list(chosen))
    for rows, values in ((found.inputs, batch.x), (found.outputs, batch.y)):
        for channel, row in enumerate(rows):
            expected = values[:, :, channel]
            assert row.count == expected.numel()
            np.testing.assert_allclose([row.mean, row.std], [expected.mean(), expected.std(correction=0)], rtol=1e-11)
            assert (row.minimum, row.maximum) == (expected.min(), expected.max())
    np.testing.assert_allclose(found.target_mean, batch.y.mean(0), rtol=1e-11, atol=1e-13)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("every", [1, 2])
def test_increments_are_those_between_the_handed_out_frames_of_the_training_samples(two_files, every):
    layouts = [describe(layout.path, inputs=["velocity"], outputs=["velocity"]) for layout in two_files]
    dataset = FieldDataset(layouts, window=Window(every=every), dtype=torch.float64)
    samples = [0, 4, 9, 12]
    row = statistics_of(dataset, dataset.of_samples(samples)).outputs[0]
    single = FieldDataset(layouts, dtype=torch.float64)
    whole = [torch.cat([one.x, one.y]) for one in map(single.trajectory, samples)]
    changes = torch.cat([(frames[every:] - frames[:-every]).flatten() for frames in whole])
    assert row.delta_mean == pytest.approx(float(changes.mean()), rel=1e-9)
    assert row.delta_std == pytest.approx(float(changes.std(correction=0)), rel=1e-9)


def test_steady_problems_have_no_increments(steady):
    assert statistics_of(FieldDataset(describe(steady)), TRAIN).outputs[0].delta_std is None


def test_a_frame_is_read_once_however_many_windows_share_it(moving, monkeypatch):
    dataset = FieldDataset(describe(moving, inputs=["velocity"]), window=Window(n_in=3, n_out=3))
    read = []
    original = dataset.reader.read
    monkeypatch.setattr(dataset.reader, "read", lambda *requests: (read.extend(requests), original(*requests)))
    statistics_of(dataset, range(len(dataset)))
    touched = [(*item,) for request in read for item in zip(request.samples, request.starts, strict=True)]
    assert sorted(touched) == [(sample, frame) for sample in range(9) for frame in range(7)]


@pytest.fixture
def fitted(moving) -> Normalizer:
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=3), dtype=torch.float64)
    return fit_normalizer(dataset, range(len(dataset))).normalizer


def test_decoding_inverts_encoding(fitted):
    y = 5.0 + 3.0 * torch.randn(4, 3, 1, 12, 20, dtype=torch.float64)
    torch.testing.assert_close(fitted.decode_output(fitted.encode_output(y)), y, rtol=1e-14, atol=1e-14)


def test_folded_and_unfolded_frames_are_normalised_alike(fitted):
    x = torch.randn(4, 2, 2, 12, 20, dtype=torch.float64)
    torch.testing.assert_close(
        fitted.encode_input(x.flatten(1, 2)), fitted.encode_input(x).flatten(1, 2), rtol=0, atol=0
    )
    by_hand = (x[:, 1, 1] - fitted.input_mean[1]) / fitted.input_std[1]
    torch.testing.assert_close(fitted.encode_input(x)[:, 1, 1], by_hand, rtol=0, atol=0)


def test_half_precision_is_decoded_in_the_precision_of_the_statistics(fitted):
    prediction = torch.randn(2, 3, 1, 12, 20).bfloat16()
    assert fitted.float().decode_output(prediction).dtype == torch.float32


def test_the_state_is_plain_tensors_and_restores_everything(fitted, moving, tmp_path):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "normalizer.safetensors"
    save_file(fitted.state_dict(), path)
    meta = FieldDataset(describe(moving), window=Window(n_in=2, n_out=3)).meta
    restored = Normalizer(meta, dtype=torch.float64)
    restored.load_state_dict(load_file(path))
    x = torch.randn(4, 2, 2, 12, 20, dtype=torch.float64)
    assert torch.equal(restored.encode_input(x), fitted.encode_input(x))


def test_a_constant_channel_is_named_and_only_shifted(write_plain, plane):
    constant = np.full((50, 12, 20), 0.1, np.float32)
    varying = np.random.default_rng(0).normal(size=(50, 12, 20))
    layout = describe(write_plain(a=varying, k=constant, b=varying), **plane | {"inputs": ["a", "k"]})
    normalizer = fit_normalizer(FieldDataset(layout), range(50)).normalizer
    assert normalizer.constant_channels == ("k",)
    assert normalizer.input_std[1] == 1.0
    encoded = normalizer.encode_input(torch.stack([torch.zeros(12, 20), torch.full((12, 20), 0.1)])[None])
    assert encoded[0, 1].abs().max() < 1e-7


def test_without_normalisation_values_pass_unchanged_and_the_mean_target_is_still_known(steady, fields):
    fit = fit_normalizer(FieldDataset(describe(steady)), TRAIN, kind="none")
    x = torch.randn(2, 1, 1, 12, 20)
    assert torch.equal(fit.normalizer.encode_input(x), x)
    assert torch.equal(fit.normalizer.decode_output(x), x)
    np.testing.assert_allclose(fit.target_mean[0, 0], fields["pressure"][TRAIN].mean(0), atol=1e-6)


@pytest.mark.usefixtures("small_batches")
def test_progress_counts_to_the_end(steady):
    calls = []
    fit_normalizer(FieldDataset(describe(steady)), TRAIN, progress=lambda *done: calls.append(done))
    assert calls[-1] == (4, 4)
    assert len(calls) > 2
    assert calls == sorted(calls)


@pytest.mark.parametrize("allow_nonfinite", [False, True])
def test_a_training_sample_that_is_not_finite_is_named(write_plain, plane, allow_nonfinite):
    values = np.ones((5, 12, 20))
    values[3, 1, 1] = np.inf
    layout = describe(write_plain(a=np.ones((5, 12, 20)), b=values), **plane)
    dataset = FieldDataset(layout, allow_nonfinite=allow_nonfinite)
    with pytest.raises(UserError, match=r"plain.h5: sample 3 of channel 'b'"):
        fit_normalizer(dataset, range(5))
    assert fit_normalizer(dataset, range(3)).count == 3


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 12, 20), r"shape \(2, 3, 12, 20\) has 3 channels; expected a multiple of 2 \(coefficient, velocity\)"),
        ((2, 2, 1, 12, 20), "has 1 channels; expected 2"),
        ((2, 12, 20), "expected .batch, frame, channel, 2 axes of space"),
    ],
)
def test_wrong_shapes_are_refused_with_the_expected_one(fitted, shape, message):
    with pytest.raises(UserError, match=message):
        fitted.encode_input(torch.zeros(shape, dtype=torch.float64))


def test_an_unknown_kind_and_an_empty_part_are_refused(steady):
    dataset = FieldDataset(describe(steady))
    with pytest.raises(UserError, match=r"unknown data\.normalizer 'standrad'"):
        fit_normalizer(dataset, TRAIN, kind="standrad")
    with pytest.raises(UserError, match="no training samples"):
        fit_normalizer(dataset, [])


@pytest.fixture
def forced(tmp_path) -> FieldDataset:
    """A velocity that moves under a force of each sample and around a mask that all share."""
    rng = np.random.default_rng(5)
    path = tmp_path / "forced.h5"
    axes = [Axis("x", boundary=("wall", "open")), Axis("y", "periodic_nodes", boundary=("periodic", "periodic"))]
    with layout_file(path) as file:
        arrays = create_layout(
            file.hdf5,
            name="forced",
            samples=9,
            fields={
                "velocity": StoredField("state", "m/s", (7, 12, 20)),
                "force": StoredField("constant", "N", (12, 20)),
                "mask": StoredField("constant", "", (12, 20), per_sample=False),
            },
            axes=axes,
            times=0.5 * np.arange(7),
        )
        for name in ("velocity", "force", "mask"):
            dataset = arrays[f"fields/{name}"]
            dataset[...] = rng.normal(3.0, 2.0, size=dataset.shape)
    return FieldDataset(describe(path), window=Window(n_in=2, n_out=2, stride=2), dtype=torch.float64)


@pytest.mark.usefixtures("small_batches")
def test_constants_are_normalised_with_statistics_of_the_training_samples(forced):
    fit = fit_normalizer(forced, forced.of_samples(TRAIN))
    constants = forced.read(forced.of_samples(TRAIN)).constants
    np.testing.assert_allclose(fit.normalizer.constant_mean, constants.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(fit.normalizer.constant_std, constants.std((0, 2, 3), correction=0), rtol=1e-12)
    encoded = fit.normalizer.encode_constants(constants)
    torch.testing.assert_close(encoded.mean((0, 2, 3)), torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)
    with pytest.raises(UserError, match=r"\(4, 3, 12, 20\); expected \(batch, 2 channels, 2 axes.*force, mask"):
        fit.normalizer.encode_constants(torch.zeros(4, 3, 12, 20))


def test_a_model_file_from_before_there_were_constants_is_loaded(fitted, moving, forced):
    old = {key: v for key, v in fitted.state_dict().items() if not key.startswith(("constant_", "time_scale"))}
    assert len(old) == 6
    meta = FieldDataset(describe(moving), window=Window(n_in=2, n_out=3)).meta
    restored = Normalizer(meta, dtype=torch.float64)
    restored.load_state_dict(old, assign=True)
    x = torch.randn(4, 2, 2, 12, 20, dtype=torch.float64)
    assert torch.equal(restored.encode_input(x), fitted.encode_input(x))
    assert restored.encode_constants(torch.zeros(4, 0, 12, 20)).shape == (4, 0, 12, 20)
    with pytest.raises(RuntimeError, match="constant_mean"):
        Normalizer(forced.meta).load_state_dict(old)


@pytest.mark.usefixtures("small_batches")
def test_pointwise_statistics_are_those_of_every_point_over_the_training_samples(steady, fields):
    fit = fit_normalizer(FieldDataset(describe(steady)), TRAIN, kind="pointwise")
    for side, name in (("input", "coefficient"), ("output", "pressure")):
        values = fields[name][TRAIN].astype(np.float64)
        np.testing.assert_allclose(getattr(fit.normalizer, f"{side}_mean")[0], values.mean(0), rtol=1e-5, atol=1e-6)
        std = np.where(values.std(0) == 0, 1, values.std(0))
        np.testing.assert_allclose(getattr(fit.normalizer, f"{side}_std")[0], std, rtol=1e-4, atol=1e-6)
    x = torch.from_numpy(fields["pressure"][:3, None, None].astype(np.float32))
    torch.testing.assert_close(fit.normalizer.decode_output(fit.normalizer.encode_output(x)), x)


def test_a_point_without_variation_is_encoded_as_zero_and_decoded_exactly(write_katops, fields):
    pressure = fields["pressure"].copy()
    pressure[:, 0] = 0.25
    path = write_katops({"coefficient": ("input", fields["coefficient"]), "pressure": ("output", pressure)})
    normalizer = fit_normalizer(FieldDataset(describe(path)), TRAIN, kind="pointwise").normalizer
    y = torch.from_numpy(pressure[:2, None, None].astype(np.float32))
    encoded = normalizer.encode_output(y)
    assert (encoded[..., 0, :] == 0).all()
    assert torch.equal(normalizer.decode_output(encoded)[..., 0, :], y[..., 0, :])


def test_pointwise_statistics_refuse_another_grid_and_travel_with_the_state(steady, fields):
    dataset = FieldDataset(describe(steady))
    normalizer = fit_normalizer(dataset, TRAIN, kind="pointwise").normalizer
    again = Normalizer(dataset.meta)
    again.load_state_dict(normalizer.state_dict(), assign=True)
    x = torch.from_numpy(fields["coefficient"][:2, None, None].astype(np.float32))
    assert torch.equal(again.encode_input(x), normalizer.encode_input(x))
    with pytest.raises(UserError, match=r"on a grid of 12 x 20 points, the fields have 6 x 20"):
        again.encode_input(x[..., ::2, :])


def test_the_scale_of_an_output_is_one_number_also_where_every_point_has_its_own(steady):
    fit = fit_normalizer(FieldDataset(describe(steady)), TRAIN, kind="pointwise")
    expected = fit.normalizer.output_std.square().mean().sqrt()
    torch.testing.assert_close(fit.normalizer.output_scale, expected[None])
