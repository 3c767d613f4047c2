"""Facts about the metrics: known values, golden references, invariances, gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from katops import metrics
from katops.errors import UserError
from katops.registry import METRICS
from katops.spectrum import radial_spectrum, resolved_wavenumber

ALL = [record.name for record in METRICS]
RELATIVE = [name for name in ALL if name not in metrics.ABSOLUTE]
SHAPES = {1: (2, 2, 9), 2: (2, 2, 6, 5), 3: (2, 1, 4, 3, 5)}


def pair(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))


def metric(name):
    return METRICS[name].factory


def h1_oracle(prediction, target, limit=math.inf):
    """The definition with numpy's full transform and an explicit loop over the axes."""
    n_axes = target.ndim - 2
    axes = tuple(range(2, target.ndim))
    weight = np.ones(target.shape[2:])
    for axis, size in enumerate(target.shape[2:]):
        k = np.fft.fftfreq(size, 1 / size)
        weight = weight + np.expand_dims(
            np.where(abs(k) < limit, k**2, 0), tuple(i for i in range(n_axes) if i != axis)
        )

    def norm(field):
        coefficients = np.fft.fftn(field, axes=axes, norm="ortho")
        return np.sqrt((weight * abs(coefficients) ** 2).reshape(len(field), -1).sum(1))

    return norm(prediction - target) / norm(target)


def test_the_golden_relative_l2_and_h1_losses_are_reproduced(shared):
    golden = load_file(shared / "golden" / "operator_losses.safetensors")
    prediction, target = golden["prediction"][:, None], golden["target"][:, None]
    computed = {
        "l2_sum": metrics.relative_l2(prediction, target),
        "h1_sum": metrics.h1(prediction, target),
        "h1_sum_truncated20": metrics.h1(prediction, target, max_wavenumber=20),
    }
    for key, value in computed.items():
        torch.testing.assert_close(value.sum(), golden[key][0], rtol=1e-5, atol=0)


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_h1_equals_the_full_transform_on_rectangles_of_either_parity(n_axes, limit):
    prediction, target = pair(SHAPES[n_axes])
    expected = h1_oracle(prediction.numpy(), target.numpy(), limit or math.inf)
    np.testing.assert_allclose(metrics.h1(prediction, target, max_wavenumber=limit), expected, rtol=1e-12)


def test_h1_of_a_single_wave_weighs_it_by_its_wavenumber():
    x = torch.arange(24, dtype=torch.float64) / 24
    slow, fast = (torch.cos(2 * math.pi * k * x)[None, None] for k in (1, 5))
    expected = torch.tensor([0.1 * math.sqrt((1 + 5**2) / (1 + 1**2))], dtype=torch.float64)
    torch.testing.assert_close(metrics.h1(slow + 0.1 * fast, slow), expected)
    # beyond the limit the fast wave counts as in L2, and the slow one keeps its weight
    expected = torch.tensor([0.1 / math.sqrt(1 + 1**2)], dtype=torch.float64)
    torch.testing.assert_close(metrics.h1(slow + 0.1 * fast, slow, max_wavenumber=5), expected)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_a_prediction_equal_to_the_target_has_error_zero_and_a_finite_gradient(name, n_axes):
    target, _ = pair(SHAPES[n_axes])
    prediction = target.clone().requires_grad_()
    error = metric(name)(prediction, target)
    assert error.shape == (2,)
    assert (error == 0).all()
    error.sum().backward()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_gradients_agree_with_finite_differences(name, n_axes):
    prediction, target = pair(SHAPES[n_axes])
    assert torch.autograd.gradcheck(lambda p: metric(name)(p, target), prediction.requires_grad_())


@pytest.mark.parametrize("name", RELATIVE)
@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-12, 1e12), sign=st.sampled_from([1, -1]))
def test_relative_metrics_do_not_depend_on_the_unit(name, scale, sign):
    prediction, target = pair((2, 2, 6, 5))
    scaled = metric(name)(sign * scale * prediction, sign * scale * target)
    torch.testing.assert_close(scaled, metric(name)(prediction, target))


