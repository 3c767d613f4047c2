"""The source of the CUDA kernels, run on the CPU: golden values, float64 by definition, layouts, range, determinism."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from katops.ops.memory_layout import GroupLayout
from katops.ops.rational import group_rational
from katops.ops.rational_cuda import CudaRational

MakeKernels = Callable[..., CudaRational]
ALL = (True, True, True)


class Case(NamedTuple):
    """[outer, groups, inner] and coefficients."""

    x: Tensor
    gradient: Tensor
    numerator: Tensor
    denominator: Tensor

    @property
    def layout(self) -> GroupLayout:
        return GroupLayout(*self.x.shape)


def case(
    outer: int,
    groups: int,
    inner: int,
    dtype: torch.dtype = torch.float32,
    degrees: tuple[int, int] = (5, 4),
    rows: tuple[bool, bool] = (True, True),
    coefficients: torch.dtype | None = None,
    y: torch.dtype | None = None,
) -> Case:
    shape = (outer, groups, inner)
    coefficients = coefficients or torch.promote_types(dtype, torch.float32)
    numerator = torch.randn(groups if rows[0] else 1, degrees[0] + 1).to(coefficients)
    denominator = torch.randn(groups if rows[1] else 1, degrees[1]).to(coefficients)
    return Case((2 * torch.randn(shape)).to(dtype), torch.randn(shape).to(y or dtype), numerator, denominator)


def run(kernels: CudaRational, given: Case, needs: tuple[bool, bool, bool] = ALL) -> list[Tensor | None]:
    """y and the gradients."""
    y = kernels.forward(given.x, given.numerator, given.denominator, given.layout, given.gradient.dtype)
    return [y, *kernels.backward(*given, given.layout, needs)]


def assert_within_error_scale(results: Sequence[Tensor | None], given: Case, eps: float = 2**-24) -> None:
    """Against float64 by definition; eps is half a unit in the last place of the arithmetic."""
    x, gradient = given.x.double(), given.gradient.double()
    a, b = given.numerator.double()[:, None, :], given.denominator.double()[:, None, :]
    m, n = a.shape[-1] - 1, b.shape[-1]
    size, sign = x.abs(), torch.copysign(torch.ones_like(x), x)
    powers = [x**i for i in range(m + 1)]
    sizes = [size**j for j in range(n + 1)]
    q = 1 + sum(b[..., j - 1].abs() * sizes[j] for j in range(1, n + 1))
    slope_q = sum(j * b[..., j - 1].abs() * sizes[j - 1] for j in range(1, n + 1))
    f = sum(a[..., i] * powers[i] for i in range(m + 1)) / q
    slope_p = sum((i * a[..., i] * powers[i - 1] for i in range(1, m + 1)), torch.zeros_like(x))
    scale = sum((a[..., i] * powers[i]).abs() for i in range(m + 1)) / q
    slope_scale = sum(((i * a[..., i] * powers[i - 1]).abs() for i in range(1, m + 1)), torch.zeros_like(x))

    y, grad_x, grad_a, grad_b = results
    rounding = {torch.bfloat16: 2**-8, torch.float16: 2**-11}
    # float16 has subnormal numbers well within the range of the results
    tiny = {torch.float16: 2**-24}
    y_rounding, x_rounding = rounding.get(given.gradient.dtype, 0), rounding.get(given.x.dtype, 0)
    y_tolerance = 8 * 2 * eps * scale + y_rounding * f.abs() + tiny.get(given.gradient.dtype, 0)
    assert ((y.double() - f).abs() <= y_tolerance).all()
    if grad_x is not None:
        expected = gradient * (slope_p - f * sign * slope_q) / q
        tolerance = 16 * 2 * eps * gradient.abs() * (slope_scale + f.abs() * slope_q) / q
        tolerance = tolerance + x_rounding * expected.abs() + tiny.get(given.x.dtype, 0)
        assert ((grad_x.double() - expected).abs() <= tolerance).all()
    sign_b = torch.where(given.denominator.double() < 0, -1.0, 1.0)
    terms_a = [gradient * powers[i] / q for i in range(m + 1)]
    terms_b = [gradient * f * sizes[j] / q for j in range(1, n + 1)]
    for name, sums, terms, factor in (("a", grad_a, terms_a, 1.0), ("b", grad_b, terms_b, -sign_b)):
        if sums is None or not terms:
            continue
        shared = len(sums) == 1
        total = torch.stack([term.sum((0, 1, 2) if shared else (0, 2)).reshape(-1) for term in terms], -1)
        spread = torch.stack([(term**2).sum((0, 1, 2) if shared else (0, 2)).reshape(-1) for term in terms], -1).sqrt()
        tolerance = 1e-5 * spread + 1e-7 * total.abs() + rounding.get(sums.dtype, 0) * total.abs()
        assert ((sums.double() - factor * total).abs() <= tolerance).all(), name


# Golden values and the definition


@pytest.mark.parametrize("number", range(5))
def test_golden_values_and_gradients(shared: Path, host_rational: MakeKernels, number: int) -> None:
    golden = load_file(shared / "golden" / "rational.safetensors")
    x, gradient, a, b = (golden[f"case{number}.{name}"] for name in ("x", "grad_output", "numerator", "denominator"))
    shape = (-1, len(b), x.shape[-1] // len(b))
    results = run(host_rational(), Case(x.reshape(shape), gradient.reshape(shape), a, b))
    for result, name in zip(results, ("output", "grad_x", "grad_numerator", "grad_denominator"), strict=True):
        expected = golden[f"case{number}.{name}"]
        torch.testing.assert_close(result.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("groups", [1, 3, 8])
def test_values_and_gradients_in_every_type(host_rational: MakeKernels, dtype: torch.dtype, groups: int) -> None:
    given = case(70, groups, 96, dtype)
    results = run(host_rational(), given)
    assert [result.dtype for result in results] == [dtype, dtype, given.numerator.dtype, given.denominator.dtype]
    assert_within_error_scale(results, given, 2**-53 if dtype == torch.float64 else 2**-24)


@pytest.mark.parametrize("inner", [1, 3, 5, 12, 24, 25, 96])
@pytest.mark.parametrize("outer", [1, 41])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_channels_per_group(host_rational: MakeKernels, dtype: torch.dtype, outer: int, inner: int) -> None:
    for groups in (1, 3, 8):
        given = case(outer, groups, inner, dtype)
        assert_within_error_scale(run(host_rational(), given), given)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    outer=st.integers(1, 60),
    groups=st.integers(1, 40),
    inner=st.integers(1, 200),
    multiprocessors=st.integers(1, 3),
    rows=st.sampled_from([(True, True), (False, True), (True, False), (False, False)]),
    order=st.sampled_from(["forwards", "backwards", 1]),
)
def test_any_shape_and_any_order_of_the_threads(
    host_rational: MakeKernels,
    outer: int,
    groups: int,
    inner: int,
    multiprocessors: int,
    rows: tuple[bool, bool],
    order: str | int,
) -> None:
    given = case(outer, groups, inner, rows=(rows[0] or groups == 1, rows[1] or groups == 1))
    assert_within_error_scale(run(host_rational(multiprocessors, order), given), given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 30000), (5, 2, 7000), (3, 7, 1001), (2, 120, 9)])
def test_long_rows_are_cut_into_segments(
    host_rational: MakeKernels, dtype: torch.dtype, shape: tuple[int, int, int]
) -> None:
    kernels, given = host_rational(), case(*shape, dtype)
    assert_within_error_scale(run(kernels, given), given)
    assert all(launch.plan.segment for launch in kernels._launches.values())


@pytest.mark.parametrize("degrees", [(3, 3), (4, 5), (7, 6), (0, 3), (2, 0), (9, 9), (32, 31)])
def test_other_degrees(host_rational: MakeKernels, degrees: tuple[int, int]) -> None:
    given = case(20, 3, 20, degrees=degrees)
    results = run(host_rational(), given)
    assert_within_error_scale(results, given)
    assert results[3].shape == (3, degrees[1])


@pytest.mark.parametrize("rows", [(True, True), (False, True), (True, False), (False, False)])
def test_a_row_shared_by_the_groups_gets_the_sum_of_their_gradients(
    host_rational: MakeKernels, rows: tuple[bool, bool]
) -> None:
    given = case(50, 4, 12, rows=rows)
    results = run(host_rational(), given)
    assert [len(results[2]), len(results[3])] == [4 if row else 1 for row in rows]
    assert_within_error_scale(results, given)


@pytest.mark.parametrize("needs", [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)])
def test_only_what_is_needed_is_computed(host_rational: MakeKernels, needs: tuple[bool, bool, bool]) -> None:
    given = case(40, 3, 12)
    everything = run(host_rational(), given)[1:]
    for result, expected, needed in zip(run(host_rational(), given, needs)[1:], everything, needs, strict=True):
        assert torch.equal(result, expected) if needed else result is None


def test_long_walks_add_up_in_two_levels(host_rational: MakeKernels) -> None:
    """More than 4096 elements per thread, so that the sums in registers are flushed in between."""
    kernels, given = host_rational(), case(1, 2, 560_000, degrees=(12, 9))
    assert_within_error_scale(run(kernels, given), given)
    plan = list(kernels._launches.values())[-1].plan
    assert given.x.numel() / (plan.grid * plan.threads) > 4096


# Rounding and types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_float32_rounded_once(host_rational: MakeKernels, dtype: torch.dtype) -> None:
    given = case(40, 3, 96, dtype)
    given.x[0, 0, 0] = 60000  # a far element, too
    y, grad_x, *_ = run(host_rational(), given)
    y_float, grad_x_float, *_ = run(host_rational(), given._replace(x=given.x.float(), gradient=given.gradient.float()))
    assert torch.equal(y, y_float.to(dtype))
    assert torch.equal(grad_x, grad_x_float.to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_float32_input_with_half_precision_output(host_rational: MakeKernels, dtype: torch.dtype) -> None:
    given = case(40, 3, 24, torch.float32, y=dtype)
    results = run(host_rational(), given)
    assert [result.dtype for result in results[:2]] == [dtype, torch.float32]
    wide = run(host_rational(), given._replace(gradient=given.gradient.float()))
    assert torch.equal(results[0], wide[0].to(dtype))
    assert all(torch.equal(one, other) for one, other in zip(results[1:], wide[1:], strict=True))


@pytest.mark.parametrize("coefficients", TYPES, ids=str)
def test_coefficients_of_every_type(host_rational: MakeKernels, coefficients: torch.dtype) -> None:
    given = case(30, 3, 24, torch.float32, coefficients=coefficients)
    results = run(host_rational(), given)
    assert [result.dtype for result in results[2:]] == [coefficients] * 2
    assert_within_error_scale(results, given)


def test_every_bit_pattern_of_16_bits_is_read_and_written(host_rational: MakeKernels) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype).reshape(1, 1, -1)
        a, b = torch.tensor([[0.0, 1.0]]), torch.zeros(1, 1)
        y = host_rational().forward(x, a, b, GroupLayout(*x.shape), dtype)
        torch.testing.assert_close(y, x, rtol=0, atol=0, equal_nan=True)


# Alignment


def shift(tensor: Tensor, offset: int) -> Tensor:
    """A copy that starts at this element of its storage, between NaN."""
    storage = torch.full((tensor.numel() + 16,), math.nan, dtype=tensor.dtype)
    return storage[offset : offset + tensor.numel()].copy_(tensor.flatten()).view(tensor.shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_alignment_gives_the_same_and_nothing_is_written_beside_the_results(
    host_rational: MakeKernels, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    kernels, given = host_rational(), case(9, 3, 24, dtype)
    expected = run(kernels, given)
    guarded = []

    def guarded_empty_like(like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        storage = torch.full((like.numel() + 2 * 16,), math.nan, dtype=dtype or like.dtype)
        guarded.append(storage)
        return storage[16:-16].view(like.shape)

    monkeypatch.setattr(torch, "empty_like", guarded_empty_like)
    for offset_x in range(8):
        for offset_g in range(8):
            shifted = [shift(tensor, offset) for tensor, offset in ((given.x, offset_x), (given.gradient, offset_g))]
            results = run(kernels, Case(*shifted, *given[2:]))
            assert torch.equal(results[0], expected[0])
            assert torch.equal(results[1], expected[1])
            torch.testing.assert_close(results[2:], expected[2:], rtol=1e-5, atol=1e-5)
    for storage in guarded:
        assert torch.cat([storage[:16], storage[-16:]]).isnan().all()
        assert not storage[16:-16].isnan().any()


# Range


FAR = [5e3, -1e4, 3e7, -1e20, 3e38, math.inf, -math.inf]


@pytest.mark.parametrize(
    ("dtype", "degrees", "inner"),
    [
        *((dtype, (5, 4), inner) for dtype in (torch.float32, torch.bfloat16, torch.float64) for inner in (16, 2500)),
        *((torch.float32, degrees, 16) for degrees in ((4, 5), (3, 3), (7, 6))),
    ],
    ids=str,
)
def test_far_elements_agree_with_the_definition(
    host_rational: MakeKernels, dtype: torch.dtype, degrees: tuple[int, int], inner: int
) -> None:
    kernels = host_rational()
    given = case(len(FAR) + 1, 2, inner, dtype, degrees)
    x = given.x.clone()
    for row, far in enumerate(FAR):
        x[row, 0, 3 * row % 16] = far
    given = given._replace(x=x)
    exact = [t.double().requires_grad_() for t in (x.movedim(1, 2), given.numerator, given.denominator)]
    y = group_rational(*exact)
    upstream = given.gradient.double().movedim(1, 2)
    grad_x = torch.autograd.grad(y, exact, upstream)[0]
    results = run(kernels, given)
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    for result, expected in ((results[0], y), (results[1], grad_x)):
        expected = expected.detach().movedim(2, 1).to(dtype)
        torch.testing.assert_close(result, expected, rtol=rounding, atol=rounding)
    assert all(result[1].isfinite().all() for result in results[2:])


def test_terms_of_far_elements_are_added_to_the_sums(host_rational: MakeKernels) -> None:
    given = case(40, 3, 8)
    given.x[::7, :, 1] = torch.tensor([5e3, -7e3, 1e4])
    given.gradient[::7, :, 1] *= 1e-3
    results = run(host_rational(), given)
    assert_within_error_scale(results, given)


@pytest.mark.parametrize("huge", [1e10, 3e38, math.inf, -math.inf])
def test_what_the_loss_does_not_see_adds_nothing(host_rational: MakeKernels, huge: float) -> None:
    given = case(30, 3, 8)
    given.x[2, 1, 3] = huge
    given.gradient[2, 1, 3] = 0
    small = given.x.clone()
    small[2, 1, 3] = 0
    for result, expected in zip(
        run(host_rational(), given)[2:], run(host_rational(), given._replace(x=small))[2:], strict=True
    ):
        torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["x", "gradient"])
@pytest.mark.parametrize("shape", [(20, 4, 8), (2, 4, 3000)])
def test_one_special_value_stays_in_its_element_and_its_group(
    host_rational: MakeKernels, where: str, value: float, shape: tuple[int, int, int]
) -> None:
    given = case(*shape)
    expected = run(host_rational(), given)
    getattr(given, where)[1, 2, 5] = value
    results = run(host_rational(), given)
    others = torch.ones(shape, dtype=torch.bool)
    others[1, 2, 5] = False
    assert torch.equal(results[0][others], expected[0][others])
    assert torch.equal(results[1][others], expected[1][others])
    for result, before in zip(results[2:], expected[2:], strict=True):
        assert torch.equal(result[[0, 1, 3]], before[[0, 1, 3]])
        assert not result[2].isfinite().all()
    if math.isnan(value):
        assert results[1][1, 2, 5].isnan()
        assert results[0][1, 2, 5].isnan() == (where == "x")


# One-sided derivatives


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_a_zero_denominator_coefficient_counts_as_positive(host_rational: MakeKernels, zero: float) -> None:
    given = case(20, 3, 8)._replace(denominator=torch.full((3, 4), zero))
    just_above = given._replace(denominator=torch.full((3, 4), 1e-30))
    results, expected = run(host_rational(), given), run(host_rational(), just_above)
    torch.testing.assert_close(results, expected)
    assert (results[3] != 0).all()


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_at_zero_the_sign_bit_decides_the_slope(host_rational: MakeKernels, zero: float) -> None:
    given = case(1, 2, 4)._replace(x=torch.full((1, 2, 4), zero), gradient=torch.ones(1, 2, 4))
    y, grad_x, *_ = run(host_rational(), given)
    a, b = given.numerator, given.denominator
    slope = a[:, 1] - a[:, 0] * math.copysign(1, zero) * b[:, 0].abs()
    torch.testing.assert_close(y, a[None, :, :1].expand(1, 2, 4))
    torch.testing.assert_close(grad_x, slope[None, :, None].expand(1, 2, 4))


# Determinism


@pytest.mark.parametrize("shape", [(300, 8, 24), (2, 3, 9000)])
def test_the_bits_do_not_depend_on_the_run_or_the_order_of_the_threads(
    host_rational: MakeKernels, shape: tuple[int, int, int]
) -> None:
    given = case(*shape)
    expected = run(host_rational(2), given)
    for order in ("forwards", "backwards", 1, 2):
        results = run(host_rational(2, order), given)
        assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


def test_a_remembered_launch_does_not_load_or_plan_again(host_rational: MakeKernels) -> None:
    kernels, given = host_rational(), case(10, 3, 8)
    first = run(kernels, given)
    kernels._driver.load = None
    assert all(torch.equal(one, other) for one, other in zip(run(kernels, given), first, strict=True))


def test_prepare_compiles_what_training_then_uses(host_rational: MakeKernels) -> None:
    kernels = host_rational()
    kernels.prepare((torch.float32, torch.bfloat16))
    loaded = set(kernels._driver.folder.glob("*.so"))
    run(kernels, case(500, 8, 96))
    run(kernels, case(500, 8, 96, torch.bfloat16))
    run(kernels, case(500, 8, 96, torch.float32, y=torch.bfloat16))
    assert set(kernels._driver.folder.glob("*.so")) == loaded
