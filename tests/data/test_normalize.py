"""Normalisation: numpy's two-pass statistics, of the training samples alone, and its own inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data import normalize
from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.normalize import Normalizer, fit_normalizer
from katops.data.windows import Window
from katops.errors import UserError

TRAIN = [0, 3, 4, 7]


@pytest.fixture
def small_batches(monkeypatch):
    """Several batches even for small files."""
    monkeypatch.setattr(normalize, "_BATCH_BYTES", 3 * 2 * 12 * 20 * 4)


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
    values = offset + scale * torch.randn(sum(sizes), 2, 3, 4, 5, dtype=torch.float64, generator=generator)
    moments = normalize._Moments(3)
    for batch in values.split(sizes):
        moments.add(batch)
    torch.testing.assert_close(moments.mean, values.mean((0, 1, 3, 4)), rtol=1e-12, atol=1e-12 * scale)
    variance = values.var((0, 1, 3, 4), correction=0)
    # The condition number of the variance is |mean| / std; a one-pass sum of squares would lose its square.
    tolerance = 1e-12 + 1e-14 * abs(offset) / scale
    torch.testing.assert_close(moments.squares / moments.count, variance, rtol=tolerance, atol=0.0)


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
    assert calls == [(3, 4), (4, 4)]


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
