"""How the group rational function is compiled, exported, traced, transformed and differentiated again."""

import itertools
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import AotEagerAndRecordGraphs, CompileCounterWithBackend
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing import assert_close

from katops.layers.group_rational import GroupRational
from katops.models import build_model
from katops.ops import rational
from katops.ops.dispatch import use_backend
from katops.ops.rational import group_rational
from katops.ops.rational_autograd import composite, gradients_by_definition

# PyTorch's own forward-mode rules for some operations are TorchScript, which it deprecates
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

Inputs = tuple[Tensor, Tensor, Tensor]


@pytest.fixture
def inputs() -> Inputs:
    """x of two groups of two channels, away from the kink at zero, and its coefficients; float64."""
    torch.manual_seed(0)
    x = torch.randn(5, 4, dtype=torch.float64)
    coefficients = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    return x + torch.copysign(torch.tensor(0.1), x), *coefficients


def weighted(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """A loss whose gradient differs from element to element."""
    y = group_rational(x, numerator, denominator)
    return (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).view(y.shape)).sum()


def eager_gradients(inputs: Inputs) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    return torch.autograd.grad(weighted(*leaves), leaves)


def along_x(inputs: Inputs) -> Callable[[Tensor], Tensor]:
    return lambda x: group_rational(x, *inputs[1:]).sin().sum()


def compiled(function: Callable, **options: object) -> Callable:
    torch.compiler.reset()
    return torch.compile(function, fullgraph=True, **{"backend": "aot_eager", **options})


# The compiler


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_in_one_graph_it_is_the_same_and_a_new_batch_size_does_not_compile_again(dynamic: bool) -> None:
    def loss(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
        return (group_rational(x, numerator, denominator) * x).sum()

    numerator, denominator = torch.randn(4, 6), torch.randn(4, 4)
    counter = CompileCounterWithBackend("aot_eager")
    function = compiled(loss, backend=counter, dynamic=dynamic)
    for batch in (2, 3, 7, 9, 12) if dynamic else (2,):
        x = 3 * torch.randn(batch, 5, 8)
        x[0, 0] = 1e10
        leaves = [tensor.requires_grad_() for tensor in (x, numerator, denominator)]
        assert_close(torch.autograd.grad(function(*leaves), leaves), torch.autograd.grad(loss(*leaves), leaves))
    assert counter.frame_count == 1


def test_left_to_itself_the_compiler_compiles_twice_for_five_batch_sizes() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    function = compiled(group_rational, backend=counter)
    numerator, denominator = torch.randn(4, 6), torch.randn(4, 4)
    for batch in (3, 5, 6, 7, 11):
        x = torch.randn(batch, 8)
        assert_close(function(x, numerator, denominator), group_rational(x, numerator, denominator))
    assert counter.frame_count == 2


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")  # the recorder of PyTorch
def test_the_compiler_sees_one_operator_forward_and_one_backward(inputs: Inputs) -> None:
    recorder = AotEagerAndRecordGraphs()
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    compiled(weighted, backend=recorder)(*leaves).backward()
    ours = [
        str(node.target)
        for graph in (recorder.fw_graphs[0], recorder.bw_graphs[0])
        for node in graph.graph.nodes
        if "katops" in str(node.target)
    ]
    assert ours == ["katops.rational_forward.default", "katops.rational_backward.default"]
    assert_close(tuple(leaf.grad for leaf in leaves), eager_gradients(inputs))


def test_inductor_gives_the_same_training_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), GroupRational(8), nn.Linear(8, 3))
    x = torch.randn(4, 6)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    given = torch.autograd.grad(compiled(model, backend="inductor")(x).square().sum(), list(model.parameters()))
    assert_close(given, expected)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "slice", "expanded"])
def test_compiled_outputs_lie_in_memory_as_the_compiler_expects(layout: str) -> None:
    x = torch.randn(2, 8, 6, 6)
    x = {
        "channels last": lambda: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda: x.transpose(2, 3),
        "slice": lambda: x[..., 1:4],
        "expanded": lambda: x[..., :1].expand(2, 8, 6, 5),
    }[layout]()
    numerator, denominator = torch.randn(2, 6), torch.randn(2, 4)

    def function(x: Tensor) -> Tensor:
        return group_rational(x, numerator, denominator, 1)

    # the strides that Inductor plans with are those of the fake; a mismatch raises there
    assert_close(compiled(function, backend="inductor")(x), function(x))
    assert (
        torch.ops.katops.rational_forward(x, numerator, denominator, 1, x.dtype).stride()
        == torch.empty_like(x).stride()
    )


