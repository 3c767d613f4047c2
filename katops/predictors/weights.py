"""Weights that the options of a classifier name by file, read here: not every version of timm reads them safely."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, get_pretrained_cfg, load_checkpoint
from torch import nn

from katops.errors import UserError
from katops.models.published import read_weights

_ARRAYS = (".npz", ".npy")
"""Published JAX weights, which timm's models read with numpy; numpy unpickles nothing unless told to."""


def with_file_read(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for ``timm.create_model`` with the tensors in the place of the file that ``pretrained: true`` would load.

    Args:
        name: the model.
        options: ``pretrained_cfg_overlay`` and ``pretrained_cfg`` may name a ``file``.

    Raises:
        UserError: there is no such file, or it is damaged or holds more than tensors.
    """
    overlay, stated = _entries(options.get("pretrained_cfg_overlay")), _entries(options.get("pretrained_cfg"))
    named = {**stated, **overlay}
    if not options.get("pretrained") or not named.get("file"):
        return dict(options)
    key = "pretrained_cfg_overlay" if overlay.get("file") else "pretrained_cfg"
    path = _existing(named["file"], f"{key}.file")
    published = None if stated else get_pretrained_cfg(name)
    reads_arrays = named.get("custom_load", getattr(published, "custom_load", False))
    if reads_arrays and path.suffix in _ARRAYS and not named.get("source"):
        return dict(options)
    # A source such as "local-dir" would win over the tensors.
    read = {**overlay, "state_dict": read_weights(path, name)[0], "source": None}
    return {**options, "pretrained_cfg_overlay": read}


def _entries(configuration: Any) -> dict[str, Any]:
    """What a configuration of timm says; a string names a published one, which names no file here."""
    if isinstance(configuration, PretrainedCfg):
        return configuration.to_dict()
    return dict(configuration) if isinstance(configuration, Mapping) else {}


def forget_weights(model: nn.Module) -> None:
    """Drop the tensors that timm keeps in ``pretrained_cfg``; they would be copied and pickled with the model."""
    for name in ("pretrained_cfg", "default_cfg"):
        configuration = getattr(model, name, None)
        if isinstance(configuration, Mapping) and "state_dict" in configuration:
            setattr(model, name, {key: value for key, value in configuration.items() if key != "state_dict"})


def load_weights(model: nn.Module, path: str | Path, name: str) -> None:
    """Load a checkpoint whole.

    Raises:
        UserError: there is no such file, it is damaged or holds more than tensors, or it is of another model.
    """
    path = _existing(path, "checkpoint_path")
    if path.suffix in _ARRAYS:
        load_checkpoint(model, str(path))
        return
    weights = read_weights(path, name)[0]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the weights in {path} do not fit {name} with these options: {reason}") from error


def _existing(path: str | Path, key: str) -> Path:
    if not Path(path).exists():
        raise UserError(f"{key}: there is no file {str(path)!r}")
    return Path(path)
