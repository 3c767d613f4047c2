"""The CUDA kernels of the group rational function on a device: float64 by definition, streams, graphs, size."""

import importlib.util
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_cuda import CudaRational, load

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy"),
]

ALL = (True, True, True)
TYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


@pytest.fixture(scope="module")
def kernels() -> CudaRational:
    return load(torch.device("cuda", torch.cuda.current_device()))


@pytest.fixture(autouse=True)
def _device_seed() -> None:
    torch.cuda.manual_seed(0)


@pytest.fixture
def no_synchronisation() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def tensors(
    outer: int, groups: int, inner: int, dtype: torch.dtype = torch.float32, degrees: tuple[int, int] = (5, 4)
) -> tuple[Tensor, Tensor, Tensor, Tensor, GroupLayout]:
    """x, gradient of y, a, b and the layout."""
    shape = (outer, groups, inner)
    coefficients = torch.promote_types(dtype, torch.float32)
    a = torch.randn(groups, degrees[0] + 1, device="cuda").to(coefficients)
    b = torch.randn(groups, degrees[1], device="cuda").to(coefficients)
    x, gradient = (2 * torch.randn(shape, device="cuda")).to(dtype), torch.randn(shape, device="cuda").to(dtype)
    return x, gradient, a, b, GroupLayout(*shape)


def run(kernels: CudaRational, x: Tensor, gradient: Tensor, a: Tensor, b: Tensor, layout: GroupLayout) -> list[Tensor]:
    """y and the three gradients."""
    y = kernels.forward(x, a, b, layout, gradient.dtype)
    return [y, *kernels.backward(x, gradient, a, b, layout, ALL)]


def terms(x: Tensor, gradient: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """f, g / Q and the size of the terms of f and of dx / g, in float64 by definition."""
    x, a, b = x.double(), a.double()[:, None, :], b.double()[:, None, :].abs()
    m, n = a.shape[-1] - 1, b.shape[-1]
    zero, size = torch.zeros_like(x), x.abs()
    q = 1 + sum((b[..., j - 1] * size**j for j in range(1, n + 1)), zero)
    f = sum((a[..., i] * x**i for i in range(m + 1)), zero) / q
    scale = sum(((a[..., i] * x**i).abs() for i in range(m + 1)), zero) / q
    slope_q = sum((j * b[..., j - 1] * size ** (j - 1) for j in range(1, n + 1)), zero)
    slope_scale = sum(((i * a[..., i] * x ** (i - 1)).abs() for i in range(1, m + 1)), zero)
    return f, gradient.double() / q, scale, (slope_scale + f.abs() * slope_q) / q


def assert_right(results: list[Tensor], x: Tensor, gradient: Tensor, a: Tensor, b: Tensor, layout: GroupLayout) -> None:
    f, weight, scale, slope_scale = terms(x, gradient, a, b)
    eps = torch.finfo(torch.float64 if x.dtype == torch.float64 else torch.float32).eps
    rounding = torch.finfo(x.dtype).eps if x.dtype.itemsize == 2 else 0
    tiny = 2**-24 if x.dtype == torch.float16 else 1e-37  # also what flushing subnormal numbers to zero costs
    assert ((results[0].double() - f).abs() <= 8 * eps * scale + rounding * f.abs() + tiny).all()
    wide = [t.double().requires_grad_() for t in (x,)]
    size_b = b.double()[:, None, :].abs()
    p = sum(a.double()[:, None, i] * wide[0] ** i for i in range(a.shape[1]))
    q = 1 + sum(size_b[..., j] * wide[0].abs() ** (j + 1) for j in range(b.shape[1]))
    grad_x = torch.autograd.grad(p / q, wide[0], gradient.double())[0]
    tolerance = 16 * eps * gradient.double().abs() * slope_scale + rounding * grad_x.abs() + tiny
    assert ((results[1].double() - grad_x).abs() <= tolerance).all()
    assert_sums(results[2:], x, weight, f, b)


def assert_sums(sums: list[Tensor], x: Tensor, weight: Tensor, f: Tensor, b: Tensor) -> None:
    sign = torch.where(b.double() < 0, 1.0, -1.0)
    for power in range(sums[0].shape[1]):
        term = weight * x.double() ** power
        assert_sum(sums[0][:, power], term.sum((0, 2)), term.square().sum((0, 2)).sqrt())
    for power in range(1, sums[1].shape[1] + 1):
        term = weight * f * x.double().abs() ** power
        factor = sign[:, power - 1]
        assert_sum(sums[1][:, power - 1], factor * term.sum((0, 2)), term.square().sum((0, 2)).sqrt())


def assert_sum(given: Tensor, expected: Tensor, spread: Tensor) -> None:
    assert ((given.double() - expected).abs() <= 1e-5 * spread + 1e-7 * expected.abs()).all()


def assert_same_bits(results: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("inner", [1, 3, 5, 12, 24, 25, 96, 384])
def test_values_and_gradients(kernels: CudaRational, dtype: torch.dtype, inner: int) -> None:
    for outer, groups in ((1, 8), (197, 8), (513, 3), (70, 1)):
        given = tensors(outer, groups, inner, dtype)
        assert_right(run(kernels, *given), *given)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 2**18), (2, 8, 100_003), (32, 768, 196), (3, 5, 1_000_001)])
