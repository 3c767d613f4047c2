"""A scOT written in the layout of the published checkpoints: ``config.json`` beside ``model.safetensors``."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from katops.errors import UserError
from katops.files import atomic_path, write_text
from katops.layers.convnext_block import ConvNeXtBlock
from katops.layers.resnet_block import ResNetBlock
from katops.layers.time_norm import TimeLayerNorm
from katops.models.scot_published import CONFIGURATION, FIELDS, WEIGHTS


def write_published(
    model: nn.Module, folder: str | Path, image_size: int | None = None, config: Mapping[str, Any] | None = None
) -> Path:
    """See :func:`katops.models.scot.to_published`."""
    entries = {**_configuration(model, image_size), **(config or {})}
    folder = Path(folder)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    write_text(folder / CONFIGURATION, json.dumps(entries, indent=2) + "\n")
    return folder


def _configuration(model: nn.Module, image_size: int | None) -> dict[str, Any]:
    """The published configuration of a model, read off its parts.

    Raises:
        UserError: the published code could not compute what the model does.
    """
    stages = model.encoder["layers"]
    block = stages[0].blocks[0]
    embedding, attention = model.embeddings.patch_embeddings, block.attention
    image_size = _square(model, image_size)
    coarsest = embedding.patch_size * 2 ** (len(stages) - 1)
    if image_size % coarsest:
        raise UserError(
            f"to_published: the published code needs an image_size that is a multiple of {coarsest} (patch_size, times "
            f"2 for each coarser stage), got {image_size}"
        )
    grids = [image_size // embedding.patch_size // 2**level for level in range(len(stages))]
    pads = any(cuts.pads for stage, n in zip(stages, grids, strict=True) for cuts in stage.windows((n, n)))
    skips = [list(blocks.children()) for blocks in model.residual_blocks]
    norms = type(block.layernorm_before).__name__
    unlike = {
        "mlp_layer or act_layer": not all(map(_has_published_mlp, _with_mlps(model))),
        "norm_layer": norms == "TokenNorm",
        "scale_by_time": model.scale_by_time,
        "wrap": any(stages[0].wrap),
        "learn_residual without time_conditioning": model.learn_residual and norms == "TokenLayerNorm",
        f"windows that reach beyond the grid of {image_size} points (padded_keys=False)": pads
        and not stages[0].padded_keys,
    }
    if any(unlike.values()):
        given = ", ".join(name for name, given in unlike.items() if given)
        raise UserError(f"to_published: published code cannot compute what this model does with {given}")
    resnet = any(isinstance(block, ResNetBlock) for blocks in skips for block in blocks)
    values = {
        "image_size": image_size,
        "patch_size": embedding.patch_size,
        "in_channels": model.in_channels,
        "out_channels": model.out_channels,
        "embed_dim": embedding.projection.out_channels,
        "depths": [len(stage.blocks) for stage in stages],
        "num_heads": [stage.blocks[0].attention.self.num_heads for stage in stages],
        "skip_connections": [len(blocks) for blocks in skips],
        "window_size": stages[0].window_size,
        "mlp_ratio": model.mlp_ratio,
        "qkv_bias": attention.self.query.bias is not None,
        "dropout": model.embeddings.dropout.p,
        "attention_dropout": attention.self.dropout,
        "drop_path_rate": model.drop_path_rate,
        "act_layer": "gelu",
        "norm_eps": block.layernorm_before.eps,
        "skip_block": "resnet" if resnet else "convnext",
        "time_conditioning": isinstance(block.layernorm_before, TimeLayerNorm),
        "learn_residual": model.learn_residual,
    }  # fmt: skip
    return {"model_type": "swinv2", **{published: values[ours] for published, ours, _ in FIELDS}}


def _with_mlps(model: nn.Module) -> Iterator[nn.Module]:
    """Transformer layers and ConvNeXt blocks."""
    for stage in (*model.encoder["layers"], *model.decoder["layers"]):
        yield from stage.blocks
    for blocks in model.residual_blocks:
        yield from (block for block in blocks.children() if isinstance(block, ConvNeXtBlock))


def _has_published_mlp(block: nn.Module) -> bool:
    if block.mlp is not None:
        return False
    act = block.act if isinstance(block, ConvNeXtBlock) else block.intermediate["act"]
    return type(act) is nn.GELU and act.approximate == "none"


def _square(model: nn.Module, image_size: int | None) -> int:
    """The one length of the grid that a model is meant for, as given or its own."""
    sizes = {image_size} if isinstance(image_size, int) else set(image_size or model.image_size or ())
    if len(sizes) != 1:
        raise UserError(
            "to_published: the published code works on one square grid; give image_size=..., one length; the model has "
            f"{model.image_size}" + (f", given: {image_size}" if image_size else "")
        )
    return sizes.pop()
