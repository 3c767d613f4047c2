"""Burgers' equation: the exact Cole-Hopf solution, the published laws, independence of batch, order and threads."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.generators import burgers
from katops.generators.burgers import VARIANTS, Burgers
from katops.generators.spectral_burgers import retained_modes, solve_spectral_burgers
from katops.registry import PROBLEMS


def cole_hopf(size, viscosity, time, c=1.25):
    """phi = c + cos(2 pi x) exp(-4 pi^2 nu t), u = -2 nu phi_x / phi, on the nodes i / size."""
    angle = 2 * np.pi * np.arange(size) / size
    decay = np.exp(-4 * np.pi**2 * viscosity * time)
    return 4 * np.pi * viscosity * decay * np.sin(angle) / (c + decay * np.cos(angle))


def coefficients(u):
    """(1, modes + 1) of (size,) values."""
    found = np.fft.rfft(u, norm="forward")[: retained_modes(len(u)) + 1]
    return torch.from_numpy(found)[None]


def values(spectra, size):
    return torch.fft.irfft(spectra, size, norm="forward").numpy()


def test_burgers_is_registered():
    assert PROBLEMS["burgers"].factory is Burgers


@pytest.mark.parametrize(("viscosity", "size", "levels"), [(0.1, 64, (20, 40, 80)), (0.01, 64, (10, 20, 40))])
def test_the_order_in_time_is_four_on_the_exact_solution(viscosity, size, levels):
    errors = []
    for steps in levels:
        spectra = solve_spectral_burgers(
            coefficients(cole_hopf(size, viscosity, 0.0)), size, viscosity, 1 / steps, [steps]
        )
        errors.append(np.abs(values(spectra, size)[0, 0] - cole_hopf(size, viscosity, 1.0)).max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 3.2).all(), orders
    assert (orders < 4.3).all(), orders


def test_the_error_in_space_falls_faster_than_any_power():
    errors = []
    for size in (16, 32, 64):
        spectra = solve_spectral_burgers(coefficients(cole_hopf(size, 0.05, 0.0)), size, 0.05, 1 / 400, [200])
        errors.append(np.abs(values(spectra, size)[0, 0] - cole_hopf(size, 0.05, 0.5)).max())
    assert errors[1] < errors[0] / 50
    assert errors[2] < errors[1] / 50


def test_the_mean_is_conserved_the_energy_falls_and_odd_functions_stay_odd():
    x = np.arange(64) / 64
    u = np.stack((0.3 + np.cos(2 * np.pi * x), np.sin(2 * np.pi * x) - np.sin(6 * np.pi * x)))
    drawn = torch.cat([coefficients(row) for row in u])
    spectra = solve_spectral_burgers(drawn, 64, 0.01, 1 / 200, [0, 50, 100, 150, 200])
    solution = values(spectra, 64)
    np.testing.assert_allclose(solution.mean(axis=2), [[0.3] * 5, [0.0] * 5], atol=1e-15)
    assert (np.diff((solution**2).mean(axis=2), axis=1) < 0).all()
    odd = solution[1]
    np.testing.assert_allclose(odd[:, 1:], -odd[:, :0:-1], atol=1e-13)


def test_the_gaussian_variant_has_the_published_standard_deviation():
    """0.594 in theory; the variance of a sample scatters, so that of 500 has a standard error of 3 %."""
    u = Burgers(32, native_resolution=64).samples(0, range(500)).fields["initial_velocity"].astype(np.float64)
    squares = (u**2).mean(axis=1)
    assert abs(squares.mean() - 0.594**2) < 4 * squares.std() / np.sqrt(500)


def test_a_finer_native_grid_gives_the_same_sample():
    coarse, fine = (Burgers(64, native_resolution=native).samples(0, range(4)) for native in (512, 1024))
    difference = coarse.fields["velocity"] - fine.fields["velocity"]
    assert np.linalg.norm(difference) < 1e-5 * np.linalg.norm(fine.fields["velocity"])
    # The waves above 170 that the finer grid adds have a standard deviation of 2e-4.
    assert np.abs(coarse.fields["initial_velocity"] - fine.fields["initial_velocity"]).max() < 1.5e-3


def test_fewer_stored_nodes_are_every_second_one():
    every, second = (Burgers(s, native_resolution=128).samples(0, range(3)).fields["velocity"] for s in (128, 64))
    np.testing.assert_array_equal(every[:, ::2], second)


def test_the_published_step_gives_the_same_as_the_longer_one(monkeypatch):
    """At a tenth of the final time, with the steps of the whole."""
    tenth = replace(burgers.GAUSSIAN_VARIANTS["fno"], final_time=0.1, fast_steps=40, reference_steps=1000)
    monkeypatch.setitem(burgers.GAUSSIAN_VARIANTS, "fno", tenth)
    fast, reference = (
        Burgers(32, native_resolution=64, scheme=scheme).samples(0, [0]).fields["velocity"]
        for scheme in ("fast", "reference")
    )
    np.testing.assert_allclose(fast, reference, rtol=1e-5, atol=1e-7)


def test_half_the_step_changes_the_small_viscosity_variant_by_less_than_a_millionth(monkeypatch):
    twice = replace(burgers.GAUSSIAN_VARIANTS["fno_v1000"], fast_steps=2000)
    once = Burgers(256, "fno_v1000", native_resolution=512).samples(0, range(2)).fields["velocity"]
    monkeypatch.setitem(burgers.GAUSSIAN_VARIANTS, "fno_v1000", twice)
    again = Burgers(256, "fno_v1000", native_resolution=512).samples(0, range(2)).fields["velocity"]
    assert np.abs(once - again).max() < 1e-6


def test_the_splitting_and_the_published_finite_volumes_converge_to_each_other(monkeypatch):
    """The published waves have the period 1 - 1 / s, so that the distance falls with order 1."""
    monkeypatch.setattr(burgers, "FINITE_VOLUME_FRAMES", 5)
    distances = []
    for cells in (32, 64):
        fast, reference = (
            Burgers(cells, "pdebench", cells, 0.1, scheme).samples(0, range(6)).fields["velocity"]
            for scheme in ("fast", "reference")
        )
        distances.append(np.abs(fast - reference).mean() / np.abs(fast).mean())
    assert distances[0] < 0.15
    assert distances[1] < 0.65 * distances[0]


def test_finite_volumes_converge_to_the_spectral_solution(monkeypatch):
    """Both solve u_t + u u_x = (eps / pi) u_xx from the same smooth waves."""
    monkeypatch.setattr(burgers, "FINITE_VOLUME_FRAMES", 3)
    size = 512
    errors = []
    for cells in (64, 128):
        problem = Burgers(cells, "pdebench_printed", cells, epsilon=0.1)
        found = problem.samples(3, [0, 1]).fields["velocity"][:, 1]
        streams = [burgers.random_stream("burgers/pdebench_printed", 3, index) for index in (0, 1)]
        initial = [burgers.draw_sine_superposition(rng, "pdebench_printed") for rng in streams]
        assert not any(condition.absolute or condition.window for condition in initial)
        nodes = (np.arange(size) + size / cells / 2) / size  # the nodes of the finer grid hold the cell centres
        drawn = torch.cat([coefficients(condition(nodes)) for condition in initial])
        exact = values(solve_spectral_burgers(drawn, size, 0.1 / np.pi, 1 / 400, [400]), size)[:, 0]
        errors.append(np.abs(found - exact[:, :: size // cells]).mean())
    assert np.log2(errors[0] / errors[1]) > 1.5


@pytest.mark.parametrize("variant", ["fno", "fno_v1000", "pdebench", "pdebench_printed"])
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(variant, monkeypatch):
    monkeypatch.setattr(burgers, "FINITE_VOLUME_FRAMES", 3)
    problem = Burgers(16, variant, native_resolution=32)
    name = list(problem.fields)[-1]
    many = problem.samples(7, range(8)).fields[name]
    np.testing.assert_array_equal(problem.samples(7, [5]).fields[name], many[[5]])
    np.testing.assert_array_equal(problem.samples(7, [7, 0, 4]).fields[name], many[[7, 0, 4]])
    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(lambda start: problem.samples(7, range(start, start + 4)).fields[name], (0, 4)))
    np.testing.assert_array_equal(np.concatenate(halves), many)


def test_the_published_grid_of_8192_points_does_not_depend_on_the_batch_or_torch_threads():
    drawn = torch.zeros(3, retained_modes(8192) + 1, dtype=torch.complex128)
    drawn[:, 1:] = torch.randn(
        3, retained_modes(8192), dtype=torch.complex128, generator=torch.Generator().manual_seed(0)
    )
    drawn[:, 1:] /= torch.arange(1, retained_modes(8192) + 1) ** 2
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        together = solve_spectral_burgers(drawn, 8192, 0.1, 1e-3, [3])
        torch.set_num_threads(2)
        alone = solve_spectral_burgers(drawn[1:2], 8192, 0.1, 1e-3, [3])
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(alone[0], together[1])


def test_a_failed_sample_is_drawn_again_and_counted(monkeypatch):
    problem = Burgers(16, native_resolution=32)
    solve, calls = burgers.solve_spectral_burgers, []

    def breaks_once(drawn, *arguments):
        spectra = solve(drawn, *arguments)
        if not calls:
            spectra[2] = np.nan
        calls.append(len(drawn))
        return spectra

    expected = problem.samples(0, range(4))
    monkeypatch.setattr(burgers, "solve_spectral_burgers", breaks_once)
    samples = problem.samples(0, range(4))
    np.testing.assert_array_equal(samples.quality["rejected"], [0, 0, 1, 0])
    same = (samples.fields["velocity"] == expected.fields["velocity"]).all(axis=1)
    np.testing.assert_array_equal(same, [True, True, False, True])
    assert calls == [4, 1]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_description_is_plain_and_tells_map_from_trajectory(variant):
    problem = Burgers(16, variant)
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    assert {field.shape[-1] for field in problem.fields.values()} == {16}
    if variant == "fno":
        assert problem.times is None
        assert [field.role for field in problem.fields.values()] == ["input", "output"]
    else:
        assert problem.fields["velocity"].shape == (201, 16)
        assert problem.times[-1] == (1.0 if variant == "fno_v1000" else 2.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 100}, "burgers: resolution 100 does not divide native_resolution 2048"),
        ({"epsilon": 0.1}, "burgers: epsilon belongs to the pdebench variants"),
        ({"variant": "pdebench", "epsilon": 100.0}, "burgers: epsilon 100 is out of range; allowed: 0.0001 to 10"),
        ({"variant": "fn"}, "burgers: unknown variant 'fn'"),
        ({"scheme": "exact"}, "burgers: unknown scheme 'exact'.*Allowed: fast, reference"),
        ({"native_resolution": 2048.0}, "burgers: native_resolution must be a whole number"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Burgers(**options)
