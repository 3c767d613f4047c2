"""Stencils and grid transfers: what they do to constants and linear functions, and where their points lie."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.layers.convolution import Convolution, Prolongation, PublishedProlongation
from katops.layers.multigrid import FULL_WEIGHTING, LINEAR_INTERPOLATION, _set_stencil


def interpolation(boundary, channels=2):
    layer = Prolongation(channels, boundary=boundary)
    _set_stencil(layer.weight, LINEAR_INTERPOLATION)
    return layer


def full_weighting(boundary, channels=2):
    layer = Convolution(channels, channels, boundary=boundary, stride=2)
    _set_stencil(layer.weight, FULL_WEIGHTING)
    return layer


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    boundary=st.sampled_from(["neumann", "periodic"]),
)
def test_transfers_of_a_constant_are_the_constant_on_grids_of_either_parity(sizes, boundary):
    fine = torch.full((1, 2, *sizes), 3.0)
    boundary = [boundary] * len(sizes)
    coarse = full_weighting(boundary)(fine)
    assert coarse.shape[2:] == torch.Size(-(-n // 2) for n in sizes)
    torch.testing.assert_close(coarse, torch.full_like(coarse, 3.0))
    torch.testing.assert_close(interpolation(boundary)(coarse, sizes), fine)


@pytest.mark.parametrize("size", [8, 9])
def test_interpolation_of_a_linear_function_is_exact_where_both_neighbours_exist(size):
    fine = torch.arange(float(size)).expand(1, 2, -1)
    interpolated = interpolation(["dirichlet"])(fine[..., ::2], [size])
    last = size if size % 2 else size - 1
    torch.testing.assert_close(interpolated[..., :last], fine[..., :last])


@pytest.mark.parametrize(("boundary", "last"), [("dirichlet", 2.0), ("neumann", 4.0), ("periodic", 3.0)])
def test_last_point_of_an_even_grid_is_interpolated_with_the_boundary_condition(boundary, last):
    coarse = torch.tensor([[[2.0, 3.0, 4.0]]])
    assert interpolation([boundary], channels=1)(coarse, [6])[0, 0, -1] == last


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
@pytest.mark.parametrize("sizes", [(7,), (6, 5), (4, 3, 5)])
def test_convolution_is_torch_convolution_with_torch_padding(boundary, sizes):
    layer = Convolution(2, 3, boundary=[boundary] * len(sizes), bias=True)
    torch.nn.init.normal_(layer.bias)
    mode = {"dirichlet": "constant", "neumann": "replicate", "periodic": "circular"}[boundary]
    x = torch.randn(2, 2, *sizes)
    convolve = (F.conv1d, F.conv2d, F.conv3d)[len(sizes) - 1]
    expected = convolve(F.pad(x, [1, 1] * len(sizes), mode=mode), layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), expected)


def test_prolongation_without_boundary_effects_is_the_adjoint_of_restriction():
    """<P c, f> = <c, R f> when R has the transposed weights of P."""
    prolong = Prolongation(2, boundary=["dirichlet", "dirichlet"])
    restrict = Convolution(2, 2, boundary=["dirichlet", "dirichlet"], stride=2)
    restrict.weight.data = prolong.weight.data
    c, f = torch.randn(1, 2, 4, 5), torch.randn(1, 2, 8, 9)
    torch.testing.assert_close((prolong(c, (8, 9)) * f).sum(), (c * restrict(f)).sum())


def test_published_prolongation_refuses_a_grid_of_the_other_parity():
    with pytest.raises(UserError, match=r"prolongs \(4, 4\) to \(8, 8\) points, but the finer grid has \(7, 7\)"):
        PublishedProlongation(2, width=4, n_axes=2)(torch.randn(1, 2, 4, 4), (7, 7))
