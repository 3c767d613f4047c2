"""The finite-volume method: exact solutions, conservation, symmetry, positivity, independence of the batch."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from katops.generators.euler_equations import EulerEquations
from katops.generators.hyperbolic_reconstruction import LIMITERS, face_states, pad_outflow, pad_periodic
from katops.generators.hyperbolic_solver import FLOOR, HyperbolicSolver
from katops.generators.shallow_water_equations import ShallowWaterEquations

LAW = EulerEquations()


def tube(left, right, cells):
    """(variables, 1, cells, 1): two constant states that meet at x = 1/2."""
    left, right = torch.tensor(left, dtype=torch.float64), torch.tensor(right, dtype=torch.float64)
    behind = torch.arange(cells) >= cells // 2
    return torch.where(behind, right[:, None], left[:, None])[:, None, :, None]


def solve_tube(law, left, right, cells, time, **options):
    """The state along a tube of length 1; nothing happens across it."""
    solver = HyperbolicSolver(law, (1 / cells, float("inf")), "outflow", **options)
    return solver.advance(solver.start(tube(left, right, cells)), time)


def shock_tube_density(position, time):
    """Cell means of Sod's exact density: a rarefaction, a contact and a shock spread from 1/2.

    Source: Toro, Riemann Solvers and Numerical Methods for Fluid Dynamics, 3rd edition, sections 4.2 to 4.5.
    """
    gamma, high, low = 1.4, 1.0, 0.1
    sound = np.sqrt(gamma * high / 1.0)

    def velocity_mismatch(pressure):
        rarefaction = 2 * sound / (gamma - 1) * ((pressure / high) ** ((gamma - 1) / (2 * gamma)) - 1)
        shock = (pressure - low) * np.sqrt(2 / ((gamma + 1) * 0.125) / (pressure + (gamma - 1) / (gamma + 1) * low))
        return rarefaction + shock

    pressure = brentq(velocity_mismatch, low, high, xtol=1e-14)
    velocity = -2 * sound / (gamma - 1) * ((pressure / high) ** ((gamma - 1) / (2 * gamma)) - 1)
    assert pressure == pytest.approx(0.30313, abs=1e-5)
    assert velocity == pytest.approx(0.92745, abs=1e-5)
    ratio = (gamma - 1) / (gamma + 1)
    before_contact = pressure ** (1 / gamma)
    before_shock = 0.125 * (pressure / low + ratio) / (ratio * pressure / low + 1)
    mach_squared = ((gamma + 1) * pressure / low + gamma - 1) / (2 * gamma)
    shock = np.sqrt(mach_squared * gamma * low / 0.125)
    tail = velocity - np.sqrt(gamma * pressure / before_contact)

    def density(speed):
        fan = (2 / (gamma + 1) - ratio / sound * speed) ** (2 / (gamma - 1))
        regions = [speed < -sound, speed < tail, speed < velocity, speed < shock]
        return np.select(regions, [1.0, fan, before_contact, before_shock], 0.125)

    width = position[1] - position[0]
    offsets = (np.arange(64) + 0.5) / 64 - 0.5
    return density((position[:, None] + width * offsets - 0.5) / time).mean(axis=1)


def sod_error(cells):
    state = solve_tube(LAW, (1, 0, 0, 1), (0.125, 0, 0, 0.1), cells, 0.2)
    exact = shock_tube_density((np.arange(cells) + 0.5) / cells, 0.2)
    return np.abs(state.conserved[0, 0, :, 0].numpy() - exact).mean()


def vortex(cells):
    """Cell means of the conserved variables of an isentropic vortex, by Gauss quadrature, (4, 1, cells, cells)."""
    points, weights = np.polynomial.legendre.leggauss(4)
    width = 10 / cells
    centres = (np.arange(cells) + 0.5) * width - 5
    mean = torch.zeros(4, 1, cells, cells, dtype=torch.float64)
    for x_point, x_weight in zip(points, weights, strict=True):
        for y_point, y_weight in zip(points, weights, strict=True):
            x = (centres + x_point * width / 2)[:, None]
            y = (centres + y_point * width / 2)[None, :]
            speed = 5 / (2 * np.pi) * np.exp((1 - x * x - y * y) / 2)
            temperature = 1 - 0.4 / 2.8 * speed**2
            density = temperature**2.5
            state = torch.from_numpy(np.stack((density, 1 - speed * y, 1 + speed * x, density * temperature)))
            mean += x_weight * y_weight / 4 * LAW.conserved(state)[:, None]
    return mean


def vortex_error(cells, limiter):
    """Mean error of the density after the vortex has crossed the periodic box once, and the drift of the totals."""
    mean = vortex(cells)
    solver = HyperbolicSolver(LAW, (10 / cells, 10 / cells), limiter=limiter)
    after = solver.advance(solver.start(LAW.primitive(mean)), 10.0).conserved
    drift = (after.sum((1, 2, 3)) - mean.sum((1, 2, 3))).abs() / mean.abs().sum((1, 2, 3))
    return float((after[0] - mean[0]).abs().mean()), float(drift.max())


@pytest.fixture(scope="module")
def random_states():
    """Function: (4, n, 16, 16), each sample with 2 x 2 random constant states."""

    def draw(samples, velocity=1.0):
        rng = np.random.default_rng(1)
        states = rng.uniform(0.1, 1, (samples, 4, 2, 2))
        states[:, 1:3] = rng.uniform(-velocity, velocity, (samples, 2, 2, 2))
        return torch.from_numpy(states.transpose(1, 0, 2, 3).repeat(8, 2).repeat(8, 3))

    return draw


@pytest.fixture(scope="module")
def periodic():
    return HyperbolicSolver(LAW, (1 / 16, 1 / 16))


def test_a_shock_tube_converges_to_the_exact_solution_with_nearly_first_order():
    coarse, fine = sod_error(100), sod_error(400)
    assert coarse < 5.2e-3
    assert np.log2(coarse / fine) / 2 > 0.8


@pytest.mark.parametrize(("limiter", "largest_error"), [("mc", 1.5e-3), ("van_leer", 2.6e-3)])
def test_a_smooth_vortex_converges_with_second_order_and_nothing_is_lost(limiter, largest_error):
    coarse, fine = vortex_error(32, limiter), vortex_error(64, limiter)
    assert fine[0] < largest_error
    assert np.log2(coarse[0] / fine[0]) > 1.9
    assert fine[1] < 1e-14


@pytest.mark.parametrize("gravity", [1.0, 9.81])
def test_a_dam_break_converges_to_stokers_solution_with_nearly_first_order(gravity):
    """Source: Stoker, Water Waves, Interscience 1957, section 10.8."""
    deep, shallow, time = 2.0, 1.0, 0.15 / np.sqrt(gravity)

    def velocity_mismatch(height):
        bore = (height - shallow) * np.sqrt(gravity / 2 * (height + shallow) / (height * shallow))
        return bore - 2 * (np.sqrt(gravity * deep) - np.sqrt(gravity * height))

    middle = brentq(velocity_mismatch, shallow, deep, xtol=1e-14)
    velocity = 2 * (np.sqrt(gravity * deep) - np.sqrt(gravity * middle))
    bore = middle * velocity / (middle - shallow)

    def height(speed):
        fan = (2 * np.sqrt(gravity * deep) - speed) ** 2 / (9 * gravity)
        regions = [speed < -np.sqrt(gravity * deep), speed < velocity - np.sqrt(gravity * middle), speed < bore]
        return np.select(regions, [deep, fan, middle], shallow)

    def error(cells):
        state = solve_tube(ShallowWaterEquations(gravity), (deep, 0, 0), (shallow, 0, 0), cells, time)
        centres = (np.arange(cells) + 0.5) / cells
        fine = centres[:, None] + ((np.arange(64) + 0.5) / 64 - 0.5) / cells
        return np.abs(state.conserved[0, 0, :, 0].numpy() - height((fine - 0.5) / time).mean(axis=1)).mean()

    coarse, fine = error(64), error(256)
    assert coarse < 0.01
    assert np.log2(coarse / fine) / 2 > 0.8


def test_a_transcritical_rarefaction_has_no_jump():
    """Roe's flux without an entropy fix keeps an expansion shock at the critical point."""
    state = solve_tube(ShallowWaterEquations(1.0), (2, 0, 0), (0.05, 0, 0), 200, 0.12)
    height = state.primitive[0, 0, :, 0]
    critical = height[:120]
    assert float((critical[1:] - critical[:-1]).abs().max()) < 0.08


