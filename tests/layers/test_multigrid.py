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


@pytest.mark.parametrize(
    ("boundary", "space", "options"),
    [
        (["periodic", ["dirichlet", "neumann"]], (4, 5), {"norm_layer": GroupNorm}),
        ("neumann", (4, 5), {"norm_layer": GroupNorm}),
        (["periodic"], (6,), {"levels": 3, "cycle": "f", "restrict_residual": True}),
        (["dirichlet"], (7,), {"levels": 3, "cycle": "w", "interior_nodes": True, "channel_growth": 1.0}),
        (["periodic", "dirichlet", ["neumann", "dirichlet"]], (2, 3, 3), {"interior_nodes": True}),
    ],
)
def test_gradients_are_right_in_float64(boundary, space, options):
    cycle = randomised(MultigridCycle(1, 2, boundary=boundary, bias=True, **{"levels": 2, **options}).double())
    x = torch.randn(1, 1, *space, dtype=torch.float64, requires_grad=True)
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


LINES = {1: (2 / 3, 0.5), 2: (4 / 5, 0.25), 3: (6 / 7, 0.125)}
"""Number of axes: damping of Jacobi's iteration with the best smoothing, one over the centre of the stencil."""


@pytest.mark.parametrize(
    ("boundary", "sizes"),
    [
        *((["periodic"], (size,)) for size in (32, 64, 128, 256)),
        *((["periodic"] * 2, (size, size)) for size in (32, 64, 128, 256)),
        *((["periodic"] * 3, (size,) * 3) for size in (16, 32)),
        *((["dirichlet"], (size,)) for size in (31, 63, 127, 255)),
        *((["dirichlet"] * 2, (size, size)) for size in (31, 63, 127, 255)),
        *((["dirichlet"] * 3, (size,) * 3) for size in (15, 31)),
        (["periodic", "dirichlet"], (64, 63)),
    ],
)
def test_classical_stencils_make_one_v22_cycle_a_multigrid_solver_for_poisson(boundary, sizes):
    """-Laplace u = f."""
    assert max(residual_factors("v", boundary, sizes)) < 0.4


@pytest.mark.parametrize(
    ("boundary", "coarse", "fine"),
    [
        *((["periodic"] * n_axes, 32, 256) for n_axes in (1, 2)),
        (["periodic"] * 3, 16, 32),
        *((["dirichlet"] * n_axes, 31, 255) for n_axes in (1, 2)),
        (["dirichlet"] * 3, 15, 31),
    ],
)
def test_solver_for_poisson_is_as_fast_on_a_fine_grid_as_on_a_coarse_one(boundary, coarse, fine):
    slowest = [max(residual_factors("v", boundary, (size,) * len(boundary))) for size in (coarse, fine)]
    assert slowest[1] < 1.1 * slowest[0]


@pytest.mark.parametrize("side", ["periodic", "dirichlet"])
def test_slowest_error_of_all_is_reduced_as_well(side):
    """Three axes have the largest factors, and the first cycles flatter them."""
    assert max(residual_factors("v", [side] * 3, (15 + (side == "periodic"),) * 3, cycles=16)) < 0.4


@pytest.mark.parametrize(("boundary", "size"), [("periodic", 128), ("dirichlet", 127)])
def test_w_and_f_cycles_solve_poisson_at_least_as_fast_as_the_v_cycle(boundary, size):
    factors = {cycle: max(residual_factors(cycle, [boundary] * 2, (size, size))[1:]) for cycle in "vwf"}
    assert factors["w"] <= factors["f"] * 1.01 <= factors["v"] * 1.02
    assert factors["w"] < 0.2


def test_interior_nodes_matter_for_the_solver_with_dirichlet_sides():
    """Coarse points at the even ones put the zero value elsewhere on every level."""
    nested, not_nested = (
        max(residual_factors("v", ["dirichlet"], (63,), interior_nodes=nodes)) for nodes in (True, False)
    )
    assert nested < 0.4 < not_nested


