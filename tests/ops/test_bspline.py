"""B-splines: what the theory says, and kernels that agree with the definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from katops.errors import UserError
from katops.ops.bspline import BSPLINE, bspline_basis
from katops.ops.bspline_definition import basis_by_definition
from katops.ops.dispatch import use_backend

EXTRAPOLATIONS = ("linear", "clamp", "zero")
DEGREES = (1, 2, 3)


def knots_of(inputs=3, intervals=5, degree=3, seed=0):
    """Strictly increasing knots at random distances."""
    generator = torch.Generator().manual_seed(seed)
    gaps = 0.1 + torch.rand(inputs, intervals + 2 * degree, generator=generator, dtype=torch.float64)
    return torch.cat([torch.full((inputs, 1), -2.0, dtype=torch.float64), gaps], 1).cumsum(1)


def inside(knots, degree, rows=200):
    low, high = knots[:, degree], knots[:, -1 - degree]
    return torch.lerp(low, high, torch.rand(rows, len(knots), dtype=torch.float64))


@settings(max_examples=25, deadline=None)
@given(degree=st.integers(1, 3), intervals=st.integers(1, 12), inputs=st.integers(1, 4), seed=st.integers(0, 2**31 - 1))
def test_functions_sum_to_one_and_at_most_degree_plus_one_are_not_zero(degree, intervals, inputs, seed):
    knots = knots_of(inputs, intervals, degree, seed)
    values = bspline_basis(inside(knots, degree, 20), knots, degree)
    assert values.shape == (20, inputs, intervals + degree)
    torch.testing.assert_close(values.sum(-1), torch.ones(20, inputs, dtype=torch.float64))
    assert (values >= -1e-12).all()
    assert ((values.abs() > 1e-12).sum(-1) <= degree + 1).all()


@pytest.mark.parametrize("degree", DEGREES)
def test_values_and_derivatives_are_those_of_scipy(degree):
    knots = knots_of(degree=degree)
    x = inside(knots, degree)
    for order in range(degree + 1):
        values = bspline_basis(x, knots, degree, order=order)
        for i in range(len(knots)):
            for m in range(values.shape[-1]):
                unit = np.eye(values.shape[-1])[m]
                expected = BSpline(knots[i].numpy(), unit, degree).derivative(order)(x[:, i].numpy())
                np.testing.assert_allclose(values[:, i, m].numpy(), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)
@pytest.mark.parametrize(("degree", "dtype"), [*((degree, torch.float64) for degree in DEGREES), (3, torch.float32)])
def test_kernel_agrees_with_the_definition_in_values_and_gradients(degree, extrapolation, dtype):
    knots = knots_of(degree=degree).to(dtype)
    ends = torch.stack([knots[:, degree], knots[:, -1 - degree], knots[:, degree + 1], knots[:, 0], knots[:, -1]])
    x = torch.cat([6 * torch.rand(300, 3, dtype=dtype) - 3, ends, torch.full((1, 3), 50.0, dtype=dtype)])
    x.requires_grad_()
    weights = torch.randn(len(x), 3, knots.shape[1] - degree - 1, dtype=dtype)
    found = []
    for backend in ("numba", "torch"):
        with use_backend(backend):
            y = bspline_basis(x, knots, degree, extrapolation)
            found.append((y, torch.autograd.grad((y * weights).sum(), x)[0]))
    expected = basis_by_definition(x, knots, degree, extrapolation)
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-5}
    for y, gradient in found:
        torch.testing.assert_close(y, expected, **tolerance)
        torch.testing.assert_close(gradient, found[1][1], **tolerance)


def test_numba_runs_on_the_cpu_unless_another_backend_is_named():
    assert BSPLINE.choose(torch.device("cpu"), (torch.float32,))[0] == "numba"


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # of torch's own forward mode
@pytest.mark.parametrize("extrapolation", EXTRAPOLATIONS)
def test_derivatives_of_first_and_second_order_are_right(extrapolation):
    knots = knots_of(inputs=2)
    x = torch.cat([inside(knots, 3, 4), knots[:, :1].T - 0.3, knots[:, -1:].T + 0.3]).requires_grad_()

    def function(x):
        return bspline_basis(x, knots, 3, extrapolation)

    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))
    forward = torch.func.jvp(function, (x.detach(),), (torch.ones_like(x),))[1]
    torch.testing.assert_close(forward, bspline_basis(x.detach(), knots, 3, extrapolation, order=1))
    mapped = torch.func.vmap(function)(x.detach()[:, None])
    torch.testing.assert_close(mapped[:, 0], function(x.detach()))


@pytest.mark.parametrize("degree", DEGREES)
def test_a_spline_goes_on_as_its_tangent_as_its_end_or_as_zero(degree):
    knots = knots_of(degree=degree)
    coefficients = torch.randn(3, knots.shape[1] - degree - 1, dtype=torch.float64)
    low, high = knots[:, degree], knots[:, -1 - degree]

    def spline(x, extrapolation, order=0):
        return (bspline_basis(x, knots, degree, extrapolation, order) * coefficients).sum(-1)

    for end, step in ((low, -3.0), (high, 3.0)):
        value, slope = spline(end, "linear"), spline(end, "linear", order=1)
        torch.testing.assert_close(spline(end + step, "linear"), value + step * slope)
        torch.testing.assert_close(spline(end + step, "linear", order=1), slope)
        torch.testing.assert_close(spline(end + step, "clamp"), value)
    far = torch.stack([knots[:, 0] - 1, knots[:, -1] + 1])
    assert not spline(far, "zero").any()


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_a_value_that_is_no_number_gives_none_and_touches_no_other(backend):
    knots = knots_of(inputs=2)
    x = inside(knots, 3, 5)
    expected = bspline_basis(x, knots, 3)
    x[2, 1] = float("nan")
    x.requires_grad_()
    with use_backend(backend):
        y = bspline_basis(x, knots, 3)
        (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y[2, 1].isnan().all()
    assert gradient[2, 1].isnan()
    y = y.detach()
    y[2, 1] = expected[2, 1]
    torch.testing.assert_close(y, expected)


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_infinite_values_are_the_ends_where_splines_are_clamped(backend):
    knots = knots_of(inputs=2)
    x = torch.tensor([[float("inf")] * 2, [-float("inf")] * 2], dtype=torch.float64, requires_grad=True)
    with use_backend(backend):
        y = bspline_basis(x, knots, 3, "clamp")
        (gradient,) = torch.autograd.grad(y[..., 1].sum(), x)
    torch.testing.assert_close(y, bspline_basis(torch.stack([knots[:, -4], knots[:, 3]]), knots, 3))
    assert not gradient.any()


def test_two_runs_are_equal_bit_for_bit():
    knots = knots_of().float()
    x = torch.randn(1000, 3).requires_grad_()
    runs = [torch.autograd.grad(bspline_basis(x, knots, 3).square().sum(), x)[0] for _ in range(2)]
    assert torch.equal(*runs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 0}, "degree must be at least 1"),
        ({"extrapolation": "mirror"}, "linear, clamp, zero"),
        ({"x": torch.zeros(4, 2, dtype=torch.float64)}, r"expected x \(..., inputs\)"),
        ({"x": torch.zeros(4, 3, dtype=torch.float16)}, "float32 or float64"),
    ],
)
def test_wrong_arguments_are_told_in_a_sentence(change, message):
    arguments = {"x": torch.zeros(4, 3, dtype=torch.float64), "knots": knots_of(), "degree": 3, **change}
    with pytest.raises(UserError, match=message):
        bspline_basis(**arguments)
