"""The plain-torch group rational function against exact arithmetic, golden values, gradcheck and its own docstring."""

import itertools
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from katops.errors import UserError
from katops.ops.dispatch import use_backend
from katops.ops.rational import group_rational
from katops.ops.rational_kernels import far_limit
from katops.ops.rational_shapes import SHAPES, evaluate

GELU = SHAPES["gelu"]


@pytest.fixture(autouse=True)
def _definition() -> Iterator[None]:
    """These are facts about the definition; the kernels, measured against it, have their own files."""
    with use_backend("torch"):
        yield


def coefficients(groups: int = 4, m: int = 5, n: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    return torch.randn(groups, m + 1, dtype=dtype), torch.randn(groups, n, dtype=dtype)


def away_from_zero(*shape: int) -> Tensor:
    """float64 values with 0.1 < |x| < about 4, so that finite differences do not cross the kink."""
    x = torch.randn(*shape, dtype=torch.float64)
    return x + torch.copysign(torch.tensor(0.1), x)


def by_definition(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1) -> Tensor:
    """P / Q by powers and autograd, channels expanded to their groups' coefficients."""
    groups = max(len(numerator), len(denominator))
    x = x.movedim(channel_dim, -1)
    group = torch.arange(x.shape[-1]) * groups // max(x.shape[-1], 1)
    a, b = numerator.expand(groups, -1)[group], denominator.expand(groups, -1)[group]
    size_b = torch.where(b < 0, -b, b)
    p = sum((a[:, i] * x**i for i in range(a.shape[1])), torch.zeros_like(x))
    q = 1 + sum((size_b[:, j] * x.abs() ** (j + 1) for j in range(b.shape[1])), torch.zeros_like(x))
    return (p / q).movedim(-1, channel_dim)


def results(function, x: Tensor, numerator: Tensor, denominator: Tensor, weight: Tensor, **options) -> list[Tensor]:
    """Value and the three gradients of (y * weight).sum()."""
    inputs = [tensor.detach().requires_grad_() for tensor in (x, numerator, denominator)]
    y = function(*inputs, **options)
    gradients = torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True)
    return [
        y.detach(),
        *(torch.zeros_like(i) if g is None else g for i, g in zip(inputs, gradients, strict=True)),
    ]


