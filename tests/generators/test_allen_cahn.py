"""The Allen-Cahn recipe: exact solutions, bounds, energy, the published scale, independence of batch and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.generators.allen_cahn import AllenCahn, energy, react, solve_allen_cahn
from katops.generators.random_stream import random_stream
from katops.registry import PROBLEMS

RATE = 220.0**2


def noise(size, largest=1.0):
    generator = torch.Generator().manual_seed(0)
    return largest * (2 * torch.rand(1, size, size, dtype=torch.float64, generator=generator) - 1)


def test_allen_cahn_is_registered():
    assert PROBLEMS["allen_cahn"].factory is AllenCahn


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_the_three_equilibria_stay(value):
    u = torch.full((1, 8, 8), value, dtype=torch.float64)
    later = solve_allen_cahn(u, RATE, 1e-4, 3, 2)
    torch.testing.assert_close(later, u[:, None].expand(1, 3, 8, 8), atol=1e-14, rtol=0)


def test_a_constant_follows_the_exact_solution_whatever_the_step():
    """s = u^2 satisfies the logistic equation: s / (1 - s) = exp(2 rate t) s0 / (1 - s0)."""
    u = torch.full((1, 8, 8), 0.3, dtype=torch.float64)
    later = float(solve_allen_cahn(u, RATE, 2e-5, 2, 3)[0, 1, 0, 0])
    odds = np.exp(2 * RATE * 2e-5) * 0.09 / 0.91
    assert abs(later - np.sqrt(odds / (1 + odds))) < 1e-14


def test_the_reaction_solves_its_equation():
    u, step = noise(8, 1.5), 1e-9
    slope = (react(u, RATE, step) - react(u, RATE, -step)) / (2 * step)
    torch.testing.assert_close(slope, RATE * (u - u**3), atol=1e-2, rtol=1e-5)


def test_a_front_stands_still():
    """tanh((x - x0) / (sqrt(2) width)) with rate = 1 / width^2; two of them, 0.5 apart, 14 points in each.

    On the grid the front is not exactly the hyperbolic tangent: it settles, and then stays."""
    x, width = torch.arange(256, dtype=torch.float64) / 256, 0.02
    u = torch.tanh((x - 0.25) / (2**0.5 * width)) * -torch.tanh((x - 0.75) / (2**0.5 * width))
    u = u[None, :, None].expand(1, 256, 4).contiguous()
    later = solve_allen_cahn(u, width**-2, 20 * width**2, 2, 200)[:, 1]
    assert (later - u).abs().max() < 5e-3
    assert abs(float((later - u).mean())) < 1e-6


def test_the_order_in_time_is_two():
    u = torch.from_numpy(AllenCahn(16, native_resolution=64).initial_condition(0, 0))[None]
    solutions = [solve_allen_cahn(u, RATE, 1e-4, 2, steps)[:, 1] for steps in (10, 20, 40, 80)]
    errors = [float((solution - solutions[-1]).norm()) for solution in solutions[:-1]]
    # Against a solution with an error of 1 / 16 of the second one: 4.2 instead of 4, then 5.
    assert abs(errors[0] / errors[1] - 4.2) < 0.3
    assert abs(errors[1] / errors[2] - 5.0) < 0.3


def test_the_order_in_space_is_two():
    """A smooth state of small rate on the nodes that three grids share."""
    solutions = []
    for size in (16, 32, 64):
        x = torch.arange(size, dtype=torch.float64) / size
        u = 0.8 * torch.sin(2 * torch.pi * x)[:, None] * torch.cos(2 * torch.pi * x) + 0.1
        solutions.append(solve_allen_cahn(u[None], 100.0, 5e-3, 2, 40)[0, 1, :: size // 16, :: size // 16])
    ratio = (solutions[0] - solutions[1]).norm() / (solutions[1] - solutions[2]).norm()
    assert abs(np.log2(float(ratio)) - 2) < 0.1


def test_bounds_are_kept_and_the_energy_falls():
    frames = solve_allen_cahn(noise(32), RATE, 1e-5, 10, 10)
    assert frames.abs().max() <= 1 + 1e-13
    assert (energy(frames, RATE).diff(dim=1) < 0).all()


def test_the_negative_of_a_state_stays_its_negative():
    u = noise(16)
    torch.testing.assert_close(
        solve_allen_cahn(-u, RATE, 1e-5, 3, 4), -solve_allen_cahn(u, RATE, 1e-5, 3, 4), atol=1e-14, rtol=0
    )


def test_the_initial_condition_is_the_printed_sum():
    problem = AllenCahn(16, "literal", native_resolution=48)
    found = problem.initial_condition(0, 3)
    rng = random_stream("allen_cahn/literal", 0, 3)
    waves, decay = rng.integers(16, 33), rng.uniform(0.7, 1.0)
    amplitudes = rng.uniform(-1.0, 1.0, (waves, waves))
    x, expected = np.arange(48) / 48, np.zeros((48, 48))
    for i in range(1, waves + 1):
        for j in range(1, waves + 1):
            factor = amplitudes[i - 1, j - 1] * (i * i + j * j) ** -decay
            expected += factor * np.outer(np.sin(np.pi * i * x), np.sin(np.pi * j * x))
    np.testing.assert_allclose(found, expected / waves**2, atol=1e-15)


def test_a_finer_grid_shows_the_same_initial_condition():
    coarse, fine = (AllenCahn(8, native_resolution=native).initial_condition(0, 1) for native in (48, 96))
    np.testing.assert_allclose(fine[::2, ::2], coarse, atol=1e-14)


def test_the_standard_deviation_is_that_of_the_published_data():
    """0.6535 in the published data; 0.645 to 0.66 from few samples at 128 x 128."""
    samples = AllenCahn(32).samples(0, range(6))
    assert abs(samples.fields["u"].std() - 0.6535) < 0.03
    assert samples.quality["energy_growth"].max() < 0
    assert AllenCahn(32, "literal").samples(0, range(2)).fields["u"].std() < 0.5


def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread():
    problem = AllenCahn(20, native_resolution=40)
    many = problem.samples(7, range(6)).fields["u"]
    np.testing.assert_array_equal(problem.samples(7, [5]).fields["u"], many[[5]])
    np.testing.assert_array_equal(problem.samples(7, [3, 0, 4]).fields["u"], many[[3, 0, 4]])
    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(lambda start: problem.samples(7, range(start, start + 3)).fields["u"], (0, 3)))
    np.testing.assert_array_equal(np.concatenate(halves), many)


def test_the_description_is_plain_and_has_the_announced_shapes():
    problem = AllenCahn(20, native_resolution=40)
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    u = problem.samples(0, [0]).fields["u"]
    assert u.shape == (1, *problem.fields["u"].shape) == (1, 20, 20, 20)
    assert u.dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"native_resolution": 32}, "allen_cahn: native_resolution 32 is out of range; allowed: 40 to 4096"),
        ({"resolution": 96}, "allen_cahn: resolution 96 does not divide native_resolution 128"),
        ({"variant": "printed"}, "allen_cahn: unknown variant 'printed'"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        AllenCahn(**options)
