"""Published scOT weights: the reference's outputs and gradients, sizes and keys, and what is refused."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from katops.models import create_model
from katops.models.scot import from_published

CASES = ("conditioned", "residual_resample", "unconditioned_resnet")
SIZES = {
    "poseidon_tiny": (20_774_444, 844),
    "poseidon_base": (157_729_988, 1580),
    "poseidon_large": (628_575_524, 1580),
    "scot_tiny": (20_774_444, 844),
    "scot_small": (39_901_076, 1580),
    "scot_base": (157_729_988, 1580),
    "scot_large": (628_575_524, 1580),
}


@pytest.fixture
def golden(shared):
    def load(case):
        path = shared / "golden" / f"scot_{case}.safetensors"
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
        tensors = load_file(path)
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        return tensors, state, config

    return load


def output_and_gradient(model, tensors, dtype):
    x = tensors["input"].to(dtype).requires_grad_()
    output = model.to(dtype)(x, tensors["time"].to(dtype))
    (gradient,) = torch.autograd.grad((output * tensors["grad_weight"]).sum(), x)
    return output, gradient


@pytest.mark.parametrize("case", CASES)
def test_published_weights_give_the_reference_output_and_input_gradient(golden, case):
    tensors, state, config = golden(case)
    output, gradient = output_and_gradient(from_published(state, config).eval(), tensors, torch.float32)
    torch.testing.assert_close(output, tensors["output"], rtol=1e-4, atol=2e-5)
    assert (gradient - tensors["grad_input"]).norm() < 1e-4 * tensors["grad_input"].norm()


@pytest.mark.parametrize("case", CASES)
def test_in_double_precision_they_agree_to_the_rounding_of_the_file(golden, case):
    tensors, state, config = golden(case)
    output, gradient = output_and_gradient(from_published(state, config).eval(), tensors, torch.float64)
    assert (output - tensors["output"]).norm() < 1e-7 * tensors["output"].norm()
    assert (gradient - tensors["grad_input"]).norm() < 2e-6 * tensors["grad_input"].norm()


@pytest.mark.parametrize("name", SIZES)
def test_full_size_has_the_published_numbers_of_parameters_and_tensors(name):
    with torch.device("meta"):
        model = create_model(name, in_channels=4, out_channels=4)
    assert (sum(parameter.numel() for parameter in model.parameters()), len(model.state_dict())) == SIZES[name]
