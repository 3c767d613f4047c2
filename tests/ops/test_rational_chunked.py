"""The chunked plain-torch version: its chunks cover every element once, and little memory is needed."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from katops.ops import rational_chunked
from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_kernels import RationalKernels
from katops.ops.rational_torch import TorchRational

CPU = torch.device("cpu")
ALL = (True, True, True)


@pytest.fixture
def kernels() -> RationalKernels:
    return rational_chunked.load(CPU)


@settings(max_examples=50, deadline=None)
@given(
    outer=st.integers(1, 40),
    groups=st.integers(1, 12),
    inner=st.one_of(st.integers(1, 50), st.sampled_from([999, 4097, 16384, 16385, 33333])),
)
def test_the_chunks_cover_every_element_once_each_with_its_own_group(outer: int, groups: int, inner: int) -> None:
    layout = GroupLayout(outer, groups, inner)
    seen = torch.full((outer * groups * inner,), -1, dtype=torch.int32)
    for span, chunks in rational_chunked._chunks_by_group(layout):
        numbers = torch.arange(groups, dtype=torch.int32)[span]
        for chunk in chunks:
            part = chunk.part(seen)
            assert (part == -1).all()
            assert part.numel() <= rational_chunked._CHUNK
            part.copy_(numbers[:, None, None].expand(part.shape))
    assert torch.equal(seen.view(layout), torch.arange(groups).int()[:, None].expand(layout))


@pytest.mark.parametrize("types", [("float16", "float16"), ("float32", "float16"), ("float16", "float32")])
def test_any_types_agree_with_the_definition(kernels: RationalKernels, types: tuple[str, str]) -> None:
    """Coefficients wider than x raise the precision of the arithmetic; the result is rounded once."""
    x_type, y_type = (getattr(torch, name) for name in types)
    layout = GroupLayout(100, 8, 24)
    x, g = torch.randn(19200).to(x_type), torch.randn(19200).to(y_type)
    for coefficient_type in (torch.float16, torch.float32, torch.float64):
        a, b = torch.randn(8, 6).to(coefficient_type), torch.randn(8, 4).to(coefficient_type)
        y = kernels.forward(x, a, b, layout, y_type)
        expected = TorchRational().forward(x, a, b, layout, y_type)
        torch.testing.assert_close(y, expected, rtol=torch.finfo(y_type).eps, atol=1e-5)
        grads = kernels.backward(x, g, a, b, layout, ALL)
        for one, other in zip(grads, TorchRational().backward(x, g, a, b, layout, ALL), strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=2 * torch.finfo(other.dtype).eps + 1e-5, atol=1e-3)


def test_dense_tensors_in_other_orders_and_inside_larger_ones_keep_their_strides(kernels: RationalKernels) -> None:
    a, b = torch.randn(4, 6), torch.randn(4, 4)
    x = torch.randn(3, 8, 30, 31)
    expected = kernels.forward(x, a, b, GroupLayout(3, 4, 2 * 930), torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    y = kernels.forward(last, a, b, GroupLayout(3 * 930, 4, 2), torch.float32)
    torch.testing.assert_close(y, expected)
    assert y.is_contiguous(memory_format=torch.channels_last)
    inside = torch.cat([torch.full((7,), math.nan), x.flatten()])[7:].view(x.shape)
    assert torch.equal(kernels.forward(inside, a, b, GroupLayout(3, 4, 2 * 930), torch.float32), expected)


def test_chunks_with_huge_elements_are_computed_as_the_definition_does(kernels: RationalKernels) -> None:
    layout = GroupLayout(400, 8, 96)
    a, b = torch.randn(1, 6), torch.randn(8, 4)
    x, g = torch.randn(math.prod(layout)), torch.randn(math.prod(layout))
    x[1000], x[200000] = 1e20, -math.inf
    g[1000] = g[200000] = 0
    y = kernels.forward(x, a, b, layout, torch.float32)
    torch.testing.assert_close(y, TorchRational().forward(x, a, b, layout, torch.float32), rtol=1e-5, atol=1e-5)
    expected = TorchRational().backward(x.double(), g.double(), a.double(), b.double(), layout, ALL)
    for one, other in zip(kernels.backward(x, g, a, b, layout, ALL), expected, strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-4, atol=1e-4)


class _NewStorages(TorchDispatchMode):
    """The sizes in bytes of the tensors that the operations inside make, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = [t.untyped_storage().data_ptr() for t in (*args, *(kwargs or {}).values()) if isinstance(t, Tensor)]
        if isinstance(result, Tensor) and result.untyped_storage().data_ptr() not in known:
            self.sizes.append(result.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("layout", [GroupLayout(1600, 8, 96), GroupLayout(1, 1, 1228800)])
def test_beside_the_result_only_buffers_of_a_chunks_size_are_made(
    kernels: RationalKernels, layout: GroupLayout
) -> None:
    x = torch.randn(math.prod(layout))
    a, b = torch.randn(layout.groups, 6), torch.randn(layout.groups, 4)
    buffers = 6 * rational_chunked._CHUNK * 4
    assert x.nbytes > buffers
    with _NewStorages() as made:
        kernels.forward(x, a, b, layout, torch.float32)
        kernels.backward(x, x, a, b, layout, ALL)
    large = [size for size in made.sizes if size > 10000]
    assert large.count(x.nbytes) == 2
    assert sum(large) <= 2 * x.nbytes + 2 * buffers
