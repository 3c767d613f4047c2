"""The diffusion-reaction recipe: orders, the equation without space, the published method, independence of batches."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from katops.errors import UserError
from katops.generators import diffusion_reaction
from katops.generators.diffusion_reaction import DiffusionReaction
from katops.generators.fitzhugh_nagumo import (
    Constants,
    differences,
    solve_by_runge_kutta,
    solve_with_fixed_steps,
    steps_of_frames,
)
from katops.registry import PROBLEMS

CONSTANTS = Constants()


@pytest.fixture
def short(monkeypatch):
    """Five frames instead of 101, at the same interval."""
    monkeypatch.setattr(diffusion_reaction, "FRAMES", 5)
    monkeypatch.setattr(diffusion_reaction, "FINAL_TIME", 0.2)


def test_diffusion_reaction_is_registered():
    assert PROBLEMS["diffusion_reaction"].factory is DiffusionReaction


def test_without_space_both_substances_follow_the_ordinary_equations():
    u, v = (torch.full((1, 4, 4), value, dtype=torch.float64) for value in (0.7, -0.4))
    found = solve_with_fixed_steps(u, v, 2.0, 0.05, [2] * 100, CONSTANTS)
    exact = solve_ivp(
        lambda _, y: (y[0] - y[0] ** 3 - 0.005 - y[1], y[0] - y[1]), (0, 5), (0.7, -0.4), rtol=1e-11, atol=1e-12
    )
    for substance, expected in zip(found, exact.y[:, -1], strict=True):
        np.testing.assert_allclose(substance[0, -1], np.full((4, 4), expected), atol=1e-7)


def test_a_cosine_mode_decays_at_the_rate_of_the_differences_and_they_converge_with_order_two():
    """cos(pi m (x + 1) / 2) has zero derivative on the walls; its eigenvalue is (pi m / 2)^2."""
    errors = []
    for size in (16, 32, 64):
        x = -1 + 2 * (np.arange(size) + 0.5) / size
        mode = np.cos(np.pi * (x + 1) / 2)[:, None] * np.cos(3 * np.pi * (x + 1) / 2)
        laplacian = differences(mode) * (size / 2) ** 2
        eigenvalue = -10 * (np.pi / 2) ** 2
        exact_of_the_differences = -(size**2) * (np.sin(np.pi / (2 * size)) ** 2 + np.sin(3 * np.pi / (2 * size)) ** 2)
        np.testing.assert_allclose(laplacian, exact_of_the_differences * mode, atol=1e-11)
        errors.append(abs(exact_of_the_differences - eigenvalue))
    assert (np.abs(np.log2(np.divide(errors[:-1], errors[1:])) - 2) < 0.05).all()


def test_small_perturbations_of_the_equilibrium_follow_the_linearised_equation():
    """Of one cosine mode: the 2 x 2 exponential at the equilibrium u = v = -0.005^(1/3)."""
    size, amplitude = 16, 1e-5
    base = -(0.005 ** (1 / 3))
    x = (np.arange(size) + 0.5) / size
    mode = np.cos(np.pi * x)[:, None] * np.ones(size)
    eigenvalue = -(size**2) * np.sin(np.pi / (2 * size)) ** 2
    matrix = np.array([[1e-3 * eigenvalue + 1 - 3 * base**2, -1.0], [1.0, 5e-3 * eigenvalue - 1]])
    rates, vectors = np.linalg.eig(matrix)
    growth = (vectors @ np.diag(np.exp(rates)) @ np.linalg.inv(vectors)).real
    u, v = torch.from_numpy(base + amplitude * mode)[None], torch.full((1, size, size), base, dtype=torch.float64)
    found = solve_with_fixed_steps(u, v, 2.0, 1.0, [40], CONSTANTS)
    for substance, factor in zip(found, growth[:, 0], strict=True):
        np.testing.assert_allclose((substance[0, 1].numpy() - base) / amplitude, factor * mode, atol=2e-4)


def test_the_order_in_time_is_four():
    rng = np.random.default_rng(0)
    u, v = torch.from_numpy(rng.standard_normal((2, 1, 16, 16)))
    solutions = [solve_with_fixed_steps(u, v, 2.0, 0.5, [steps], CONSTANTS)[0][:, 1] for steps in (40, 80, 640)]
    errors = [float((solution - solutions[-1]).norm()) for solution in solutions[:-1]]
    assert abs(np.log2(errors[0] / errors[1]) - 4) < 0.3


def test_diffusion_conserves_the_sum_of_both():
    u = np.random.default_rng(0).standard_normal((2, 8, 8))
    np.testing.assert_allclose(differences(u).sum(axis=(1, 2)), 0, atol=1e-13)


def test_the_published_method_and_fixed_steps_agree():
    rng = np.random.default_rng(0)
    u, v = rng.standard_normal((2, 32, 32))
    times = np.linspace(0, 1, 21)
    exact = solve_by_runge_kutta(u, v, 2.0, times, CONSTANTS, rtol=1e-9, atol=1e-10)
    published = solve_by_runge_kutta(u, v, 2.0, times, CONSTANTS)
    steps = steps_of_frames(21, 0.05, 32, 2.0, CONSTANTS)
    fast = solve_with_fixed_steps(torch.from_numpy(u)[None], torch.from_numpy(v)[None], 2.0, 0.05, steps, CONSTANTS)
    for substance, expected in enumerate(exact):
        scale = np.linalg.norm(expected, axis=(1, 2))
        for found, tolerance in ((fast[substance][0].numpy(), 2e-5), (published[substance], 5e-3)):
            assert (np.linalg.norm(found - expected, axis=(1, 2)) < tolerance * scale).all()


def test_steps_shrink_with_the_square_of_the_cell_and_at_the_beginning():
    assert steps_of_frames(6, 0.05, 128, 2.0, CONSTANTS) == [32, 16, 8, 4, 4]
    assert steps_of_frames(6, 0.05, 256, 2.0, CONSTANTS)[-1] == 14
    assert steps_of_frames(6, 0.05, 16, 2.0, CONSTANTS)[-1] == 2


@pytest.mark.usefixtures("short")
def test_the_initial_condition_is_white_noise_of_unit_variance():
    fields = DiffusionReaction(32, native_resolution=32).samples(0, range(20)).fields
    for values in fields.values():
        first = values[:, 0]
        count = first.size
        assert abs(first.mean()) < 4 / np.sqrt(count)
        assert abs((first**2).mean() - 1) < 4 * np.sqrt(2 / count)
        assert abs((first[:, 1:] * first[:, :-1]).mean()) < 4 / np.sqrt(count)


@pytest.mark.usefixtures("short")
def test_coarser_files_hold_means_of_cells():
    fine, coarse = (DiffusionReaction(s, native_resolution=32).samples(0, range(2)).fields for s in (32, 16))
    for name, values in fine.items():
        means = values.reshape(2, 5, 16, 2, 16, 2).mean(axis=(3, 5))
        np.testing.assert_allclose(coarse[name], means, atol=1e-6)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("scheme", ["fast", "reference"])
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(scheme):
    problem = DiffusionReaction(16, native_resolution=16, scheme=scheme)

    def draw(indices):
        return problem.samples(7, indices).fields["activator"]

    many = draw(range(6))
    np.testing.assert_array_equal(draw([5]), many[[5]])
    np.testing.assert_array_equal(draw([3, 0, 4]), many[[3, 0, 4]])
    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(lambda start: draw(range(start, start + 3)), (0, 3)))
    np.testing.assert_array_equal(np.concatenate(halves), many)


@pytest.mark.usefixtures("short")
def test_the_noise_decays_and_no_sample_is_refused():
    samples = DiffusionReaction(32, native_resolution=32).samples(0, range(4))
    assert 0.5 < samples.quality["largest_value"].max() < 4
    assert not samples.quality["rejected"].any()


def test_the_description_is_plain():
    problem = DiffusionReaction(64)
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    assert problem.times[-1] == 5.0
    assert problem.fields["inhibitor"].shape == (101, 64, 64)
    assert problem.meta.boundary == (("neumann", "neumann"),) * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 48}, "diffusion_reaction: resolution 48 does not divide native_resolution 128"),
        ({"resolution": 2}, "diffusion_reaction: resolution 2 is out of range"),
        ({"variant": "pde"}, "diffusion_reaction: unknown variant 'pde'"),
        ({"scheme": "strang"}, "diffusion_reaction: unknown scheme 'strang'.*Allowed: fast, reference"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        DiffusionReaction(**options)