def assert_all_close(given: list[Tensor], expected: list[Tensor], **tolerance: float) -> None:
    for name, one, other in zip(("y", "x", "numerator", "denominator"), given, expected, strict=True):
        torch.testing.assert_close(one, other, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


# Golden values and derivatives


@pytest.mark.parametrize("case", range(5))
def test_golden_values_and_gradients(shared: Path, case: int) -> None:
    golden = load_file(shared / "golden" / "rational.safetensors")
    x, numerator, denominator, weight = (
        golden[f"case{case}.{name}"] for name in ("x", "numerator", "denominator", "grad_output")
    )
    expected = [golden[f"case{case}.{name}"] for name in ("output", "grad_x", "grad_numerator", "grad_denominator")]
    assert_all_close(results(group_rational, x, numerator, denominator, weight), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_degrees_groups_and_axes_agree_with_the_definition(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(0, 7), "m"), data.draw(st.integers(0, 6), "n")
    groups, per_group = data.draw(st.integers(1, 4), "groups"), data.draw(st.integers(1, 3), "channels per group")
    shape = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=3), "other axes")
    channel_dim = data.draw(st.integers(-len(shape) - 1, len(shape)), "channel_dim")
    shape.insert(channel_dim % (len(shape) + 1), groups * per_group)
    rows = data.draw(st.sampled_from([(groups, groups), (1, groups), (groups, 1)]), "rows")
    torch.manual_seed(data.draw(st.integers(0, 1000), "seed"))
    numerator, denominator = torch.randn(rows[0], m + 1).double(), torch.randn(rows[1], n).double()
    x, weight = away_from_zero(*shape), torch.randn(shape).double()
    given, expected = (
        results(function, x, numerator, denominator, weight, channel_dim=channel_dim)
        for function in (group_rational, by_definition)
    )
    assert_all_close(given, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("degrees", [(5, 4), (3, 2), (2, 5), (0, 3), (4, 1)])
@pytest.mark.parametrize("rows", [(2, 2), (1, 2), (2, 1)])
def test_gradients_of_first_and_second_order(degrees: tuple[int, int], rows: tuple[int, int]) -> None:
    numerator = torch.randn(rows[0], degrees[0] + 1, dtype=torch.float64, requires_grad=True)
    denominator = torch.randn(rows[1], degrees[1], dtype=torch.float64, requires_grad=True)
    inputs = (away_from_zero(3, 4).requires_grad_(), numerator, denominator)
    assert torch.autograd.gradcheck(group_rational, inputs)
    assert torch.autograd.gradgradcheck(group_rational, inputs)


def test_gradients_of_a_polynomial() -> None:
    inputs = (away_from_zero(3, 4).requires_grad_(), coefficients(2)[0].requires_grad_(), torch.zeros(2, 0).double())
    assert torch.autograd.gradcheck(group_rational, inputs)
    assert torch.autograd.gradgradcheck(group_rational, inputs)


def test_gradients_of_first_and_second_order_far_out() -> None:
    """On both sides of the switch to 1/x, in units in which finite differences see every coefficient."""
    numerator, denominator = coefficients(2, 5, 4)
    limit = far_limit(torch.float64, 5, 4)
    direction = torch.tensor([1.0, -0.9, 3.0, -1.5], dtype=torch.float64)

    def scaled(t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return group_rational(limit * t, a, b) / limit

    inputs = (direction.clone().requires_grad_(), numerator.requires_grad_(), denominator.requires_grad_())
    assert torch.autograd.gradcheck(scaled, inputs, atol=1e-4, rtol=1e-4)
    assert torch.autograd.gradgradcheck(scaled, inputs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_derivatives_in_x_up_to_the_fourth_are_those_of_the_quotient(sign: float) -> None:
    """(N / Q^k)' = (N' Q - k N Q') / Q^(k+1), with |x| = sign x."""
    polynomial = np.polynomial.Polynomial
    numerator, denominator = coefficients(1)
    x = (sign * torch.rand(50, 1).double() + sign * 0.1).requires_grad_()
    signs = sign ** np.arange(5)
    n, q = polynomial(numerator[0].numpy()), polynomial(signs * np.concatenate([[1], denominator[0].abs().numpy()]))
    derivative = group_rational(x, numerator, denominator)
    for order in range(1, 6):
        points = x.detach().numpy()
        np.testing.assert_allclose(derivative.detach().numpy(), n(points) / q(points) ** order, rtol=1e-9, atol=1e-9)
        derivative = torch.autograd.grad(derivative.sum(), x, create_graph=True)[0]
        n = n.deriv() * q - order * n * q.deriv()


def test_the_hessian_of_a_small_network_is_symmetric_and_matches_autograd() -> None:
    numerator, denominator = coefficients(2)
    first, second = torch.randn(3, 4).double(), torch.randn(4, 1).double()

    def network(function):
        return lambda x: (function(x @ first, numerator, denominator) @ second).sum()

    x = torch.tensor([0.3, -0.7, 1.1]).double()
    given = torch.autograd.functional.hessian(network(group_rational), x)
    torch.testing.assert_close(given, torch.autograd.functional.hessian(network(by_definition), x))
    torch.testing.assert_close(given, given.T)


# One-sided derivatives


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_denominator_coefficient_has_derivative_plus_one(zero: float) -> None:
    x, weight = torch.randn(20, 4).double(), torch.randn(20, 4).double()
    numerator = coefficients(2)[0]
    zeros = torch.full((2, 4), zero, dtype=torch.float64)
    at_zero = results(group_rational, x, numerator, zeros, weight)
    just_above = results(group_rational, x, numerator, zeros.abs() + 1e-300, weight)
    assert_all_close(at_zero, just_above)
    assert (at_zero[3].abs() > 0).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_zero_the_derivative_is_one_sided_on_the_side_of_the_sign_bit(zero: float) -> None:
    numerator, denominator = coefficients(1)
    at_zero = results(group_rational, torch.tensor([zero]).double(), numerator, denominator, torch.ones(1).double())
    side = math.copysign(1.0, zero)
    torch.testing.assert_close(at_zero[0], numerator[0, :1])
    torch.testing.assert_close(at_zero[1], (numerator[0, 1] - numerator[0, 0] * side * denominator[0, 0].abs())[None])


@pytest.mark.parametrize("name", SHAPES)
def test_all_shapes_agree_with_numpy(name: str) -> None:
    x = torch.linspace(-12, 12, 481, dtype=torch.float64)[:, None]
    a, b = SHAPES[name].numerator, SHAPES[name].denominator
    y = group_rational(x, *(torch.tensor([values], dtype=torch.float64) for values in (a, b)))
    np.testing.assert_allclose(y[:, 0], evaluate(x[:, 0].numpy(), a, b), rtol=1e-12, atol=1e-12)


# Range: exact arithmetic


def exact(x: float, numerator: list[float], denominator: list[float]) -> dict[str, list[tuple[Fraction, Fraction]]]:
    """Value and derivatives as fractions, each with its error scale (the sum of the sizes of its terms)."""
    x, a, b = Fraction(x), [Fraction(value) for value in numerator], [Fraction(value) for value in denominator]
    size, side = abs(x), -1 if x < 0 else 1
    terms = [a_i * x**i for i, a_i in enumerate(a)]
    q = 1 + sum(abs(b_j) * size**j for j, b_j in enumerate(b, 1))
    p_slope = [i * a_i * x ** (i - 1) for i, a_i in enumerate(a) if i]
    q_slope = sum(j * abs(b_j) * size ** (j - 1) for j, b_j in enumerate(b, 1))
    f, scale = sum(terms) / q, sum(abs(term) for term in terms) / q
    return {
        "y": [(f, scale)],
        "x": [((sum(p_slope) - f * side * q_slope) / q, (sum(map(abs, p_slope)) + scale * q_slope) / q)],
        "numerator": [(x**i / q, size**i / q) for i in range(len(a))],
        "denominator": [
            (-(1 if b_j >= 0 else -1) * f * size**j / q, scale * size**j / q) for j, b_j in enumerate(b, 1)
        ],
    }


def assert_exact(x: float, numerator: list[float], denominator: list[float], dtype: torch.dtype) -> None:
    """Each result within a few roundings of its terms; infinite where, and only where, the exact one is too large."""
    tensors = [torch.tensor([x], dtype=dtype), *(torch.tensor([c], dtype=dtype) for c in (numerator, denominator))]
    rounded = [tensor.flatten().tolist() for tensor in tensors]
    given = results(group_rational, *tensors, torch.ones(1, dtype=dtype))
    limits = torch.finfo(dtype)
    for (name, expected), tensor in zip(exact(rounded[0][0], *rounded[1:]).items(), given, strict=True):
        for (value, scale), got in zip(expected, tensor.flatten().tolist(), strict=True):
            place = f"{name} at x = {x!r}, a = {numerator}, b = {denominator}: {got}"
            if scale > Fraction(limits.max) / 4:
                assert not math.isnan(got), place
                if abs(value) > 4 * Fraction(limits.max):
                    assert got == (math.inf if value > 0 else -math.inf), place
            else:
                tolerance = 40 * Fraction(limits.eps) * scale + 40 * Fraction(limits.tiny)
                assert abs(Fraction(got) - value) <= tolerance, f"{place}, exactly {float(value)}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["identity", "gelu", "silu", "relu", "tanh", "published_gelu", "published_swish"])
def test_shapes_are_right_from_tiny_to_huge(name: str, dtype: torch.dtype) -> None:
    numerator, denominator = list(SHAPES[name].numerator), list(SHAPES[name].denominator)
    largest = int(math.log10(torch.finfo(dtype).max))
    for exponent in [-30, -8, -1, 0, 1, 4, 5, 6, 7, 10, 20, 30, largest]:
        for sign in (1, -1):
            assert_exact(sign * 10.0**exponent, numerator, denominator, dtype)


COEFFICIENT = st.one_of(st.just(0.0), st.floats(-4, 4, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3))


@settings(max_examples=50, deadline=None)
@given(
    exponent=st.floats(-30, 38),
    sign=st.sampled_from([1.0, -1.0]),
    numerator=st.lists(COEFFICIENT, min_size=1, max_size=6),
    denominator=st.lists(COEFFICIENT, max_size=5),
)
def test_any_coefficients_are_right_from_tiny_to_huge(
    exponent: float, sign: float, numerator: list[float], denominator: list[float]
) -> None:
    for dtype in (torch.float32, torch.float64):
        assert_exact(sign * 10.0**exponent, numerator, denominator, dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("degrees", [(5, 4), (1, 1), (2, 0), (7, 3)])
def test_both_sides_of_the_switch_to_the_reciprocal_are_right(dtype: torch.dtype, degrees: tuple[int, int]) -> None:
    numerator, denominator = coefficients(1, *degrees)
    limit = torch.tensor(far_limit(dtype, *degrees), dtype=dtype)
    assert 100 < limit < torch.finfo(dtype).max
    for x in (limit, torch.nextafter(limit, limit * 0), torch.nextafter(limit, limit * 2)):
        for sign in (1, -1):
            assert_exact(sign * x.item(), numerator[0].tolist(), denominator[0].tolist(), dtype)


@pytest.mark.parametrize("x", [900.0, -4090.0, 4100.0, -1e6, 1e12])
def test_the_second_derivative_is_right_on_both_sides_of_the_switch(x: float) -> None:
    """It is of the order x^-3, a sum of terms of the order 1/x that cancel."""

    def second_derivative(dtype: torch.dtype) -> float:
        point = torch.tensor([x], dtype=dtype, requires_grad=True)
        a, b = (torch.tensor([values], dtype=dtype) for values in (GELU.numerator, GELU.denominator))
        (slope,) = torch.autograd.grad(group_rational(point, a, b), point, create_graph=True)
        return torch.autograd.grad(slope, point)[0].item()

    assert abs(second_derivative(torch.float32) - second_derivative(torch.float64)) < 1e-5 / abs(x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_identity_is_the_identity_up_to_the_largest_number(dtype: torch.dtype) -> None:
    numerator, denominator = torch.tensor([SHAPES["identity"].numerator]), torch.zeros(1, 4)
    x = torch.tensor([1e30, -1e30, torch.finfo(dtype).max, 1e-30, 0, math.inf, -math.inf], dtype=dtype)
    x.requires_grad_()
    y = group_rational(x, numerator, denominator)
    y[:4].sum().backward()
    torch.testing.assert_close(y, x, rtol=2 * torch.finfo(dtype).eps, atol=0)
    torch.testing.assert_close(x.grad[:4], torch.ones(4, dtype=dtype))


@pytest.mark.parametrize(
    ("numerator", "denominator", "limit"),
    [
        ([0, 0, 0, 0, 0, 3], [0, 0, 0, 1.5], math.inf),
        ([9, 9, 9, 9, 3, 0], [9, 9, 9, -1.5], 2.0),
        ([9, 9, 9, -3, 0, 0], [9, 9, 1.5, 0], -2.0),
        ([9, 9, 9, 3, 0, 0], [9, 9, 9, 1.5], 0.0),
        ([0, 0, 0, 0, 0, 0], [9, 9, 9, 1.5], 0.0),
        ([5, 0, 0, 0, 0, 0], [0, 0, 0, 0], 5.0),
    ],
)
def test_an_infinite_input_gives_the_limit(numerator: list[float], denominator: list[float], limit: float) -> None:
    a, b = torch.tensor([numerator]).double(), torch.tensor([denominator]).double()
    assert group_rational(torch.tensor([math.inf]).double(), a, b).item() == limit
    # the lowest power that survives decides the sign on the other side
    odd = (max((i for i, value in enumerate(numerator) if value), default=0)) % 2
    assert group_rational(torch.tensor([-math.inf]).double(), a, b).item() == (-limit if odd else limit)


def test_the_derivative_at_an_infinite_input_is_the_slope_there() -> None:
    a, b = torch.tensor([GELU.numerator]).double(), torch.tensor([GELU.denominator]).double()
    x = torch.tensor([math.inf, -math.inf], dtype=torch.float64)[:, None].requires_grad_()
    group_rational(x, a, b).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, GELU.slope))


@pytest.mark.parametrize("name", ["identity", "gelu"])
def test_huge_input_without_gradient_leaves_no_nan_in_the_coefficients(name: str) -> None:
    """As padding that a mask removes from the loss does."""
    numerator, denominator = torch.tensor([SHAPES[name].numerator]), torch.tensor([SHAPES[name].denominator])
    x, weight = torch.randn(6, 4), torch.ones(6, 4)
    expected = results(group_rational, x[1:], numerator, denominator, weight[1:])
    for huge in (1e7, 1e20, 1e30, -3e38):
        x[0], weight[0] = huge, 0
        given = results(group_rational, x, numerator, denominator, weight)
        assert_all_close([given[0][1:], given[1][1:], *given[2:]], expected)


# NaN stays where it is


@pytest.mark.parametrize("where", ["x", "incoming gradient"])
def test_one_nan_poisons_its_own_element_and_its_own_group_only(where: str) -> None:
    numerator, denominator = coefficients(4)
    x, weight = torch.randn(5, 8).double(), torch.randn(5, 8).double()
    (x if where == "x" else weight)[2, 3] = math.nan
    y, grad_x, grad_a, grad_b = results(group_rational, x, numerator, denominator, weight)
    expected = torch.zeros(5, 8, dtype=torch.bool)
    expected[2, 3] = True
    assert torch.equal(y.isnan(), expected & (where == "x"))
    assert torch.equal(grad_x.isnan(), expected)
    for gradient in (grad_a, grad_b):
        assert gradient[1].isnan().any()
        assert gradient[[0, 2, 3]].isfinite().all()


def test_one_infinity_leaves_the_other_elements_and_groups_finite() -> None:
    numerator, denominator = coefficients(4)
    x, weight = torch.randn(5, 8).double(), torch.ones(5, 8).double()
    x[2, 3] = math.inf
    y, grad_x, grad_a, grad_b = results(group_rational, x, numerator, denominator, weight)
    others = torch.ones(5, 8, dtype=torch.bool)
    others[2, 3] = False
    assert y[others].isfinite().all()
    assert grad_x[others].isfinite().all()
    assert grad_a[[0, 2, 3]].isfinite().all()
    assert grad_b[[0, 2, 3]].isfinite().all()


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_input_is_computed_in_float32_and_rounded_once(dtype: torch.dtype) -> None:
    numerator, denominator = coefficients(4, dtype=torch.float32)
    x, weight = (4 * torch.randn(64, 32)).to(dtype), torch.randn(64, 32).to(dtype)
    given = results(group_rational, x, numerator, denominator, weight)
    expected = results(group_rational, x.float(), numerator, denominator, weight.float())
    assert [tensor.dtype for tensor in given] == [dtype, dtype, torch.float32, torch.float32]
    assert torch.equal(given[0], expected[0].to(dtype))
    assert torch.equal(given[1], expected[1].to(dtype))
    assert torch.equal(given[2], expected[2])
    assert torch.equal(given[3], expected[3])


def test_half_precision_coefficients_get_gradients_of_their_type() -> None:
    numerator, denominator = coefficients(4, dtype=torch.bfloat16)
    x = torch.randn(3, 8, dtype=torch.bfloat16)
    given = results(group_rational, x, numerator, denominator, torch.ones_like(x))
    expected = results(group_rational, x.float(), numerator.float(), denominator.float(), torch.ones(3, 8))
    assert {tensor.dtype for tensor in given} == {torch.bfloat16}
    assert all(torch.equal(one, other.bfloat16()) for one, other in zip(given, expected, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(dtype: torch.dtype) -> None:
    numerator, denominator = coefficients(4, dtype=torch.float32)
    x = torch.randn(16, 8, dtype=dtype)
    expected = results(group_rational, x, numerator, denominator, torch.ones_like(x))
    with torch.autocast("cpu", torch.bfloat16):
        given = results(group_rational, x, numerator, denominator, torch.ones_like(x))
    assert all(one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(given, expected, strict=True))


def test_float64_coefficients_raise_the_precision_of_float32_input_before_rounding() -> None:
    numerator, denominator = coefficients(2)
    x = torch.randn(50, 4)
    expected = group_rational(x.double(), numerator, denominator).float()
    assert torch.equal(group_rational(x, numerator, denominator), expected)


# Shapes and layouts


LAYOUTS = {
    "transposed": lambda: torch.randn(8, 5, 3).double().transpose(0, 2),
    "sliced": lambda: torch.randn(3, 5, 20).double()[..., 1:17:2],
    "offset by one": lambda: torch.randn(121).double()[1:].view(3, 5, 8),
    "expanded over tokens": lambda: torch.randn(3, 1, 8).double().expand(3, 5, 8),
    "expanded over channels": lambda: torch.randn(3, 5, 1).double().expand(3, 5, 8),
    "flipped and permuted": lambda: torch.randn(5, 8, 3).double().permute(2, 0, 1).flip(1),
}


def test_negated_views_of_coefficients_are_read_with_their_sign() -> None:
    x, (numerator, denominator) = torch.randn(5, 4), coefficients(2, dtype=torch.float32)
    views = [torch.view_as_complex(torch.stack([t, -t], -1)).conj().imag for t in (numerator, denominator)]
    assert all(view.is_neg() for view in views)
    with use_backend("numba"):
        given = group_rational(x, *views)
    torch.testing.assert_close(given, group_rational(x, numerator, denominator))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_does_not_matter(layout: str) -> None:
    x, weight = LAYOUTS[layout](), torch.randn(3, 5, 8).double()
    numerator, denominator = coefficients(4)
    given = results(group_rational, x, numerator, denominator, weight)
    expected = results(group_rational, x.contiguous(), numerator, denominator, weight)
    assert_all_close(given, expected, rtol=1e-12, atol=1e-12)


def test_channels_last_images_keep_their_layout_and_values() -> None:
    numerator, denominator = coefficients(4)
    x, weight = torch.randn(2, 8, 5, 6).double(), torch.randn(2, 8, 5, 6).double()
    given = results(
        group_rational, x.to(memory_format=torch.channels_last), numerator, denominator, weight, channel_dim=1
    )
    expected = results(group_rational, x, numerator, denominator, weight, channel_dim=1)
    assert_all_close(given, expected, rtol=1e-12, atol=1e-12)
    assert given[0].is_contiguous(memory_format=torch.channels_last)
    assert given[1].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channel_dim", [0, 1, 2, 3, -1, -2, -3, -4])
def test_the_channel_axis_can_be_anywhere(channel_dim: int) -> None:
    numerator, denominator = coefficients(2)
    x = torch.randn(3, 2, 5, 4).double()
    expected = group_rational(x, numerator, denominator)
    moved = x.movedim(-1, channel_dim)
    given = group_rational(moved, numerator, denominator, channel_dim)
    torch.testing.assert_close(given.movedim(channel_dim, -1), expected)


def test_neighbouring_channels_form_the_groups() -> None:
    numerator = torch.arange(3.0)[:, None]
    y = group_rational(torch.randn(2, 12), numerator, torch.zeros(1, 2))
    assert torch.equal(y, torch.arange(3.0).repeat_interleave(4).expand(2, 12))


@pytest.mark.parametrize("shared", ["numerator", "denominator"])
def test_a_shared_row_equals_equal_rows_and_gets_the_sum_of_their_gradients(shared: str) -> None:
    numerator, denominator = coefficients(4)
    x, weight = torch.randn(6, 8).double(), torch.randn(6, 8).double()
    rows = [numerator[:1], denominator] if shared == "numerator" else [numerator, denominator[:1]]
    given = results(group_rational, x, *rows, weight)
    expected = results(group_rational, x, *(tensor.expand(4, -1).contiguous() for tensor in rows), weight)
    summed = 2 if shared == "numerator" else 3
    expected[summed] = expected[summed].sum(0, keepdim=True)
    assert_all_close(given, expected)


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8), (2, 4, 0), (0,)])
def test_empty_input_gives_empty_output_and_zero_gradients(shape: tuple[int, ...]) -> None:
    numerator, denominator = coefficients(4)
    y, grad_x, grad_a, grad_b = results(
        group_rational, torch.zeros(shape).double(), numerator, denominator, torch.zeros(shape).double()
    )
    assert y.shape == grad_x.shape == shape
    assert torch.equal(grad_a, torch.zeros_like(numerator))
    assert torch.equal(grad_b, torch.zeros_like(denominator))


def test_without_leading_powers_and_denominator_it_is_a_constant() -> None:
    y, grad_x, grad_a, grad_b = results(
        group_rational, torch.randn(3, 4), torch.tensor([[2.5]]), torch.zeros(1, 0), torch.ones(3, 4)
    )
    assert (y == 2.5).all()
    assert (grad_x == 0).all()
    assert grad_a.item() == 12
    assert grad_b.shape == (1, 0)


# What is computed, and what is kept


@pytest.mark.parametrize("flags", [flags for flags in itertools.product([True, False], repeat=3) if any(flags)])
def test_any_combination_of_inputs_may_need_gradients(flags: tuple[bool, bool, bool]) -> None:
    numerator, denominator = coefficients(2)
    x = torch.randn(5, 4).double()
    everything = results(group_rational, x, numerator, denominator, torch.ones_like(x))[1:]
    inputs = [
        tensor.clone().requires_grad_(flag) for tensor, flag in zip((x, numerator, denominator), flags, strict=True)
    ]
    group_rational(*inputs).sum().backward()
    for tensor, flag, expected in zip(inputs, flags, everything, strict=True):
        assert (tensor.grad is not None) == flag
        if flag:
            torch.testing.assert_close(tensor.grad, expected)


def test_without_gradients_no_graph_is_kept() -> None:
    numerator, denominator = coefficients(2)
    assert not group_rational(torch.randn(5, 4).double(), numerator, denominator).requires_grad
    with torch.no_grad():
        assert not group_rational(torch.randn(5, 4).double(), numerator.requires_grad_(), denominator).requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channel_dim", [1, -1])
def test_the_backward_pass_keeps_the_input_and_the_coefficients_only(dtype: torch.dtype, channel_dim: int) -> None:
    numerator, denominator = (tensor.requires_grad_() for tensor in coefficients(4, dtype=torch.float32))
    x = torch.randn(2, 8, 8, dtype=dtype, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        group_rational(x, numerator, denominator, channel_dim).sum().backward()
    storages = {tensor.untyped_storage().data_ptr() for tensor in (x, numerator, denominator)}
    assert len(kept) == 3
    assert {tensor.untyped_storage().data_ptr() for tensor in kept} == storages


def test_the_inputs_are_not_changed() -> None:
    tensors = [torch.randn(5, 4), *coefficients(2, dtype=torch.float32)]
    before = [tensor.clone() for tensor in tensors]
    results(group_rational, *tensors, torch.ones(5, 4))
    assert all(torch.equal(one, other) for one, other in zip(tensors, before, strict=True))


# Errors


@pytest.mark.parametrize(
    ("x", "numerator", "denominator", "channel_dim", "message"),
    [
        (torch.zeros(2, 255), torch.zeros(1, 6), torch.zeros(8, 4), -1, "8 groups do not divide 255 channels"),
        (torch.zeros(255, 8), torch.zeros(1, 6), torch.zeros(8, 4), 0, r"8 .* 255 channels \(axis 0 of \(255, 8\)\)"),
        (torch.zeros(2, 8), torch.zeros(2, 6), torch.zeros(4, 4), -1, r"\(2, 6\).*\(4, 4\).*same number of groups"),
        (torch.zeros(2, 8), torch.zeros(6), torch.zeros(4, 4), -1, r"numerator must be.*given: \(6,\)"),
        (torch.zeros(2, 8), torch.zeros(4, 6), torch.zeros(4, 4).int(), -1, "denominator must be.*torch.int32"),
        (torch.zeros(2, 8), torch.zeros(4, 0), torch.zeros(4, 4), -1, "the numerator needs a coefficient"),
        (torch.zeros(2, 8), torch.zeros(0, 6), torch.zeros(0, 4), -1, r"\(0, 6\)"),
        (
            torch.zeros(2, 8).int(),
            torch.zeros(4, 6),
            torch.zeros(4, 4),
            -1,
            "x must be a dense floating-point tensor of 16, 32 or 64 bits.*given: int32",
        ),
        (torch.zeros(2, 8).to(torch.float8_e5m2), torch.zeros(4, 6), torch.zeros(4, 4), -1, "given: float8_e5m2"),
        (torch.zeros(2, 8).to_sparse(), torch.zeros(4, 6), torch.zeros(4, 4), -1, r"given: float32 \(sparse_coo\)"),
        (np.zeros((2, 8)), torch.zeros(4, 6), torch.zeros(4, 4), -1, "given: ndarray"),
        (torch.zeros(2, 8), torch.zeros(4, 6), torch.zeros(4, 4), 2, r"channel_dim 2 is no axis.*\(2, 8\)"),
        (torch.zeros(()), torch.zeros(4, 6), torch.zeros(4, 4), -1, "channel_dim -1 is no axis"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(
    x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        group_rational(x, numerator, denominator, channel_dim)
