"""Published KAT checkpoints: the options are read off the weights where no configuration comes with them."""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from katops.errors import UserError
from katops.models.published import read_weights

# Width of the attention heads of every published size.
HEAD_WIDTH = 64


def load_published(
    source: str | Path | Mapping[str, Tensor],
    config: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
    build: Callable[..., nn.Module],
) -> nn.Module:
    """See :func:`katops.models.kat.from_published`; ``build`` makes the model from its options."""
    state, found = read_weights(source, "KAT")
    config = config or _own_words(found)
    options = _sizes(state, config)
    if "act_init" in config:
        options["shape"] = f"published_{config['act_init']}"
    overlay = {"state_dict": state, "num_classes": options["num_classes"]}
    try:
        return build(pretrained=True, pretrained_cfg_overlay=overlay, **{**options, **changes})
    except UserError as error:
        given = "the state dict" if isinstance(source, Mapping) else source
        raise UserError(f"{given}: {error}") from error


def _own_words(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Sizes from a ``config.json``; timm's hub layout has them in ``model_args`` and ``num_classes`` beside it."""
    config = config or {}
    return {**config, **config.get("model_args", {})}


def _sizes(state: Mapping[str, Tensor], stated: Mapping[str, Any]) -> dict[str, Any]:
    """Options as stated, and where nothing is stated, read off the shapes of the weights."""
    patch, positions = _entry(state, "patch_embed.proj.weight"), _entry(state, "pos_embed")
    width, channels, patch_size = patch.shape[0], patch.shape[1], patch.shape[2]
    blocks = [int(match[1]) for key in state if (match := re.match(r"blocks\.(\d+)\.", key))]
    classes = state.get("head.weight")
    if "num_heads" not in stated and width % HEAD_WIDTH:
        raise UserError(
            f"the number of attention heads cannot be read off weights of width {width} (published: heads of "
            f"{HEAD_WIDTH}); give config={{'num_heads': ..., ...}}"
        )
    found = {
        "img_size": patch_size * math.isqrt(positions.shape[1] - 1),
        "patch_size": patch_size,
        "in_chans": channels,
        "embed_dim": width,
        "depth": max(blocks, default=-1) + 1,
        "num_heads": width // HEAD_WIDTH,
        "mlp_ratio": _entry(state, "blocks.0.mlp.fc1.weight").shape[0] / width,
        "num_classes": 0 if classes is None else classes.shape[0],
    }
    return {key: stated.get(key, value) for key, value in found.items()}


def _entry(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise UserError(f"the published weights lack {key!r}; is this a KAT?")
    return state[key]
