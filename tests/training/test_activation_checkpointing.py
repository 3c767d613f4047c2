"""Activations that are computed again."""

from typing import Any

import pytest
import torch
from torch import nn

from katops.config import Optimisation
from katops.errors import UserError
from katops.models.build import build_model
from katops.training.memory import set_activation_checkpointing

ON = Optimisation(activation_checkpointing=True)


def gradients(model: nn.Module, x: torch.Tensor, time: torch.Tensor | None) -> list[torch.Tensor]:
    model.zero_grad()
    model(x, time).square().sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


@pytest.mark.parametrize(
    ("name", "options", "time"),
    [
        ("mgno", {"in_channels": 2, "out_channels": 1, "hidden_channels": 6, "n_layers": 3, "levels": 2}, None),
        ("scot", {"in_channels": 2, "out_channels": 2, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 2]}, 0.5),
    ],
)
def test_gradients_are_the_same_and_less_is_kept(name: str, options: dict[str, Any], time: float | None) -> None:
    model = build_model(name, **options)
    x = torch.randn(2, 2, 16, 16)
    lead = None if time is None else torch.full((2,), time)
    expected, kept = gradients(model, x, lead), kept_values(model, x, lead)
    set_activation_checkpointing(model, ON, name)
    for ours, theirs in zip(gradients(model, x, lead), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert kept_values(model, x, lead) < kept / 2


def kept_values(model: nn.Module, x: torch.Tensor, time: torch.Tensor | None) -> int:
    """Values that autograd keeps between the passes."""
    count = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(x, time)
    return count


def test_models_without_blocks_are_refused() -> None:
    with pytest.raises(UserError, match="'linear' cannot do it"):
        set_activation_checkpointing(nn.Linear(2, 2), ON, "linear")
