"""Less memory for more work: activations that are computed again."""

from torch import nn

from katops.config import Optimisation
from katops.errors import UserError


def set_activation_checkpointing(model: nn.Module, train: Optimisation, name: str) -> None:
    """Have a model keep the inputs of its blocks only, and compute the rest again in the backward pass.

    Chen et al., arXiv 1604.06174: the memory of one block's activations instead of that of all, for a second forward
    pass.

    Raises:
        UserError: the configuration asks for it and the model has no such blocks.
    """
    if not train.activation_checkpointing:
        return
    refusal = f"train.activation_checkpointing is true, but the model {name!r} cannot do it; drop it"
    if not hasattr(model, "set_grad_checkpointing"):
        raise UserError(refusal)
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, NotImplementedError) as error:  # timm's way to say so
        raise UserError(refusal) from error