@pytest.mark.parametrize(
    ("cycle", "levels", "order"),
    [
        ("v", 4, "0123210"),
        ("w", 4, "012323212323210"),
        ("f", 4, "0123232123210"),
    ],
)
def test_cycles_visit_the_levels_in_the_classical_order(cycle, levels, order):
    """Trottenberg, Oosterlee, Schueller, Multigrid, figures 2.6 and 2.12."""
    layer = MultigridCycle(1, 1, boundary="periodic", smoothing=(2, 1), levels=levels, cycle=cycle)
    seen = []
    for level in range(levels):
        for steps in (layer.pre[level], layer.post[level]):
            if len(steps):
                steps[0].register_forward_hook(lambda *_, level=level: seen.append(level))
    layer(torch.randn(1, 1, 16, 16))
    assert "".join(str(level) for level, _ in itertools.groupby(seen)) == order


@pytest.mark.parametrize("cycle", ["v", "w", "f"])
@pytest.mark.parametrize("restrict_residual", [False, True])
def test_every_cycle_is_linear_and_commutes_with_shifts(cycle, restrict_residual):
    layer = MultigridCycle(
        2,
        3,
        boundary="periodic",
        schedule=SCHEDULE,
        cycle=cycle,
        restrict_residual=restrict_residual,
        channel_growth=0.5,
    )
    f, g = torch.randn(2, 1, 2, 48, 80)
    expected = layer(f)
    torch.testing.assert_close(layer(f + 3 * g), expected + 3 * layer(g), rtol=1e-5, atol=1e-5)
    shifted = layer(f.roll((8, 24), (2, 3))) - expected.roll((8, 24), (2, 3))
    assert shifted.abs().max() < 1e-5 * expected.abs().max()


def test_the_three_cycles_have_the_same_weights():
    states = [MultigridCycle(1, 2, levels=4, cycle=cycle).state_dict() for cycle in "vwf"]
    assert len({tuple((name, value.shape) for name, value in state.items()) for state in states}) == 1


def test_channels_grow_with_the_level():
    layer = MultigridCycle(1, 20, levels=5, smoothing=(1, 0), channel_growth=1.0)
    assert [steps[-1].S.weight.shape[:2] for steps in layer.pre[1:]] == [(40, 2), (60, 3), (80, 4), (100, 5)]
    assert layer(torch.randn(2, 1, 101, 101)).shape == (2, 20, 101, 101)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 33), min_size=1, max_size=2),
    side=st.sampled_from(["dirichlet", "neumann", "periodic", ("dirichlet", "neumann"), ("neumann", "dirichlet")]),
)
def test_interior_nodes_keep_the_grid_whatever_its_size(sizes, side):
    layer = MultigridCycle(1, 2, boundary=[side] * len(sizes), levels=4, interior_nodes=True)
    assert layer(torch.randn(1, 1, *sizes)).shape == (1, 2, *sizes)


@pytest.mark.parametrize("side", ["dirichlet", "neumann", ("neumann", "dirichlet")])
def test_constant_is_prolonged_exactly_next_to_sides_that_let_it_pass(side):
    """Linear interpolation of 1 is 1 but for the cell beside a zero."""
    for length in (15, 16, 31):
        layer = MultigridCycle(1, 1, boundary=[side], levels=2, interior_nodes=True)
        coarse = layer.restrict_u[0](torch.ones(1, 1, length))
        fine = layer.prolong[0](torch.ones_like(coarse), (length,))[0, 0]
        zero_below, zero_above = "dirichlet" in (side, side[0]), "dirichlet" in (side, side[1])
        inside = fine[int(zero_below) : length - int(zero_above)]
        torch.testing.assert_close(inside, torch.ones_like(inside))


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cycle": "x"}, "unknown cycle 'x'. Allowed: v, w, f."),
        ({"schedule": SCHEDULE, "levels": 4}, "has its own number of levels; leave levels=4 out"),
        ({"schedule": SCHEDULE, "smoothing": (2, 2)}, r"own smoothing steps; leave smoothing=\(2, 2\) out"),
        ({"levels": 0}, "levels must be at least 1, got 0"),
        ({"smoothing": (1,)}, r"smoothing \(1,\): give \(pre, post\) steps >= 0"),
        ({"smoothing": (0, 1)}, "finest level needs at least one pre-smoothing step"),
        ({"channel_growth": -1.0}, "channel_growth must be at least 0, got -1.0"),
        ({"grid": (16,), "boundary": ["periodic"] * 2}, "of each of the 2 axes"),
    ],
)
def test_impossible_cycle_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        MultigridCycle(1, 1, **options)


