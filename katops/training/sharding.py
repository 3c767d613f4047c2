"""Fully sharded training (FSDP2): each process keeps a part of every parameter, its gradient and the optimiser's state.

Zhao et al., "PyTorch FSDP", arXiv 2304.11277; the parts are put together for the forward and backward pass of one block
at a time.
"""

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread the parameters of a network over the processes of a mesh, in place.

    What is in lists of modules, the blocks of a transformer or the levels of a multigrid, is gathered one at a time;
    the rest of the network together. A network that is sharded stays as it is.

    Args:
        network: with the same weights in every process.
        mesh: one-dimensional.
    """
    if isinstance(network, FSDPModule):
        return
    blocks = [
        block
        for name, module in network.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for block in module
        if _can_be_gathered(block)
    ]
    # From the inside out: what holds a block gathers only what the block leaves.
    for block in reversed(blocks):
        if not isinstance(block, FSDPModule):
            fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _can_be_gathered(block: nn.Module) -> bool:
    """Whether a block has parameters, a forward pass that they can be gathered for, and parts: a single layer is too
    small to be worth the exchange."""
    has_forward = not isinstance(block, nn.ModuleList | nn.ModuleDict | nn.ParameterList)
    return has_forward and any(True for _ in block.children()) and any(True for _ in block.parameters())
