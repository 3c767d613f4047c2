"""KAN layers: the matrix form, closed-form statistics, grids that move, product nodes."""

import math

import pytest
import torch

from katops.errors import UserError
from katops.layers.basis_functions import FourierBasis
from katops.layers.kan_linear import KANLinear
from katops.models import create_layer
from katops.models.kan_penalty import sparsity_penalty
from katops.registry import LAYERS

BASES = [record.name for record in LAYERS if record.kind == "basis"]


def layer(**options):
    """A layer in float64 whose weights are all away from zero."""
    options = {"in_features": 4, "out_features": 3, "linear": True, **options}
    made = create_layer("kan_linear", **options).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


@pytest.mark.parametrize("basis", BASES)
def test_matrix_form_is_the_sum_of_the_edges(basis):
    made = layer(basis_layer=basis)
    x = 2 * torch.rand(20, 4, dtype=torch.float64) - 1
    edges = made.edges(x)
    torch.testing.assert_close(made(x), edges.sum(-1) + made.bias)
    for sub_node in range(3):
        for feature in range(4):
            one = made.edge(sub_node, feature, x[:, feature])
            torch.testing.assert_close(one, edges[:, sub_node, feature])
    torch.testing.assert_close(made(x.view(4, 5, 4)), made(x).view(4, 5, 3))


def test_masked_edges_have_no_effect():
    made = layer()
    made.mask[0] = 0
    made.mask[1, 2] = 0
    x = torch.randn(6, 4, dtype=torch.float64)
    other = x.clone()
    other[:, 2] += 1
    assert torch.equal(made(x)[:, 0], made.bias[0].expand(6))
    torch.testing.assert_close(made(other)[:, 1], made(x)[:, 1], rtol=0, atol=1e-14)
    assert not torch.allclose(made(other)[:, 2], made(x)[:, 2])


@pytest.mark.parametrize("arity", [2, 3])
def test_product_nodes_multiply_neighbouring_sums(arity):
    made = layer(out_features=3, products=2, arity=arity)
    x = torch.randn(5, 4, dtype=torch.float64)
    z = made.subnodes(x)
    assert z.shape == (5, 1 + 2 * arity)
    expected = [z[:, 0], z[:, 1 : 1 + arity].prod(1), z[:, 1 + arity :].prod(1)]
    torch.testing.assert_close(made(x), torch.stack(expected, 1))


@pytest.mark.parametrize("basis", BASES)
def test_closed_form_statistics_are_those_of_the_sampled_edges(basis):
    made = layer(basis_layer=basis)
    made.mask[2, 1] = 0
    x = torch.randn(50, 4, dtype=torch.float64)
    edges, found = made.edges(x), made.statistics(x)
    torch.testing.assert_close(found.mean, edges.mean(0))
    torch.testing.assert_close(found.variance, edges.var(0, correction=0))
    torch.testing.assert_close(found.deviation, edges.std(0, correction=0))


