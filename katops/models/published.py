"""Reading weights that other projects published: tensors and JSON only, nothing is ever unpickled."""

import argparse
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models import PretrainedCfg, get_pretrained_cfg, load_state_dict_from_hf
from torch import Tensor, nn

from katops.errors import UserError

_FILES = ("*.safetensors", "*.pth", "*.pt", "*.bin")
_PICKLED = (".pt", ".pth", ".bin")
_SUFFIXES = (".safetensors", *_PICKLED)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
"""Where training scripts put the weights inside a checkpoint; averaged weights first, as timm does."""
ARRAYS = (".npz", ".npy")
"""Published JAX weights, which timm's models read with numpy; numpy unpickles nothing unless told to."""


def read_weights(
    source: str | Path | Mapping[str, Any], family: str
) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The state dict, and its configuration where one lies beside it (``config.json``) or inside it (metadata).

    Args:
        source: a state dict, a ``.safetensors``, ``.pth``, ``.pt`` or ``.bin`` file, a folder with one such file, or
            the id of a repository on the Hugging Face hub.
        family: what messages call the weights ("MgNO").

    Raises:
        UserError: there is no such source, several files compete, or a file holds more than tensors or is damaged.
    """
    if isinstance(source, Mapping):
        return _unwrapped(source), None
    path, config = Path(source), None
    if path.is_dir():
        files = [file for pattern in _FILES for file in sorted(path.glob(pattern))]
        if len(files) != 1:
            raise UserError(
                f"folder {path} holds {len(files)} weight files ({', '.join(_FILES)}); exactly one is expected"
            )
        if (path / "config.json").is_file():
            config = read_configuration(path / "config.json")
        path = files[0]
    if not path.is_file():
        if is_hub_id(source):
            return _from_hub(str(source), family), None
        raise UserError(f"there is no file or folder {path} with published {family} weights")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, config)
    if path.suffix not in _PICKLED:
        raise UserError(f"{path} is neither a .safetensors nor a {' or '.join(_PICKLED)} file")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # the arguments that timm's checkpoints hold
            return _unwrapped(torch.load(path, map_location="cpu", weights_only=True)), config
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and pickled code is never run; save the state dict alone"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged or no weight file: {' '.join(str(error).split())}") from error


def read_configuration(path: Path) -> dict[str, Any]:
    """A ``config.json``.

    Raises:
        UserError: it is no JSON, or no object in JSON.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}; fetch it again") from error
    if not isinstance(config, dict):
        raise UserError(f'{path} holds a {type(config).__name__}; expected an object, {{"embed_dim": ..., ...}}')
    return config


def is_hub_id(source: str | Path) -> bool:
    """Whether it may be ``owner/name`` on the Hugging Face hub, and is no path of a weight file."""
    return bool(_HUB_ID.fullmatch(str(source))) and Path(source).suffix not in _SUFFIXES


def _read_safetensors(path: Path, config: dict[str, Any] | None) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        if config is None and "config" in metadata:
            config = json.loads(metadata["config"])
        return load_file(path), config
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or no .safetensors file: {error}") from error


def _from_hub(repository: str, family: str) -> dict[str, Tensor]:
    try:
        return dict(load_state_dict_from_hf(repository, weights_only=True))
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repository!r} is neither a file here nor a repository with {family} weights on the hub: {reason}"
        ) from error


def _unwrapped(checkpoint: Any) -> dict[str, Tensor]:
    """The state dict inside a checkpoint, without the prefix of data-parallel training."""
    for key in _WRAPPERS:
        if isinstance(checkpoint, Mapping) and isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    if not isinstance(checkpoint, Mapping) or not all(isinstance(value, Tensor) for value in checkpoint.values()):
        raise UserError("the checkpoint holds no state dict (a mapping from names to tensors)")
    return {str(key).removeprefix("module."): value for key, value in checkpoint.items()}


def existing_file(path: str | Path, key: str) -> Path:
    """The path.

    Raises:
        UserError: there is nothing at it.
    """
    if not Path(path).exists():
        raise UserError(f"{key}: there is no file {str(path)!r}")
    return Path(path)


def with_file_read(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options for timm with the tensors in the place of a file: not every version of timm reads one safely.

    The head of the file counts as one of the file's number of classes; timm takes it for one of the published number
    and silently leaves it out where the model has another.

    Args:
        name: the model.
        options: ``pretrained_cfg_overlay`` and ``pretrained_cfg`` may name a ``file``.

    Raises:
        UserError: there is no such file, or it is damaged or holds more than tensors.
    """
    overlay, stated = _entries(options.get("pretrained_cfg_overlay")), _entries(options.get("pretrained_cfg"))
    named = {**stated, **overlay}
    if not named.get("file"):
        return dict(options)
    key = "pretrained_cfg_overlay" if overlay.get("file") else "pretrained_cfg"
    path = existing_file(named["file"], f"{key}.file")
    published = None if stated else get_pretrained_cfg(name)
    reads_arrays = named.get("custom_load", getattr(published, "custom_load", False))
    if reads_arrays and path.suffix in ARRAYS and not named.get("source"):
        return dict(options)
    # A source such as "local-dir" would win over the tensors.
    state = read_weights(path, name)[0]
    head = state.get(f"{named.get('classifier') or getattr(published, 'classifier', '')}.weight")
    classes = {} if head is None else {"num_classes": len(head)}
    return {**options, "pretrained_cfg_overlay": {**classes, **overlay, "state_dict": state, "source": None}}


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