def test_standing_water_stays_at_rest_bit_for_bit():
    solver = HyperbolicSolver(ShallowWaterEquations(9.81), (0.1, 0.1), "outflow")
    rest = torch.zeros(3, 1, 12, 12, dtype=torch.float64)
    rest[0] = 1.7
    assert torch.equal(solver.advance(solver.start(rest), 1.0).primitive, rest)


def test_a_contact_and_a_shear_layer_at_rest_stay_sharp():
    state = solve_tube(LAW, (1, 0, 0.3, 0.7), (0.2, 0, -0.8, 0.7), 32, 1.0)
    torch.testing.assert_close(state.primitive, tube((1, 0, 0.3, 0.7), (0.2, 0, -0.8, 0.7), 32), rtol=0, atol=1e-12)


def test_the_flux_of_equal_states_is_the_flux_of_the_equations():
    state = torch.tensor([0.7, 0.3, -2.0, 0.4], dtype=torch.float64)
    energy = 0.4 / 0.4 + 0.35 * (0.09 + 4)
    along_x = torch.tensor([0.21, 0.21 * 0.3 + 0.4, -0.42, 0.3 * (energy + 0.4)], dtype=torch.float64)
    along_y = torch.tensor([-1.4, -0.42, 2.8 + 0.4, -2.0 * (energy + 0.4)], dtype=torch.float64)
    torch.testing.assert_close(LAW.flux(state, state, 1), along_x, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(LAW.flux(state, state, 2), along_y, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("law", [LAW, ShallowWaterEquations(2.0)])
def test_primitive_and_conserved_variables_are_inverse_to_each_other(law):
    values = torch.rand(3 + (law is LAW), 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    torch.testing.assert_close(law.primitive(law.conserved(values)), values, rtol=1e-13, atol=1e-13)


def test_exchanging_the_axes_exchanges_the_solution_bit_for_bit(random_states, periodic):
    state = random_states(2)
    turned = state[[0, 2, 1, 3]].transpose(-1, -2).contiguous()
    one = periodic.advance(periodic.start(state), 0.3).primitive
    other = periodic.advance(periodic.start(turned), 0.3).primitive
    assert torch.equal(one, other[[0, 2, 1, 3]].transpose(-1, -2))


def test_a_translation_on_the_torus_translates_the_solution_bit_for_bit(random_states, periodic):
    state = random_states(1)
    one = periodic.advance(periodic.start(state), 0.3).primitive
    other = periodic.advance(periodic.start(state.roll((3, 5), (-2, -1))), 0.3).primitive
    assert torch.equal(one.roll((3, 5), (-2, -1)), other)


def test_a_sample_is_the_same_bits_in_any_batch(random_states, periodic):
    """Also next to samples that are faster, and that need repairs."""
    state = random_states(4)
    state[1:3, 2] *= 25
    together = periodic.advance(periodic.start(state), 0.2)
    for sample in range(4):
        alone = periodic.advance(periodic.start(state[:, sample : sample + 1].contiguous()), 0.2)
        assert torch.equal(alone.conserved[:, 0], together.conserved[:, sample])
        assert alone.repaired[0] == together.repaired[sample]


def test_strong_rarefactions_are_repaired_without_losing_anything(random_states, periodic):
    """Mach numbers to 60: cells are nearly emptied, and steps have to be done again."""
    state = random_states(8, velocity=60.0)
    start = periodic.start(state)
    end = periodic.advance(start, 0.01)
    assert not end.failed.any()
    assert end.repaired.sum() > 0
    assert float(end.primitive[[0, 3]].min()) > FLOOR
    drift = (end.conserved.sum((2, 3)) - start.conserved.sum((2, 3))).abs() / start.conserved.abs().sum((2, 3))
    assert float(drift.max()) < 1e-13


def test_a_step_that_is_too_long_for_zero_slopes_is_shortened(random_states):
    solver = HyperbolicSolver(LAW, (1 / 16, 1 / 16), courant=6.0)
    end = solver.advance(solver.start(random_states(4, velocity=5.0)), 0.2)
    assert not end.failed.any()
    assert (end.repaired > 0).all()
    assert float(end.primitive[[0, 3]].min()) > FLOOR


def test_a_state_that_is_not_physical_is_reported_and_does_not_disturb_the_others(random_states, periodic):
    state = random_states(2)
    expected = periodic.advance(periodic.start(state[:, 1:].contiguous()), 0.1)
    state[3, 0, 4, 4] = -1.0
    end = periodic.advance(periodic.start(state), 0.1)
    assert end.failed.tolist() == [True, False]
    assert torch.equal(end.conserved[:, 1], expected.conserved[:, 0])


def test_waves_leave_through_an_open_boundary():
    solver = HyperbolicSolver(ShallowWaterEquations(1.0), (0.1, 0.1), "outflow")
    state = torch.zeros(3, 1, 40, 40, dtype=torch.float64)
    state[0] = 1.0
    state[0, 0, 16:24, 16:24] = 1.01
    end = solver.advance(solver.start(state), 8.0)
    assert float((end.primitive[0] - 1).abs().max()) < 1e-4


@pytest.mark.parametrize("limiter", LIMITERS.values(), ids=LIMITERS)
def test_face_values_lie_between_the_means_of_the_cells_beside_the_face(limiter):
    cells = torch.randn(1, 2000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    padded = pad_periodic(cells, -2)
    before, behind = face_states(padded, -2, limiter)
    left, right = padded[:, 1:-2], padded[:, 2:-1]
    for face in (before, behind):
        assert (face <= torch.maximum(left, right) + 1e-12).all()
        assert (face >= torch.minimum(left, right) - 1e-12).all()


@pytest.mark.parametrize("limiter", LIMITERS.values(), ids=LIMITERS)
def test_linear_functions_are_reconstructed_exactly(limiter):
    cells = torch.arange(20, dtype=torch.float64)[None, :, None]
    before, behind = face_states(cells, -2, limiter)
    torch.testing.assert_close(before, cells[:, 1:-2] + 0.5)
    torch.testing.assert_close(behind, cells[:, 1:-2] + 0.5)


def test_ghost_cells_are_the_other_end_or_the_last_cell():
    cells = torch.arange(4.0)[:, None]
    assert pad_periodic(cells, -2).flatten().tolist() == [2, 3, 0, 1, 2, 3, 0, 1]
    assert pad_outflow(cells, -2).flatten().tolist() == [0, 0, 0, 1, 2, 3, 3, 3]
