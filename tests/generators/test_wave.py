"""Waves: the solver against exact solutions, the absorbing layers, and the random media."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import j0

from katops.errors import UserError
from katops.generators.acoustic_waves import Layers, propagate
from katops.generators.wave import VARIANTS, Wave

WIDTH = 0.07


def reflecting(n=1):
    return Layers(0, 1.0, torch.zeros(n, dtype=torch.float64))


def radial(distance, time):
    """The solution for c = 1 in the plane that starts at rest as exp(-r^2 / (2 WIDTH^2)), by its Hankel transform."""

    def integrand(k):
        return WIDTH**2 * np.exp(-((WIDTH * k) ** 2) / 2) * np.cos(k * time) * j0(k * distance) * k

    return quad(integrand, 0, 9 / WIDTH, limit=400, epsabs=1e-11, epsrel=1e-10)[0]


def pulse(points):
    x = torch.as_tensor(points)
    return torch.exp(-((x[:, None] - 0.5) ** 2 + (x - 0.5) ** 2) / (2 * WIDTH**2))[None]


@pytest.mark.parametrize(("scheme", "order"), [("leapfrog", 2.0), ("fourth_order", 4.0)])
def test_a_circular_wave_converges_with_the_order_of_the_scheme(scheme, order):
    time, errors = 0.22, []
    for size in (31, 61):
        points = (np.arange(size) + 0.5) / size
        steps = int(np.ceil(time * size / 0.5))
        found = propagate(
            pulse(points),
            torch.ones(1, size, size, dtype=torch.float64),
            1 / size,
            (time, 2, steps),
            reflecting(),
            scheme,
        )[1, 0]
        row = found[size // 2].numpy()
        chosen = np.arange(0, size, size // 30)[:16]
        exact = np.array([radial(abs(points[place] - 0.5), time) for place in chosen])
        errors.append(np.abs(row[chosen] - exact).max())
    assert np.log(errors[0] / errors[1]) / np.log(61 / 31) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize(("scheme", "order"), [("leapfrog", 2.0), ("fourth_order", 4.0)])
def test_a_plane_pulse_parts_into_two_as_d_alembert_says(scheme, order):
    """u(x, t) = (f(x - t) + f(x + t)) / 2, along the middle row, which the walls have not reached."""
    time, errors = 0.2, []
    for size in (40, 80):
        points = torch.as_tensor((np.arange(size) + 0.5) / size)
        start = torch.exp(-((points - 0.5) ** 2) / (2 * 0.06**2))[:, None].expand(size, size).contiguous()
        ones = torch.ones(1, size, size, dtype=torch.float64)
        found = propagate(start[None], ones, 1 / size, (time, 2, int(time * size / 0.5)), reflecting(), scheme)[1, 0]
        exact = sum(torch.exp(-((points - 0.5 + way) ** 2) / (2 * 0.06**2)) for way in (time, -time)) / 2
        near = (points - 0.5).abs() < 0.35  # no farther: the ends of the square are walls, too
        errors.append((found[:, size // 2] - exact)[near].abs().max().item())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def test_a_standing_wave_between_walls_converges_with_order_two():
    errors = []
    for cells in (16, 32):
        x = torch.arange(1, cells, dtype=torch.float64) / cells
        shape = torch.sin(2 * np.pi * x)[:, None] * torch.sin(np.pi * x)
        ones = torch.ones(1, cells - 1, cells - 1, dtype=torch.float64)
        found = propagate(shape[None], ones, 1 / cells, (0.3, 2, cells), reflecting(), "leapfrog")[1, 0]
        errors.append((found - shape * np.cos(np.sqrt(5) * np.pi * 0.3)).abs().max().item())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.1)


def test_energy_is_conserved_to_round_off_between_walls():
    """The discrete energy of the leapfrog: |(u+ - u) / dt|^2 / c^2 - <u+, Laplace u>."""
    rng = np.random.default_rng(0)
    speed = torch.as_tensor(rng.uniform(0.5, 1.0, (1, 14, 14)))
    start = torch.as_tensor(rng.normal(size=(1, 14, 14)))
    h, dt = 1 / 15, 0.5 / 15
    fields = propagate(start, speed, h, (dt, 400, 1), reflecting(), "leapfrog")[:, 0]
    padded = torch.nn.functional.pad(fields, (1, 1, 1, 1))
    laplace = padded[:, 2:, 1:-1] + padded[:, :-2, 1:-1] + padded[:, 1:-1, 2:] + padded[:, 1:-1, :-2] - 4 * fields
    kinetic = (((fields[1:] - fields[:-1]) / dt / speed[0]) ** 2).sum(dim=(1, 2))
    energy = kinetic - (fields[1:] * laplace[:-1]).sum(dim=(1, 2)) / h**2
    assert (energy / energy[0] - 1).abs().max() < 1e-12


@pytest.mark.parametrize("scheme", ["leapfrog", "fourth_order"])
def test_the_layers_reflect_less_than_a_ten_thousandth_of_the_energy(scheme):
    """Against a square so large that nothing comes back from its ends."""
    size, times = 32, (1.2, 2, 80)
    found = {}
    for layer in (size // 4, size):
        points = (np.arange(-layer, size + layer) + 0.5) / size
        ones = torch.ones(1, len(points), len(points), dtype=torch.float64)
        layers = reflecting()
        if layer == size // 4:
            layers = Layers.matched(0.25, 1 / size, torch.ones(1, dtype=torch.float64))
        fields = propagate(pulse(points), ones, 1 / size, times, layers, scheme)
        found[layer] = fields[1, 0, layer : layer + size, layer : layer + size]
    reflected = found[size // 4] - found[size]
    assert found[size].abs().max() > 1e-3
    assert (reflected**2).sum() < 1e-4 * (pulse(np.linspace(0, 1, size)) ** 2).sum()


@pytest.mark.parametrize(
    "options", [{"variant": "gaussian"}, {"variant": "layer", "refinement": 2}, {"resolution": 19}]
)
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(options):
    problem = Wave(**{"resolution": 16, **options})
    together = problem.samples(3, [5, 6, 7])
    shuffled = problem.samples(3, [7, 5])
    with ThreadPoolExecutor(2) as threads:
        alone = list(threads.map(lambda index: problem.samples(3, [index]), (5, 6, 7)))
    for name, values in together.fields.items():
        np.testing.assert_array_equal(shuffled.fields[name], values[[2, 0]])
        for row, sample in zip(values, alone, strict=True):
            np.testing.assert_array_equal(sample.fields[name][0], row)


def test_a_medium_is_the_same_function_on_every_grid():
    for variant in ("gaussian", "layer"):
        pulses, medium = Wave(16, variant).draw(0, 4)
        coarse, fine = ((np.arange(size) + 0.5) / size for size in (16, 48))
        for function in (pulses, medium):
            np.testing.assert_allclose(function.on(fine)[1::3, 1::3], function.on(coarse), rtol=1e-12)


def test_twice_the_resolution_changes_a_sample_by_less_than_one_percent():
    coarse, fine = (Wave(16, refinement=factor).samples(0, range(2)).fields["displacement"] for factor in (4, 8))
    assert np.linalg.norm(fine - coarse) < 0.01 * np.linalg.norm(fine)


def test_layers_do_not_cross_and_have_the_speeds_of_the_recipe():
    x = np.linspace(0, 1, 2001)
    counts = set()
    for index in range(60):
        _, medium = Wave(16, "layer").draw(1, index)
        heights = np.concatenate([np.zeros((1, len(x))), medium.interfaces(x), np.ones((1, len(x)))])
        assert (np.diff(heights, axis=0) > 0).all()
        assert ((medium.speeds >= 2000) & (medium.speeds <= 5000)).all()
        counts.add(len(medium.speeds))
    assert counts == {3, 4, 5, 6}


@pytest.mark.parametrize("variant", ["gaussian", "gaussian_literal"])
def test_pulses_keep_their_distance(variant):
    for index in range(60):
        pulses, _ = Wave(16, variant).draw(2, index)
        assert 2 <= len(pulses.centres) <= 6
        for i, j in zip(*np.triu_indices(len(pulses.centres), 1), strict=True):
            distance = np.linalg.norm(pulses.centres[i] - pulses.centres[j])
            assert distance >= 2 * max(pulses.widths[i], pulses.widths[j])


@pytest.mark.parametrize(("variant", "mean", "std"), [("gaussian", 2532, 657), ("layer", 3479, 839)])
def test_the_speed_has_the_statistics_of_the_printed_law(variant, mean, std):
    """Both numbers are those of another implementation of the same law; the tolerance is four standard errors."""
    points = (np.arange(24) + 0.5) / 24
    fields = np.stack([Wave(24, variant).draw(0, index)[1].on(points) for index in range(400)])
    error = fields.mean(axis=(1, 2)).std() / 20
    assert fields.mean() == pytest.approx(mean, abs=4 * error)
    assert fields.std() == pytest.approx(std, rel=0.1)


def test_a_file_has_the_announced_channels_and_frames():
    for variant, constants in VARIANTS.items():
        problem = Wave(16, variant)
        samples = problem.samples(0, [0])
        assert samples.fields["displacement"].shape == (1, constants.frames, 16, 16)
        assert samples.fields["displacement"].dtype == np.float32
        assert {name: field.shape for name, field in problem.fields.items()} == {
            name: values.shape[1:] for name, values in samples.fields.items()
        }
        assert samples.quality["growth"][0] <= 1.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "gausian"}, "wave: unknown variant 'gausian'; did you mean 'gaussian'"),
        ({"scheme": "upwind"}, "wave: unknown scheme 'upwind'"),
        ({"resolution": 12}, "wave: resolution 12 is out of range"),
        ({"refinement": 9}, "wave: refinement 9 is out of range; allowed: 1 to 8"),
        ({"device": "gpu"}, "wave: device 'gpu' cannot be used"),
    ],
)
def test_a_bad_option_is_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Wave(**options)
