"""Checkpoints that the options of a classifier name by path."""

from pathlib import Path

from timm.models import load_checkpoint
from torch import nn

from katops.errors import UserError
from katops.models.published import ARRAYS, existing_file, read_weights


def load_weights(model: nn.Module, path: str | Path, name: str) -> None:
    """Load a checkpoint whole.

    Raises:
        UserError: there is no such file, it is damaged or holds more than tensors, or it is of another model.
    """
    path = existing_file(path, "checkpoint_path")
    if path.suffix in ARRAYS:
        load_checkpoint(model, str(path))
        return
    weights = read_weights(path, name)[0]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the weights in {path} do not fit {name} with these options: {reason}") from error
