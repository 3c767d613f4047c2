"""Weights and outputs that were stored once: a model file of today computes the same tomorrow.

The file holds, for each case, the options, the state dict, an input, the output and the gradient of the sum of its
squares with respect to the input, all in float64.
"""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from katops.models import build_model

CASES = ("v_cycle", "w_cycle_with_growth", "mixed_sides_with_bias_function", "three_axes")


@pytest.mark.parametrize("case", CASES)
def test_stored_weights_give_the_stored_output_and_gradient(case, repository):
    path = repository / "tests/golden/mgno_v1.safetensors"
    with safe_open(path, "pt") as file:
        options = json.loads(file.metadata()["options"])[case]
    tensors = {key.removeprefix(f"{case}."): value for key, value in load_file(path).items() if key.startswith(case)}
    model = build_model("mgno", **options).double()
    model.load_state_dict({k.removeprefix("state."): v for k, v in tensors.items() if k.startswith("state.")})
    x = tensors["input"].requires_grad_()
    y = model(x)
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(y, tensors["output"], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(gradient, tensors["gradient"], rtol=1e-9, atol=1e-11)