@pytest.mark.parametrize("name", sorted(metrics.ABSOLUTE))
def test_absolute_metrics_scale_with_the_unit(name):
    prediction, target = pair((2, 2, 6, 5))
    torch.testing.assert_close(metric(name)(1000 * prediction, 1000 * target), 1000 * metric(name)(prediction, target))


def test_known_perturbations_give_the_known_values():
    target = torch.tensor([[[3.0, -4.0, 0.0, 0.0]]])
    prediction = target + torch.tensor([0.5, 0.0, 0.0, 0.0])
    expected = {
        "relative_l2": 0.5 / 5,
        "relative_l1": 0.5 / 7,
        "relative_l2_channel_mean": 0.5 / 5,
        "rmse": 0.25,
        "mae": 0.125,
        "max_error": 0.5,
        # the target's mean is -1/4, its variance 25/4 - 1/16
        "vrmse": 0.25 / math.sqrt(25 / 4 - 1 / 16),
    }
    for name, value in expected.items():
        torch.testing.assert_close(metric(name)(prediction, target), torch.tensor([value]), msg=name)


def test_samples_are_not_pooled():
    target = torch.ones(2, 1, 4) * torch.tensor([1.0, 100.0]).reshape(2, 1, 1)
    error = metrics.relative_l2(target + 1, target)
    torch.testing.assert_close(error, torch.tensor([1.0, 0.01]))


def test_channels_of_different_magnitude_count_alike_in_the_channel_mean_only():
    target = torch.ones(1, 2, 8, dtype=torch.float64)
    target[:, 1] *= 1e6
    prediction = target.clone()
    prediction[:, 0] *= 1.5
    torch.testing.assert_close(
        metrics.channel_relative_l2(prediction, target), torch.tensor([[0.5, 0.0]], dtype=torch.float64)
    )
    assert metrics.relative_l2_channel_mean(prediction, target).item() == pytest.approx(0.25)
    assert metrics.relative_l2(prediction, target).item() == pytest.approx(0.5e-6)


def test_predicting_the_mean_of_every_frame_has_vrmse_one():
    target, _ = pair((3, 4, 2, 6, 5))
    mean = target.mean((-2, -1), keepdim=True).expand_as(target)
    torch.testing.assert_close(metrics.vrmse(mean, target, n_axes=2), torch.ones(3, dtype=torch.float64))


def test_vrmse_averages_ratios_over_steps_and_channels():
    prediction, target = (tensor.numpy() for tensor in pair((2, 3, 2, 6, 5)))
    ratio = np.sqrt(((prediction - target) ** 2).mean((-2, -1)) / target.var((-2, -1)))
    computed = metrics.vrmse(torch.from_numpy(prediction), torch.from_numpy(target), n_axes=2)
    np.testing.assert_allclose(computed, ratio.mean((1, 2)), rtol=1e-12)


def test_vrmse_leaves_out_steps_and_channels_whose_target_is_constant_in_space():
    prediction, target = pair((2, 3, 2, 6, 5))
    target[:, :, 1] = 0.3 + 1e-8 * torch.rand(2, 3, 6, 5)  # what float32 makes of a constant
    target[:, 0, 0] = 7.0
    kept = metrics.vrmse(prediction[:, 1:, :1], target[:, 1:, :1], n_axes=2)
    torch.testing.assert_close(metrics.vrmse(prediction, target, n_axes=2), kept)
    constant = metrics.constant_in_space(target, n_axes=2)
    assert constant[0].tolist() == [[True, True], [False, True], [False, True]]


def test_a_small_wave_on_a_large_offset_is_not_constant():
    wave = torch.sin(torch.arange(32) / 5.0).view(1, 1, 32)
    assert not metrics.constant_in_space(1000 + 0.01 * wave, n_axes=1)
    assert metrics.constant_in_space(1000 + 1e-5 * wave, n_axes=1)


def test_the_channel_mean_leaves_out_channels_whose_target_is_zero():
    prediction, target = pair((2, 3, 2, 6, 5))
    target[:, :, 1] = 0.0
    kept = metrics.relative_l2_channel_mean(prediction[:, :, :1], target[:, :, :1], n_axes=2)
    torch.testing.assert_close(metrics.relative_l2_channel_mean(prediction, target, n_axes=2), kept)


