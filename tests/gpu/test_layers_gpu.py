"""Layers and models on a GPU: the compiler, autocast, moves between devices, training."""

import copy
import importlib.util
import shutil

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

import katops  # noqa: F401 - registers the models with timm
from katops.layers.group_rational import GroupRational, GroupRationalKAN

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="needs CuPy"),
    pytest.mark.usefixtures("kernels_run"),
]


def training(model: nn.Module, batches: Tensor) -> list[float]:
    """The losses of a step per batch."""
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for batch in batches:
        optimiser.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="torch.compile needs a C compiler")
@pytest.mark.filterwarnings("error::katops.ops.dispatch.BackendWarning")
@pytest.mark.filterwarnings("ignore")  # of the compiler, about its own parts
def test_training_compiled_with_reduce_overhead_is_captured_and_the_same() -> None:
    model = nn.Sequential(nn.Linear(48, 64), GroupRational(64), nn.Linear(64, 8)).cuda()
    twin = copy.deepcopy(model)
    torch.compiler.reset()
    counters.clear()
    compiled = torch.compile(twin, mode="reduce-overhead", fullgraph=True)
    batches = torch.randn(8, 512, 48, device="cuda")
    assert_close(training(compiled, batches), training(model, batches), rtol=1e-4, atol=1e-6)
    assert_close(list(twin.parameters()), list(model.parameters()), rtol=1e-3, atol=1e-5)
    assert counters["inductor"]["cudagraph_skips"] == 0


def test_under_autocast_nothing_but_the_kernels_touches_the_activations() -> None:
    layer = GroupRationalKAN(64).cuda()
    x = torch.randn(16, 100, 64, device="cuda", requires_grad=True)
    gradient = torch.randn_like(x).bfloat16()
    wanted = (x, *layer.parameters())

    def step() -> tuple[Tensor, tuple[Tensor, ...]]:
        with torch.autocast("cuda", torch.bfloat16):
            y = layer(x)
        return y, torch.autograd.grad(y, wanted, gradient)

    step()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], record_shapes=True) as profiler:
        y, gradients = step()
        torch.cuda.synchronize()
    assert y.dtype == torch.bfloat16
    assert {one.dtype for one in gradients} == {torch.float32}
    casts = [event.input_shapes[0] for event in profiler.events() if event.name == "aten::_to_copy"]
    # of weights and their gradients, which are smaller than any activation
    assert casts
    assert [shape for shape in casts if torch.Size(shape).numel() >= x.numel()] == []
    kernels = [event.name for event in profiler.events() if event.device_type == DeviceType.CUDA]
    assert [kernels.count(name) for name in ("rational_forward", "rational_backward")] == [2, 2]


def test_a_model_goes_to_the_gpu_and_back() -> None:
    layer, x = GroupRationalKAN(48), torch.randn(4, 10, 48)
    weights = {name: tensor.clone() for name, tensor in layer.state_dict().items()}

    def step(device: str) -> list[Tensor]:
        y = layer.to(device)(x.to(device))
        return [tensor.cpu() for tensor in (y.detach(), *torch.autograd.grad(y.square().sum(), layer.parameters()))]

    before = step("cpu")
    assert_close(step("cuda"), before, rtol=1e-4, atol=1e-4)
    assert_close(step("cpu"), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_data_parallel_gives_the_gradients_of_one_device() -> None:
    layer = GroupRationalKAN(48).cuda(0)
    x = torch.randn(6, 10, 48, device="cuda:0")

    def step(model: nn.Module) -> list[Tensor]:
        y = model(x)
        return [y.detach(), *torch.autograd.grad(y.square().sum(), layer.parameters())]

    assert_close(step(nn.DataParallel(layer, [0, 1])), step(layer), rtol=1e-4, atol=1e-4)


def test_kat_tiny_learns_a_batch_in_bfloat16() -> None:
    model = timm.create_model("kat_tiny", num_classes=4).cuda().train()
    images, labels = torch.randn(4, 3, 224, 224, device="cuda"), torch.arange(4, device="cuda")
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        assert [name for name, tensor in model.named_parameters() if not tensor.grad.isfinite().all()] == []
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
