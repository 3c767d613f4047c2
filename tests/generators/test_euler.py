"""The Euler problem: its frames, its gates, its independence of batch, order and threads, its convergence."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.fields import FieldMeta
from katops.generators import euler
from katops.generators.block_mean import block_mean
from katops.generators.euler import VARIANTS, Euler
from katops.generators.euler_equations import EulerEquations
from katops.generators.hyperbolic_solver import HyperbolicSolver
from katops.registry import PROBLEMS


@pytest.fixture(scope="module")
def three():
    """Samples 0 to 2 of the default variant."""
    return Euler(resolution=16).samples(7, range(3))


def test_euler_is_registered():
    assert PROBLEMS["euler"].factory is Euler


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_keeps_what_is_conserved_and_stays_physical(variant):
    problem = Euler(resolution=16, variant=variant)
    samples = problem.samples(0, [0])
    for name, field in problem.fields.items():
        assert samples.fields[name].dtype == np.float32
        assert samples.fields[name].shape == (1, *field.shape)
    assert samples.fields["density"].min() > 0
    assert samples.fields["pressure"].min() > 0
    assert samples.quality["conservation_drift"][0] < 1e-13
    density = samples.fields["density"][0].astype(np.float64)
    for velocity in ("velocity_x", "velocity_y"):
        momentum = (density * samples.fields[velocity][0]).mean(axis=(1, 2))
        np.testing.assert_allclose(momentum, momentum[0], atol=1e-6 * np.abs(samples.fields[velocity]).max() * 3)
    np.testing.assert_allclose(density.mean(axis=(1, 2)), density[0].mean(), rtol=1e-6)


@pytest.mark.parametrize("indices", [[1], [2, 0, 1], [0, 2]])
def test_a_sample_is_the_same_bits_in_any_batch_and_order(same_bits, three, indices):
    same_bits(Euler(resolution=16).samples(7, indices), three, indices)


def test_a_sample_is_the_same_bits_from_two_threads_at_once(same_bits, three):
    problem = Euler(resolution=16)
    with ThreadPoolExecutor(2) as executor:
        found = list(executor.map(lambda index: problem.samples(7, [index]), range(3)))
    for index, samples in enumerate(found):
        same_bits(samples, three, [index])


def test_the_size_of_a_block_does_not_change_a_bit(same_bits, monkeypatch, three):
    monkeypatch.setattr(euler, "samples_per_block", lambda cells, device: 1)
    same_bits(Euler(resolution=16).samples(7, range(3)), three)


def test_the_number_of_torch_threads_does_not_change_a_bit(same_bits, three):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        same_bits(Euler(resolution=16).samples(7, range(3)), three)
    finally:
        torch.set_num_threads(before)


def test_a_refined_sample_is_the_block_mean_of_the_fine_one():
    """The mean of density and pressure weigh cells equally; the velocity is that of the mean momentum."""
    fine = Euler(resolution=32).samples(1, [0]).fields
    coarse = Euler(resolution=16, refinement=2).samples(1, [0]).fields
    density = block_mean(torch.from_numpy(fine["density"]).double(), 2)
    momentum = block_mean(torch.from_numpy(fine["density"]).double() * torch.from_numpy(fine["velocity_x"]), 2)
    np.testing.assert_allclose(coarse["density"], density, rtol=1e-6)
    np.testing.assert_allclose(coarse["velocity_x"], momentum / density, rtol=1e-5, atol=1e-6)


def test_refining_converges_with_first_order_before_shear_layers_roll_up():
    """Relative L1 distance of the density to 128 cells at t = 0.1, of 32 and of 64 cells."""
    density = [_density(Euler(resolution=32, refinement=factor), 0.1) for factor in (1, 2, 4)]
    coarse, middle = (np.abs(values - density[2]).mean() / np.abs(density[2]).mean() for values in density[:2])
    assert coarse < 0.05
    assert middle < 0.6 * coarse


def _density(problem, time):
    """Density of sample 0 at one time, without all the frames."""
    solver = HyperbolicSolver(EulerEquations(), (1 / problem.cells, 1 / problem.cells))
    state = solver.start(torch.from_numpy(problem.initial_state(0, 0)[:, None]))
    return block_mean(solver.advance(state, time).conserved[0, 0], problem.refinement).numpy()


def test_samples_of_other_seeds_indices_redraws_and_variants_differ():
    problem = Euler(resolution=16)
    states = [problem.initial_state(*key) for key in [(0, 0), (0, 1), (1, 0), (0, 0, 1)]]
    states.append(Euler(resolution=16, variant="curved_riemann").initial_state(0, 0))
    assert len({state.tobytes() for state in states}) == len(states)


def test_a_sample_that_the_solver_gives_up_is_drawn_again(monkeypatch):
    problem = Euler(resolution=16)
    drawn = problem.initial_state

    def first_draw_fails(seed, index, redraw=0):
        state = drawn(seed, index, redraw)
        if index == 4 and redraw == 0:
            state[3, 2, 2] = -1.0
        return state

    monkeypatch.setattr(problem, "initial_state", first_draw_fails)
    samples = problem.samples(0, [3, 4])
    assert samples.quality["rejected"].tolist() == [0, 1]
    expected = Euler(resolution=16).samples(0, [3])
    np.testing.assert_array_equal(samples.fields["density"][:1], expected.fields["density"])
    np.testing.assert_array_equal(samples.fields["density"][1, 0], drawn(0, 4, 1)[0].astype(np.float32))


def test_the_recipe_holds_everything_that_decides_the_numbers():
    changed = [
        Euler(resolution=16),
        Euler(resolution=16, refinement=2),
        Euler(resolution=16, limiter="van_leer"),
        Euler(resolution=16, variant="gaussian"),
    ]
    texts = {json.dumps(problem.recipe, sort_keys=True) for problem in changed}
    assert len(texts) == len(changed)
    assert changed[1].recipe["native_resolution"] == 32
    assert changed[1].recipe["downsampling"] == "block_mean"


def test_the_meta_names_the_components_of_the_velocity_and_survives_json():
    meta = Euler(resolution=16, variant="richtmyer_meshkov").meta
    assert FieldMeta.from_dict(json.loads(json.dumps(meta.to_dict()))) == meta
    assert [channel.name for channel in meta.inputs if channel.quantity == "velocity"] == ["velocity_x", "velocity_y"]
    assert meta.time_step == pytest.approx(0.1)
    assert meta.boundary == (("periodic", "periodic"),) * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 8}, "euler: resolution 8 is out of range; allowed: 16 to 2048"),
        ({"resolution": 32.0}, "euler: resolution must be a whole number"),
        ({"variant": "rieman"}, "euler: unknown variant 'rieman'; did you mean 'riemann'"),
        ({"refinement": 0}, "euler: refinement 0 is out of range"),
        ({"limiter": "minmod"}, "euler: unknown limiter 'minmod'.*Allowed: mc, van_leer"),
        ({"device": "gpu7"}, "euler: device 'gpu7' cannot be used"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Euler(**options)
