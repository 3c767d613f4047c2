"""Facts about the V-cycle: linearity, equivariances, grids of any size, and that it contains classical multigrid."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.layers import Convolution, GroupNorm, MultigridCycle

SCHEDULE = ((2, 1), (1, 1), (1, 1), (2, 0))


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_cycle_is_additive_and_homogeneous(boundary):
    cycle = MultigridCycle(2, 3, boundary=boundary, schedule=SCHEDULE)
    f, g = torch.randn(2, 2, 2, 19, 24)
    torch.testing.assert_close(cycle(f + 3 * g), cycle(f) + 3 * cycle(g), rtol=1e-5, atol=1e-5)


def test_periodic_cycle_commutes_with_shifts_of_the_coarsest_grid():
    cycle = randomised(MultigridCycle(2, 3, boundary="periodic", schedule=SCHEDULE))
    f = torch.randn(1, 2, 48, 80)
    for shift in [(8, 0), (0, 16), (24, 40)]:
        shifted = cycle(f.roll(shift, (2, 3)))
        expected = cycle(f).roll(shift, (2, 3))
        assert (shifted - expected).abs().max() < 1e-5 * expected.abs().max()


def test_axis_that_is_periodic_commutes_with_shifts_while_the_other_does_not():
    cycle = MultigridCycle(1, 1, boundary=["periodic", ["dirichlet", "neumann"]], schedule=((1, 1), (2, 0)))
    f = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(cycle(f.roll(4, 2)), cycle(f).roll(4, 2), rtol=1e-5, atol=1e-5)
    assert (cycle(f.roll(4, 3)) - cycle(f).roll(4, 3)).abs().max() > 1e-3


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
def test_cycle_with_symmetric_stencils_commutes_with_reflections_on_nested_grids(boundary):
    """On 2^k + 1 points both ends are points of every grid."""
    cycle = randomised(MultigridCycle(2, 3, boundary=boundary, schedule=SCHEDULE))
    for weight in cycle.parameters():
        weight.data = (weight.data + weight.data.flip(2)) / 2
    f = torch.randn(1, 2, 33, 20)
    torch.testing.assert_close(cycle(f.flip(2)), cycle(f).flip(2), rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 11), min_size=1, max_size=3),
    side=st.sampled_from(["dirichlet", "neumann", "periodic", ("dirichlet", "neumann")]),
)
def test_output_grid_is_the_input_grid(sizes, side):
    cycle = MultigridCycle(2, 3, boundary=[side] * len(sizes), schedule=((1, 1), (1, 1), (1, 0)))
    assert cycle(torch.randn(2, 2, *sizes)).shape == (2, 3, *sizes)


def test_grid_smaller_than_the_hierarchy_ends_in_levels_of_one_point():
    cycle = MultigridCycle(1, 2, schedule=((1, 1),) * 5)
    sizes = []
    for level in cycle.pre:
        for step in level:
            step.register_forward_hook(lambda module, inputs, output: sizes.append(tuple(output.shape[2:])))
    assert cycle(torch.randn(1, 1, 5, 3)).shape == (1, 2, 5, 3)
    assert sizes == [(3, 2), (2, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize("boundary", [["periodic", ["dirichlet", "neumann"]], "neumann"])
def test_gradients_are_right_in_float64(boundary):
    cycle = MultigridCycle(1, 2, boundary=boundary, schedule=((1, 1), (1, 0)), bias=True, norm_layer=GroupNorm).double()
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*cycle.named_parameters(), strict=True)

    def function(x, *values):
        return torch.func.functional_call(cycle, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_work_on_the_coarsest_grid_reaches_every_point():
    """One pair of grids sees a few points far; a hierarchy down to one point sees all."""
    reach = {}
    for levels in (1, 5):
        cycle = MultigridCycle(1, 1, schedule=((1, 1),) * levels)
        f = torch.zeros(1, 1, 16, 16)
        f[..., 0, 0] = 1
        reach[levels] = (cycle(f) != 0).float().mean().item()
    assert reach[1] < 0.2
    assert reach[5] == 1.0


@pytest.mark.parametrize(("size", "levels"), [(32, 4), (64, 5), (128, 6)])
def test_classical_stencils_make_the_cycle_a_multigrid_solver_for_periodic_poisson(size, levels):
    """-Laplace u = f with damped Jacobi; V(0, 3), because the cycle restricts f itself and not a residual."""
    cycle, laplacian = classical_cycle(levels)
    f = torch.randn(1, 1, size, size, dtype=torch.float64)
    f -= f.mean()
    u = torch.zeros_like(f)
    residuals = []
    with torch.no_grad():
        for _ in range(6):
            u = u + cycle(f - laplacian(u))
            residuals.append((f - laplacian(u)).norm().item())
    factors = [after / before for before, after in itertools.pairwise(residuals)]
    assert max(factors) < 0.4


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([], "at least one level"),
        ([[1, -1]], "steps >= 0"),
        ([[1, 1, 1]], r"\(pre, post\)"),
        ([[0, 1], [1, 0]], "finest level needs at least one pre-smoothing step"),
    ],
)
def test_impossible_schedule_is_refused(schedule, message):
    with pytest.raises(UserError, match=message):
        MultigridCycle(1, 1, schedule=schedule)


def test_published_layout_that_does_not_fit_the_schedule_is_refused():
    with pytest.raises(UserError, match="give one for each of the 3 levels above the coarsest"):
        MultigridCycle(1, 1, schedule=SCHEDULE, published_widths=[4])


def randomised(cycle):
    """Transfers that mix channels, too: classical ones would make symmetry tests weaker."""
    for parameter in cycle.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return cycle


def classical_cycle(levels):
    """Five-point Laplacian (h = 1 on the finest grid), Jacobi damped by 4/5, full weighting, linear interpolation."""
    schedule = ((1, 3), *((0, 3),) * (levels - 2), (40, 0))
    cycle = MultigridCycle(1, 1, boundary="periodic", schedule=schedule).double()
    stencil = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]], dtype=torch.float64)
    centre = torch.zeros(3, 3, dtype=torch.float64)
    centre[1, 1] = 0.8 / 4
    with torch.no_grad():
        cycle.first.weight.zero_()
        for restriction in cycle.restrict_u:
            restriction.weight.zero_()
        for level in range(levels):
            for step in (*cycle.pre[level], *cycle.post[level]):
                step.A.weight.copy_(stencil / 4**level)
                step.S.weight.copy_(centre * 4**level)
    laplacian = Convolution(1, 1, boundary="periodic").double()
    laplacian.weight.data[:] = stencil
    return cycle, laplacian