@pytest.mark.parametrize(
    "transform",
    [
        lambda f: torch.func.grad(lambda *inputs: f(*inputs).sin().sum(), argnums=(0, 1, 2)),
        lambda f: torch.func.grad(
            lambda *inputs: torch.func.grad(lambda *t: f(*t).sin().sum())(*inputs).square().sum(), argnums=(0, 1, 2)
        ),
        lambda f: torch.func.vmap(f, in_dims=(0, None, None)),
        lambda f: torch.func.vmap(
            torch.func.grad(lambda *inputs: f(*inputs).sum(), argnums=(1, 2)), in_dims=(0, None, None)
        ),
        lambda f: lambda *inputs: torch.func.jvp(f, inputs, inputs)[1],
    ],
    ids=["grad", "grad of grad", "vmap", "vmap of grad", "jvp"],
)
def test_transforms_inside_of_the_compiler_are_those_outside(transform: Callable, inputs: Inputs) -> None:
    function = transform(group_rational)
    assert_close(compiled(function)(*inputs), function(*inputs))


# Export, traces, dispatch modes


def test_an_exported_program_holds_the_operator_and_takes_any_batch_size() -> None:
    layer = GroupRational(8).eval()
    program = torch.export.export(layer, (torch.randn(3, 8),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    assert "katops.rational_forward" in str(program.graph)
    x = torch.randn(7, 8)
    assert_close(program.module()(x), layer(x))


@pytest.mark.parametrize("tracing_mode", ["real", "fake", "symbolic"])
def test_a_trace_is_right_for_huge_input_too(tracing_mode: str, inputs: Inputs) -> None:
    traced = make_fx(lambda *inputs: group_rational(*inputs), tracing_mode=tracing_mode)(*inputs)
    huge = torch.tensor([[1.0, -2.0, 1e70, -1e200]]).double().expand(5, 4).contiguous()
    assert_close(traced(huge, *inputs[1:]), group_rational(huge, *inputs[1:]))


def test_a_torchscript_trace_is_no_constant(inputs: Inputs) -> None:
    layer = GroupRational(4, groups=2).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, about TorchScript's age and about the layer's own checks
        traced = torch.jit.trace(layer, (inputs[0],))
    for x in (torch.randn(3, 4).double(), torch.full((2, 4), 1e70, dtype=torch.float64)):
        assert_close(traced(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("needs", [(True, True, True), (False, True, False)])
def test_the_operators_keep_the_rules_of_the_library(dtype: torch.dtype, needs: tuple[bool, bool, bool]) -> None:
    x, numerator, denominator = torch.randn(3, 4, dtype=dtype), torch.randn(1, 6), torch.randn(2, 4)
    torch.library.opcheck(torch.ops.katops.rational_forward.default, (x, numerator, denominator, -1, dtype))
    torch.library.opcheck(
        torch.ops.katops.rational_backward.default, (x, torch.randn_like(x), numerator, denominator, -1, *needs)
    )


def test_a_kat_on_the_meta_device_computes_the_shape_of_its_output() -> None:
    with torch.device("meta"):
        y = build_model("kat_tiny", num_classes=7)(torch.empty(2, 3, 224, 224))
    assert (y.shape, y.device.type) == ((2, 7), "meta")


def test_on_the_meta_device_only_the_shape_is_computed() -> None:
    layer = GroupRational(8, device="meta")
    y = layer(torch.empty(2, 3, 8, device="meta", dtype=torch.bfloat16))
    assert (y.shape, y.dtype, y.device.type) == ((2, 3, 8), torch.bfloat16, "meta")


# torch.func and forward mode


def test_functional_gradients_are_those_of_autograd(inputs: Inputs) -> None:
    assert_close(torch.func.grad(weighted, argnums=(0, 1, 2))(*inputs), eager_gradients(inputs))


def test_vmap_over_any_input_is_a_loop() -> None:
    numerator, denominator = torch.randn(3, 2, 6).double(), torch.randn(3, 2, 4).double()
    x = torch.randn(3, 5, 4).double()
    x[1, 2, 3] = 1e200
    for axes in itertools.product([0, None], repeat=3):
        if any(axis == 0 for axis in axes):
            inputs = [t if axis == 0 else t[0] for t, axis in zip((x, numerator, denominator), axes, strict=True)]
            given = torch.func.vmap(group_rational, in_dims=axes)(*inputs)
            expected = [
                group_rational(*(t[i] if axis == 0 else t for t, axis in zip(inputs, axes, strict=True)))
                for i in range(3)
            ]
            assert_close(given, torch.stack(expected))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_vmap_over_any_axis_of_x_is_a_loop(axis: int) -> None:
    numerator, denominator = torch.randn(2, 6).double(), torch.randn(2, 4).double()
    x = torch.randn(4, 4, 4).double()
    given = torch.func.vmap(lambda x: group_rational(x, numerator, denominator), in_dims=axis)(x)
    assert_close(given, torch.stack([group_rational(one, numerator, denominator) for one in x.unbind(axis)]))


def test_gradients_per_sample_sum_to_the_gradient(inputs: Inputs) -> None:
    x, numerator, denominator = inputs

    def loss(a: Tensor, b: Tensor, sample: Tensor) -> Tensor:
        return group_rational(sample, a, b).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(None, None, 0))(
        numerator, denominator, x
    )
    assert [tensor.shape for tensor in per_sample] == [(5, 2, 6), (5, 2, 4)]
    leaves = [numerator.clone().requires_grad_(), denominator.clone().requires_grad_()]
    assert_close([tensor.sum(0) for tensor in per_sample], list(torch.autograd.grad(loss(*leaves, x), leaves)))


def test_forward_mode_passes_gradcheck_in_batches_and_over_reverse_mode(inputs: Inputs) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    options = {"check_forward_ad": True, "check_batched_grad": True, "check_batched_forward_grad": True}
    assert torch.autograd.gradcheck(group_rational, leaves, **options)
    assert torch.autograd.gradgradcheck(group_rational, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("outer", [torch.func.jacfwd, torch.func.jacrev])
@pytest.mark.parametrize("inner", [torch.func.jacfwd, torch.func.jacrev])
def test_every_mixture_of_modes_gives_the_hessian(outer: Callable, inner: Callable, inputs: Inputs) -> None:
    loss = along_x(inputs)
    assert_close(outer(inner(loss))(inputs[0]), torch.autograd.functional.hessian(loss, inputs[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_forward_derivative_is_the_transposed_of_the_reverse_one_however_large_x(dtype: torch.dtype) -> None:
    x = torch.tensor([[1e-30, -0.5, 3e3, -5e3], [1e6, -1e10, 3e30, -1e37]], dtype=dtype)
    numerator, denominator = torch.randn(2, 6, dtype=dtype), torch.randn(2, 4, dtype=dtype)
    gradient = torch.full_like(x, 1e-3)
    reverse = gradients_by_definition(x, gradient, numerator, denominator, -1)
    for position, tensor in enumerate((x, numerator, denominator)):
        with forward_ad.dual_level():
            duals = [x, numerator, denominator]
            for index in itertools.product(*map(range, tensor.shape)):
                direction = torch.zeros_like(tensor)
                direction[index] = 1
                duals[position] = forward_ad.make_dual(tensor, direction)
                y_dot = forward_ad.unpack_dual(group_rational(*duals)).tangent
                assert_close((gradient * y_dot).sum(), reverse[position][index], rtol=1e-4, atol=1e-30)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e38])
def test_under_forward_mode_the_value_is_the_limit_too(value: float) -> None:
    x = torch.full((1, 2), value)
    numerator, denominator = torch.randn(2, 6), torch.randn(2, 4)
    numerator[0, 5] = 0
    y, _ = torch.func.jvp(lambda x: group_rational(x, numerator, denominator), (x,), (torch.ones_like(x),))
    assert_close(y, group_rational(x, numerator, denominator))


def test_one_sided_derivatives_are_the_same_in_every_mode() -> None:
    numerator, denominator = torch.randn(1, 6).double(), torch.tensor([[0.0, -0.0, 1.0, -1.0]]).double()
    for zero in (0.0, -0.0):
        inputs = (torch.tensor([[zero, 0.7]]).double(), numerator, denominator)
        reverse = torch.func.jacrev(group_rational, argnums=(0, 1, 2))(*inputs)
        assert_close(torch.func.jacfwd(group_rational, argnums=(0, 1, 2))(*inputs), reverse)
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        assert_close(torch.autograd.functional.jacobian(group_rational, tuple(leaves)), reverse)


# Higher orders of the kernels' own route


def two_layers(x: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """The function twice with the same coefficients, a mixing in between and something behind that is not linear."""
    mixing = torch.linspace(-1, 1, 16, dtype=x.dtype).view(4, 4)
    return group_rational(group_rational(x, numerator, denominator) @ mixing, numerator, denominator).sin().sum()


def derivatives(function: Callable, inputs: Inputs, order: int) -> tuple[Tensor, ...]:
    """The gradients of the sum of the squares of the gradients, and so on, all of them with a graph."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    value = function(*leaves)
    for _ in range(order):
        gradients = torch.autograd.grad(value, leaves, create_graph=True)
        value = sum(gradient.square().sum() for gradient in gradients)
    return gradients


@pytest.mark.parametrize("order", [1, 2, 3])
def test_every_order_with_a_graph_kept_is_that_of_plain_operations(
    order: int, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = derivatives(two_layers, inputs, order)
    monkeypatch.setattr(rational, "_route", lambda *tensors: composite)
    assert_close(given, derivatives(two_layers, inputs, order), rtol=1e-9, atol=1e-9)


def test_a_product_with_the_hessian_is_that_product(inputs: Inputs) -> None:
    x, *coefficients = inputs
    function, direction = (lambda x: two_layers(x, *coefficients)), torch.randn_like(x)
    _, given = torch.autograd.functional.hvp(function, x, direction)
    _, with_graph = torch.autograd.functional.hvp(function, x, direction, create_graph=True)
    expected = torch.einsum("ijkl,kl->ij", torch.func.hessian(function)(x), direction)
    assert_close((given, with_graph), (expected, expected))


@pytest.mark.parametrize("needs", list(itertools.product([True, False], repeat=3))[:-1])
def test_a_gradient_penalty_reaches_whatever_needs_a_gradient(needs: tuple[bool, bool, bool], inputs: Inputs) -> None:
    def penalty(*tensors: Tensor) -> list[Tensor | None]:
        leaves = [tensor.clone().requires_grad_(need) for tensor, need in zip(tensors, needs, strict=True)]
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        first = torch.autograd.grad(weighted(*leaves), wanted, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), wanted, allow_unused=True)

    with use_backend("torch"):
        expected = penalty(*inputs)
    assert_close(penalty(*inputs), expected)


def test_a_second_derivative_in_space_is_that_of_the_quotient() -> None:
    """u'' of u = a x / (1 + |b| x), x > 0, is -2 a |b| / (1 + |b| x)^3: what a physics-informed loss asks for."""
    a, b = 1.7, -0.6
    numerator, denominator = torch.tensor([[0.0, a]]).double(), torch.tensor([[b]]).double()
    x = torch.linspace(0.1, 3, 20).double()[:, None].requires_grad_()
    first = torch.autograd.grad(group_rational(x, numerator, denominator).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), x)[0]
    assert_close(second, (-2 * a * abs(b) / (1 + abs(b) * x) ** 3).detach())


def test_a_tensor_subclass_keeps_its_type() -> None:
    class Labelled(Tensor):
        pass

    x = torch.randn(2, 4).as_subclass(Labelled)
    numerator, denominator = torch.randn(2, 6), torch.randn(2, 4)
    y = group_rational(x, numerator, denominator)
    assert type(y) is Labelled
    assert_close(y.as_subclass(Tensor), group_rational(x.as_subclass(Tensor), numerator, denominator))


# Types


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_input_can_be_rounded_to_half_precision_at_once(dtype: torch.dtype) -> None:
    numerator, denominator = torch.randn(2, 6), torch.randn(2, 4)
    x, weight = torch.randn(50, 4), torch.randn(50, 4).to(dtype)
    leaves = [tensor.clone().requires_grad_() for tensor in (x, numerator, denominator)]
    given = group_rational(*leaves, dtype=dtype)
    wide = [tensor.clone().requires_grad_() for tensor in (x, numerator, denominator)]
    expected = group_rational(*wide).to(dtype)
    assert given.dtype == dtype
    assert_close(given, expected, rtol=0, atol=0)
    assert_close(torch.autograd.grad(given, leaves, weight), torch.autograd.grad(expected, wide, weight))


def test_tensors_on_two_devices_are_refused_in_one_sentence() -> None:
    with pytest.raises(Exception, match="x is on meta, the numerator on cpu; move one of them"):
        group_rational(torch.empty(2, 4, device="meta"), torch.randn(2, 6), torch.randn(2, 4))


# Threads and determinism


def test_deterministic_algorithms_are_what_runs_anyway() -> None:
    x, coefficients = torch.randn(300, 96), (torch.randn(1, 6), torch.randn(8, 4))
    expected = derivatives(lambda *t: group_rational(*t).sum(), (x, *coefficients), 1)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            given = derivatives(lambda *t: group_rational(*t).sum(), (x, *coefficients), 1)
            assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_threads_that_train_side_by_side_as_data_parallel_ones_do_get_their_own_gradients() -> None:
    layers = [GroupRational(96) for _ in range(4)]
    batches = [torch.randn(500, 96) for _ in layers]

    def gradient(layer: GroupRational, x: Tensor) -> Tensor:
        return torch.autograd.grad(layer(x).square().sum(), layer.weight_denominator)[0]

    expected = [gradient(layer, x) for layer, x in zip(layers, batches, strict=True)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            given = list(pool.map(gradient, layers, batches))
            assert all(torch.equal(one, other) for one, other in zip(given, expected, strict=True))