@pytest.mark.parametrize("name", ALL)
def test_a_time_axis_is_not_taken_for_a_channel_or_a_spatial_axis(name):
    prediction, target = pair((2, 3, 2, 6, 5))
    steps = [metric(name)(prediction[:, [t]], target[:, [t]], n_axes=2) for t in range(3)]
    plain = [metric(name)(prediction[:, t], target[:, t]) for t in range(3)]
    torch.testing.assert_close(steps, plain)


@pytest.mark.parametrize("name", RELATIVE)
def test_a_zero_target_gives_a_finite_value_set_by_eps(name):
    prediction, target = torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    default = metric(name)(prediction, target)
    assert default.isfinite().all()
    torch.testing.assert_close(metric(name)(prediction, target, eps=1e-10), default * 1e-10)
    assert (metric(name)(target, target) == 0).all()


@pytest.mark.parametrize("name", RELATIVE)
def test_eps_changes_nothing_where_the_target_is_larger(name):
    prediction, target = pair((2, 2, 6, 5))
    assert torch.equal(metric(name)(prediction, target, eps=1e-30), metric(name)(prediction, target))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ALL)
def test_half_precision_fields_are_computed_in_float32_on_any_grid(name, dtype):
    prediction, target = pair((2, 1, 12, 15), dtype=torch.float32)
    half = metric(name)(prediction.to(dtype), target.to(dtype))
    assert half.dtype == torch.float32
    assert torch.equal(half, metric(name)(prediction.to(dtype).float(), target.to(dtype).float()))


@pytest.mark.parametrize("name", ALL)
def test_autocast_does_not_change_the_value(name):
    prediction, target = pair((2, 1, 12, 15), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = metric(name)(prediction, target)
    assert torch.equal(inside, metric(name)(prediction, target))


@pytest.mark.parametrize("name", ALL)
def test_float32_agrees_with_the_float64_oracle(name):
    prediction, target = pair((2, 2, 33, 20))
    single = metric(name)(prediction.float(), target.float())
    torch.testing.assert_close(single.double(), metric(name)(prediction, target), rtol=1e-5, atol=0)


def test_different_shapes_are_refused_with_both_shapes():
    with pytest.raises(UserError, match=r"\(2, 1, 4, 4\) and target \(2, 1, 4, 5\)"):
        metrics.relative_l2(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 5))


def test_a_wrong_number_of_axes_is_refused():
    with pytest.raises(UserError, match="n_axes=3"):
        metrics.h1(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), n_axes=3)


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), data=st.data())
def test_the_radial_spectrum_sums_to_the_mean_square(sizes, data):
    lengths = data.draw(st.lists(st.floats(0.5, 4), min_size=len(sizes), max_size=len(sizes)))
    field = torch.randn((2, *sizes), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spectrum = radial_spectrum(field, n_axes=len(sizes), lengths=lengths)
    torch.testing.assert_close(spectrum.sum(-1), field.square().flatten(1).mean(1))


def test_a_wave_lies_in_the_shell_of_its_wavenumber_in_cycles_per_longest_side():
    x, y = torch.arange(32, dtype=torch.float64) / 32, torch.arange(16, dtype=torch.float64) / 16
    wave = torch.cos(2 * math.pi * (3 * x[:, None] + 2 * y[None, :]))
    square = radial_spectrum(wave, n_axes=2)
    assert square.argmax() == round(math.hypot(3, 2))
    torch.testing.assert_close(square.max(), torch.tensor(0.5, dtype=torch.float64))
    # the box is 2 long and 1 high: two cycles over the short side are four over the long one
    assert radial_spectrum(wave, n_axes=2, lengths=[2.0, 1.0]).argmax() == 5
    assert resolved_wavenumber([32, 16], [2.0, 1.0]) == 16
    assert resolved_wavenumber([32, 16]) == 8


@pytest.mark.parametrize("limit", [0, -1])
def test_a_wavenumber_below_one_is_no_limit(limit):
    with pytest.raises(UserError, match="max_wavenumber must be at least 1"):
        metrics.h1(torch.ones(1, 1, 8), torch.ones(1, 1, 8), max_wavenumber=limit)