def test_penalty_is_the_one_computed_by_hand_and_its_gradient_is_finite_and_right():
    made = layer()
    made.mask[2, 1] = 0
    x = torch.randn(30, 4, dtype=torch.float64)
    a = made.edges(x).std(0, correction=0) / (x.std(0, correction=0) + 0.1)
    row, column = a / (a.sum(1, keepdim=True) + 1), a / (a.sum(0, keepdim=True) + 1)
    entropy = sum(
        -sum(p * math.log2(p + 1e-4) for p in share.flatten().tolist()) / count
        for share, count in ((row, 3), (column, 4))
    )
    torch.testing.assert_close(sparsity_penalty(made, x).item(), a.sum().item() + 2 * entropy)

    def penalty(coefficients):
        made.coefficients.data = coefficients
        return sparsity_penalty(made, x, 1.0, 2.0, 0.5, 0.5)

    sparsity_penalty(made, x, 1.0, 2.0, 0.5, 0.5).backward()
    gradient, values = made.coefficients.grad, made.coefficients.detach().clone()
    assert gradient.isfinite().all()
    direction = torch.randn_like(values)
    step = 1e-6
    slope = (penalty(values + step * direction) - penalty(values - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope.detach(), rtol=1e-4, atol=1e-6)


def test_smoothness_is_zero_for_straight_lines_on_any_grid():
    made = layer(base_act=None)
    x = torch.randn(100, 4, dtype=torch.float64) ** 3
    made.update_grid(x)
    knots = made.basis.knots
    abscissae = torch.stack([knots[:, 1 + j : knots.shape[1] - 3 + j] for j in range(3)]).mean(0)
    with torch.no_grad():
        made.coefficients.copy_((3 * abscissae - 1).expand_as(made.coefficients))
    torch.testing.assert_close(made.edge(0, 1, x[:, 1]), 3 * x[:, 1] - 1 + x[:, 1] * made.linear_weight[0, 1])
    assert sparsity_penalty(made, x, 0, 0, 0, 1.0).abs() < 1e-10


@pytest.mark.parametrize("factor", [2, 3, 1.6])
def test_refinement_keeps_the_function_on_and_outside_of_the_grid(factor):
    made = layer()
    x = 4 * torch.rand(200, 4, dtype=torch.float64) - 2
    before = made(x)
    made.refine(int(5 * factor))
    assert made.basis.intervals == int(5 * factor)
    if factor in (2, 3):
        torch.testing.assert_close(made(x), before, rtol=1e-9, atol=1e-9)
    else:
        inside = (x.abs() < 1).all(1)
        assert (made(x) - before)[inside].abs().max() < 0.05 * before[inside].std()


def test_a_moved_grid_spans_the_samples_and_keeps_a_smooth_function():
    made = layer(in_features=2, out_features=3, basis_layer={"name": "bspline", "low": -4.0, "high": 4.0})
    with torch.no_grad():
        made.coefficients.copy_(torch.sin(torch.arange(8.0)).expand(3, 2, 8))
    x = torch.randn(400, 2, dtype=torch.float64)
    before = made(x)
    change = made.update_grid(x)
    assert change == pytest.approx((made(x) - before).abs().max().item())
    assert (made(x) - before).norm() < 0.05 * (before - before.mean(0)).norm()
    torch.testing.assert_close(made.basis.low, x.amin(0))
    torch.testing.assert_close(made.basis.high, x.amax(0))
    assert not made.outside(x).any()
    assert made.outside(x * torch.tensor([1.0, 2.0])).tolist()[0] == 0
    assert made.outside(x * torch.tensor([1.0, 2.0])).tolist()[1] > 0


def test_columns_that_are_constant_one_hot_or_mostly_zero_keep_values_and_gradients_finite():
    made = layer(in_features=5)
    x = torch.randn(200, 5, dtype=torch.float64)
    x[:, 0] = 0
    x[:, 1] = (x[:, 1] > 0).double()
    x[:, 2] = torch.relu(x[:, 2] - 2)
    x[:, 3] = 1e6
    before = made(x)
    made.update_grid(x)
    x.requires_grad_()
    y = made(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in made.parameters())
    assert (y - before).abs().max() < 0.5 * before.std()


def test_a_single_sample_is_enough_for_a_grid():
    made = layer()
    made.update_grid(torch.randn(1, 4, dtype=torch.float64))
    assert made(torch.randn(3, 4, dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("init", ["glorot", "power"])
def test_layers_start_with_outputs_of_usual_size_and_the_generator_alone_decides(init):
    made = create_layer("kan_linear", in_features=64, out_features=64, init=init)
    x = 2 * torch.rand(500, 64) - 1
    state = torch.get_rng_state()
    made.reset_parameters(torch.Generator().manual_seed(3))
    first = made(x)
    made.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(made(x), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert 0.1 < first.std() < 3


@pytest.mark.parametrize("init", ["glorot", "power"])
def test_base_functions_may_be_learned_per_channel(init):
    made = create_layer("kan_linear", in_features=8, out_features=3, base_act="rational", init=init)
    made(torch.randn(5, 8)).sum().backward()
    assert made.base_act.weight_numerator.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"products": 4}, "products must be from 0 to out_features = 3"),
        ({"init": "zeros"}, "glorot, power, pykan"),
        ({"init": "pykan", "basis_layer": "fourier"}, "needs splines"),
        ({"basis_layer": "bsplin"}, "bspline"),
        ({"basis_layer": {"name": "bspline", "degree": 0}}, "at least 1"),
        ({"basis_layer": "gelu"}, "'basis'"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(options, message):
    with pytest.raises(UserError, match=message):
        create_layer("kan_linear", in_features=4, out_features=3, **options)


def test_samples_for_a_grid_are_checked():
    made = layer()
    with pytest.raises(UserError, match=r"expected samples \(rows > 0, input=4\)"):
        made.update_grid(torch.zeros(0, 4))
    with pytest.raises(UserError, match=r"finite; they are not in the inputs \[2\]"):
        made.update_grid(torch.tensor([[0.0, 1.0, float("nan"), 2.0]], dtype=torch.float64))
    with pytest.raises(UserError, match="only splines have a grid"):
        KANLinear(4, 3, FourierBasis).refine(10)
    with pytest.raises(UserError, match="cannot be refined to 3"):
        made.refine(3)


def test_chebyshev_has_finite_gradients_where_tanh_saturates():
    basis = create_layer("chebyshev", in_features=1)
    x = torch.tensor([[-20.0], [20.0], [0.3]], requires_grad=True)
    basis(x).sum().backward()
    assert x.grad.isfinite().all()
    expected = torch.cos(torch.arange(5) * torch.arccos(torch.tanh(torch.tensor(0.3))))
    torch.testing.assert_close(basis(x)[2, 0], expected)


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e3, 1e7, -1e8])
def test_a_constant_column_in_single_precision_has_a_grid_however_large_it_is(value):
    made = create_layer("kan_linear", in_features=2, out_features=1)
    x = torch.stack([torch.full((20,), value), torch.randn(20)], 1)
    made.update_grid(x)
    assert (made.basis.knots.diff() > 0).all()
    assert made(x).isfinite().all()


def test_a_grid_is_not_moved_after_the_training_has_diverged():
    made = layer()
    with torch.no_grad():
        made.coefficients[0] = float("nan")
    with pytest.raises(UserError, match="coefficients are not finite"):
        made.update_grid(torch.randn(10, 4, dtype=torch.float64))
