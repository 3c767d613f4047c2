"""The differentiable function on a GPU: autograd and its threads, CUDA graphs, streams, several devices."""

import importlib.util
import math
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from katops.ops import rational_backends
from katops.ops.dispatch import BackendWarning, Dispatcher, use_backend
from katops.ops.rational import RATIONAL, group_rational
from katops.ops.rational_accuracy import Results, errors

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy"),
    pytest.mark.usefixtures("kernels_run"),
]

Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def inputs(
    dtype: torch.dtype = torch.float32, degrees: tuple[int, int] = (5, 4), device: str = "cuda", rows: int = 500
) -> Inputs:
    """x of eight groups of twelve channels, a and b, all of which need a gradient, and the gradient of y."""
    coefficients = torch.promote_types(dtype, torch.float32)
    x, gradient = (torch.randn(rows, 96, device=device).to(dtype) for _ in range(2))
    a = torch.randn(1, degrees[0] + 1, device=device).to(coefficients)
    b = torch.randn(8, degrees[1], device=device).to(coefficients)
    return x.requires_grad_(), a.requires_grad_(), b.requires_grad_(), gradient


def step(x: Tensor, a: Tensor, b: Tensor, gradient: Tensor) -> list[Tensor]:
    """y and the gradients of x, a and b, through autograd."""
    y = group_rational(x, a, b)
    return [y.detach(), *torch.autograd.grad(y, (x, a, b), gradient)]


def penalty(x: Tensor, a: Tensor, b: Tensor, gradient: Tensor) -> list[Tensor]:
    """The gradients of the squares of the gradients."""
    first = torch.autograd.grad(group_rational(x, a, b), (x, a, b), gradient, create_graph=True)
    return list(torch.autograd.grad(sum(one.square().sum() for one in first), (x, a, b)))


def assert_right(results: list[Tensor], x: Tensor, a: Tensor, b: Tensor, gradient: Tensor) -> None:
    """Against float64, as far as float32 arithmetic and one rounding of the result explain."""
    with torch.no_grad():
        found = errors(Results(*results), x, a, b, gradient)
    eps = torch.finfo(a.dtype).eps
    rounding = torch.finfo(x.dtype).eps / 2 if x.dtype.itemsize == 2 else 0
    assert found.y <= 8 * eps + 1.01 * rounding
    assert found.dx <= 16 * eps + 1.01 * rounding
    assert found.coefficients <= 1e-5


def assert_same_bits(results: list[Tensor], expected: list[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))


def on_another_stream(*given: Tensor) -> None:
    """One step, which loads what there is to be loaded, as before every capture."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step(*given)
    torch.cuda.current_stream().wait_stream(stream)


# Autograd


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_the_gradients_are_right_and_come_from_a_thread_of_autograds_own(dtype: torch.dtype) -> None:
    given, threads = inputs(dtype), []
    hook = given[0].register_hook(lambda _: threads.append(threading.get_ident()))
    results = step(*given)
    hook.remove()
    assert len(threads) == 1
    assert threads != [threading.get_ident()]
    assert_right(results, *given)


@pytest.mark.parametrize("shape", [(4, 8, 14, 14), (3, 8, 7, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_are_computed_where_they_lie(shape: tuple[int, ...], memory_format: torch.memory_format) -> None:
    _, a, b, _ = inputs()
    x = torch.randn(shape, device="cuda").to(memory_format=memory_format).requires_grad_()
    gradient = torch.randn(shape, device="cuda")
    y = group_rational(x, a, b, channel_dim=1)
    assert y.stride() == x.stride()
    results = Results(y.detach(), *torch.autograd.grad(y, (x, a, b), gradient))
    found = errors(results, x.detach(), a, b, gradient, channel_dim=1)
    assert found.y < 1e-6
    assert found.dx < 2e-6
    assert found.coefficients < 1e-5


def test_a_step_does_not_wait_for_the_device() -> None:
    given = inputs()
    step(*given)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(*given)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_first_and_second_derivatives_are_those_of_finite_differences() -> None:
    x = torch.randn(6, 4, device="cuda", dtype=torch.float64)
    x = (x + torch.copysign(torch.full_like(x, 0.1), x)).requires_grad_()
    a = torch.randn(2, 6, device="cuda", dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, 4, device="cuda", dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(group_rational, (x, a, b))
    assert torch.autograd.gradgradcheck(group_rational, (x, a, b))


def test_several_threads_train_at_once() -> None:
    given = [inputs() for _ in range(4)]
    expected = [step(*one) for one in given]
    torch.cuda.synchronize()
    results: dict[int, list[Tensor]] = {}

    def work(index: int) -> None:
        for _ in range(20):
            results[index] = step(*given[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        assert_same_bits(results[index], expected[index])


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_where_torch_allows_deterministic_algorithms_only_all_orders_run_and_repeat(deterministic: None) -> None:
    given = inputs(rows=20_000)
    first = step(*given), penalty(*given)
    assert_right(first[0], *given)
    for _ in range(3):
        assert_same_bits(step(*given), first[0])
        assert_same_bits(penalty(*given), first[1])


# CUDA graphs


def test_forward_and_backward_are_captured_after_one_warm_up_and_replayed_with_new_input() -> None:
    given = inputs()
    on_another_stream(*given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(*given)
    for _ in range(100):
        with torch.no_grad():
            for tensor in given:
                tensor.normal_()
        graph.replay()
        assert_same_bits(captured, step(*given))
    assert_right(captured, *given)


def test_a_capture_before_the_warm_up_takes_the_definition_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    # A dispatcher that has not warned yet, and degrees whose kernels no other test loads.
    dispatcher = Dispatcher(RATIONAL.operation, RATIONAL.backends)
    monkeypatch.setattr(rational_backends, "RATIONAL", dispatcher)
    given = inputs(degrees=(4, 3))
    with use_backend("torch"):
        on_another_stream(*given)
    graph = torch.cuda.CUDAGraph()
    with pytest.warns(BackendWarning, match="a CUDA graph is being captured") as caught, torch.cuda.graph(graph):
        captured = step(*given)
    assert [warning.category for warning in caught].count(BackendWarning) == 1
    with torch.no_grad():
        given[0].normal_()
    graph.replay()
    assert_right(captured, *given)
    # for that call only: the next one compiles
    assert dispatcher.choose(given[0].device, (torch.float32,) * 3)[0] == "cupy"
    with use_backend("cupy"):
        assert_right(step(*given), *given)


# Streams and devices


def test_two_streams_at_once_compute_what_one_does() -> None:
    given = [inputs(rows=20_000) for _ in range(2)]
    expected = [step(*one) for one in given]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    for _ in range(5):
        late = [torch.full_like(x, math.nan) for x, *_ in given]
        results = []
        for stream, x, (source, a, b, gradient) in zip(streams, late, given, strict=True):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                torch.cuda._sleep(20_000_000)  # a launch on another stream would still read NaN
                x.copy_(source.detach())
                results.append(step(x.requires_grad_(), a, b, gradient))
        for stream in streams:
            torch.cuda.current_stream().wait_stream(stream)
        for found, right in zip(results, expected, strict=True):
            assert_same_bits(found, right)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_tensors_of_the_second_device_are_computed_there_while_the_first_is_current() -> None:
    given = inputs(device="cuda:1")
    assert torch.cuda.current_device() == 0
    with use_backend("cupy"):
        results = step(*given)
    assert torch.cuda.current_device() == 0
    assert {result.device for result in results} == {torch.device("cuda", 1)}
    assert_right(results, *given)