def test_long_rows(kernels: CudaRational, dtype: torch.dtype, shape: tuple[int, int, int]) -> None:
    given = tensors(*shape, dtype)
    assert_right(run(kernels, *given), *given)


@pytest.mark.parametrize("degrees", [(3, 2), (7, 6), (0, 3), (2, 0), (12, 9)])
def test_other_degrees(kernels: CudaRational, degrees: tuple[int, int]) -> None:
    given = tensors(300, 4, 40, degrees=degrees)
    assert_right(run(kernels, *given), *given)


@pytest.mark.parametrize("y_type", [torch.bfloat16, torch.float16])
def test_output_in_half_precision_is_the_float32_output_rounded(kernels: CudaRational, y_type: torch.dtype) -> None:
    x, gradient, a, b, layout = tensors(300, 8, 96)
    narrow = run(kernels, x, gradient.to(y_type), a, b, layout)
    wide = run(kernels, x, gradient.to(y_type).float(), a, b, layout)
    assert torch.equal(narrow[0], wide[0].to(y_type))
    assert_same_bits(narrow[1:], wide[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_any_alignment_gives_the_same(kernels: CudaRational, dtype: torch.dtype) -> None:
    x, gradient, a, b, layout = tensors(50, 3, 24, dtype)
    expected = run(kernels, x, gradient, a, b, layout)
    for offset_x in range(8):
        for offset_g in range(8):
            shifted = []
            for tensor, offset in ((x, offset_x), (gradient, offset_g)):
                storage = torch.full((tensor.numel() + 16,), math.nan, dtype=dtype, device="cuda")
                shifted.append(storage[offset : offset + tensor.numel()].copy_(tensor.flatten()).view(tensor.shape))
            results = run(kernels, *shifted, a, b, layout)
            assert_same_bits(results[:2], expected[:2])
            torch.testing.assert_close(results[2:], expected[2:], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("far", [5e3, -1e5, 3e7, -1e20, 3e38, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(40, 4, 24), (1, 4, 500_000)])
def test_far_elements_have_the_ratio_of_the_leading_terms(
    kernels: CudaRational, far: float, shape: tuple[int, int, int]
) -> None:
    """P ~ a_5 x^5 and Q ~ |b_4| x^4: y / x and dx / g tend to a_5 / |b_4|."""
    x, gradient, a, b, layout = tensors(*shape)
    a[:], b[:] = a.abs() + 1, b.abs() + 1
    expected = run(kernels, x, gradient, a, b, layout)
    x[0, 1, 3] = far
    results = run(kernels, x, gradient, a, b, layout)
    slope = a[1, 5] / b[1, 3]
    if math.isinf(far):
        assert results[0][0, 1, 3].item() == far
    else:
        torch.testing.assert_close(
            results[0][0, 1, 3] / far, slope, rtol=10 * (a / b.min()).max().item() / abs(far), atol=1e-6
        )
    torch.testing.assert_close(results[1][0, 1, 3] / gradient[0, 1, 3], slope, rtol=1e-2, atol=1e-6)
    others = torch.ones(shape, dtype=torch.bool, device="cuda")
    others[0, 1, 3] = False
    assert torch.equal(results[0][others], expected[0][others])
    assert torch.equal(results[1][others], expected[1][others])
    assert_same_bits([t[[0, 2, 3]] for t in results[2:]], [t[[0, 2, 3]] for t in expected[2:]])


def test_one_nan_stays_in_its_element_and_its_group(kernels: CudaRational) -> None:
    x, gradient, a, b, layout = tensors(100, 4, 24)
    x[7, 2, 5] = math.nan
    y, grad_x, grad_a, grad_b = run(kernels, x, gradient, a, b, layout)
    assert y.isnan().nonzero().tolist() == grad_x.isnan().nonzero().tolist() == [[7, 2, 5]]
    assert grad_a[[0, 1, 3]].isfinite().all()
    assert grad_b[[0, 1, 3]].isfinite().all()
    assert grad_a[2].isnan().all()


def test_ten_runs_have_the_same_bits(kernels: CudaRational) -> None:
    for shape in ((256 * 197, 8, 96), (2, 8, 200_000)):
        given = tensors(*shape, torch.bfloat16)
        expected = run(kernels, *given)
        for _ in range(10):
            assert_same_bits(run(kernels, *given), expected)


def test_nothing_waits_for_the_device(kernels: CudaRational, no_synchronisation: None) -> None:
    given = tensors(100, 8, 96)
    for _ in range(3):
        run(kernels, *given)


def test_work_is_ordered_by_the_current_stream(kernels: CudaRational) -> None:
    x, gradient, a, b, layout = tensors(256 * 197, 8, 96)
    expected = run(kernels, x, gradient, a, b, layout)
    for _ in range(5):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        late = torch.full_like(x, math.nan)
        with torch.cuda.stream(stream):
            torch.cuda._sleep(20_000_000)  # a launch on another stream would still read NaN
            late.copy_(x)
            results = run(kernels, late, gradient, a, b, layout)
        torch.cuda.current_stream().wait_stream(stream)
        assert_same_bits(results, expected)


def test_a_captured_graph_replays_with_new_input(kernels: CudaRational) -> None:
    x, gradient, a, b, layout = tensors(500, 8, 96)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run(kernels, x, gradient, a, b, layout)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run(kernels, x, gradient, a, b, layout)
    for _ in range(100):
        x.normal_()
        gradient.normal_()
        graph.replay()
        assert_same_bits(captured, run(kernels, x, gradient, a, b, layout))


@pytest.mark.parametrize("bias", [0.0, 0.05])
def test_sums_of_1e8_elements_are_accurate(kernels: CudaRational, bias: float) -> None:
    x, gradient, a, b, layout = tensors(10**6, 1, 100, torch.bfloat16)
    gradient = gradient + bias
    _, sums_a, sums_b = kernels.backward(x, gradient, a, b, layout, ALL)
    f, weight, *_ = terms(x, gradient, a, b)
    assert_sums([sums_a, sums_b], x, weight, f, b)


@pytest.mark.parametrize("layout", [GroupLayout(1, 1, 2**31 + 5), GroupLayout(2**21 + 1, 8, 128)])
def test_more_than_two_to_the_31_elements(kernels: CudaRational, layout: GroupLayout) -> None:
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GB of free device memory")
    _, _, a, b, _ = tensors(1, layout.groups, 1)
    x = torch.randn(tuple(layout), device="cuda", dtype=torch.bfloat16)
    y = kernels.forward(x, a, b, layout, x.dtype)
    grad_x, *sums = kernels.backward(x, x, a, b, layout, ALL)
    assert all(total.isfinite().all() for total in sums)
    size = layout.groups * layout.inner
    for first, last in ((0, 4096), (layout.outer * size - 4096, layout.outer * size), (2**31 - 2048, 2**31 + 5)):
        index = torch.arange(first, last, device="cuda")
        group = index % size // layout.inner
        for g in range(layout.groups):
            place = index[group == g]
            if len(place):
                piece = x.view(-1)[place].view(1, 1, -1)
                small = GroupLayout(1, 1, len(place))
                expected = kernels.forward(piece, a[g : g + 1], b[g : g + 1], small, x.dtype)
                slope = kernels.backward(piece, piece, a[g : g + 1], b[g : g + 1], small, (True, False, False))[0]
                assert torch.equal(y.view(-1)[place], expected.view(-1))
                assert torch.equal(grad_x.view(-1)[place], slope.view(-1))