def test_published_layout_that_does_not_fit_the_schedule_is_refused():
    with pytest.raises(UserError, match="give one for each of the 3 levels above the coarsest"):
        MultigridCycle(1, 1, schedule=SCHEDULE, published_widths=[4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"published_widths": [4], "channel_growth": 1.0}, "leave channel_growth and interior_nodes out"),
        ({"published_widths": [4], "interior_nodes": True}, "leave channel_growth and interior_nodes out"),
        ({"published_norm_grid": [16, 16], "norm_layer": GroupNorm}, "is a norm for the levels itself"),
    ],
)
def test_options_that_the_published_cycle_does_not_have_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MultigridCycle(1, 1, levels=2, **options)


def randomised(cycle):
    """Transfers that mix channels, too: classical ones would make symmetry tests weaker."""
    for parameter in cycle.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return cycle


def residual_factors(cycle, boundary, sizes, *, interior_nodes=True, cycles=6):
    """||f - A u|| after one cycle over that before it, for each of the cycles from u = 0."""
    layer, laplacian = classical_cycle(cycle, boundary, sizes, interior_nodes=interior_nodes)
    f = torch.randn(1, 1, *sizes, dtype=torch.float64)
    if "dirichlet" not in boundary:
        f -= f.mean()
    u = torch.zeros_like(f)
    residuals = [f.norm().item()]
    with torch.no_grad():
        for _ in range(cycles):
            u = u + layer(f - laplacian(u))
            residuals.append((f - laplacian(u)).norm().item())
    return [after / before for before, after in itertools.pairwise(residuals)]


def classical_cycle(cycle, boundary, sizes, *, interior_nodes):
    """Second differences (h = 1 on the finest grid), damped Jacobi, full weighting, linear interpolation; (2, 2) steps,
    the correction scheme, and 40 steps on a coarsest grid of at most 4 points per axis."""
    levels = 1
    while max(sizes) / 2**levels > 2:
        levels += 1
    schedule = (*((2, 2),) * (levels - 1), (40, 0))
    layer = MultigridCycle(
        1, 1, boundary=boundary, schedule=schedule, cycle=cycle, restrict_residual=True, interior_nodes=interior_nodes
    ).double()
    damping, inverse_of_centre = LINES[len(sizes)]
    centre = (1,) * len(sizes)
    stencil = torch.zeros((3,) * len(sizes), dtype=torch.float64)
    for axis in range(len(sizes)):
        stencil[centre] += 2
        for side in (0, 2):
            stencil[(*centre[:axis], side, *centre[axis + 1 :])] = -1
    smoother = torch.zeros_like(stencil)
    smoother[centre] = damping * inverse_of_centre
    with torch.no_grad():
        layer.first.weight[:] = smoother
        for restriction in layer.restrict_u:
            restriction.weight.zero_()
        for level in range(levels):
            if level < levels - 1:
                layer.residual[level].weight[:] = stencil / 4**level
            for step in (*layer.pre[level], *layer.post[level]):
                step.A.weight[:] = stencil / 4**level
                step.S.weight[:] = smoother * 4**level
    laplacian = Convolution(1, 1, boundary=boundary).double()
    laplacian.weight.data[:] = stencil
    return layer, laplacian
