"""torch's fused encoder layers, which read the weights of linear1 and linear2 and compute ReLU or GELU themselves."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from katops.conversion.blocks import Block


@contextmanager
def fast_paths_off() -> Iterator[None]:
    """No fused layers inside the block, so that every activation is called."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def leave_fast_paths(model: nn.Module, blocks: list[Block]) -> None:
    """Make converted encoder layers, and the stacks that hold them, compute with their own modules for good."""
    converted = {block.module for block in blocks}
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer) and module in converted:
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder) and any(layer in converted for layer in module.layers):
            # Nested tensors, which replace padding, are an input of the fused layer only.
            module.use_nested_tensor = False
