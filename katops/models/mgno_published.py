"""Weights of the published MgNO code (models MgNO_DC, MgNO_DC_smooth and MgNO_NS) in the MgNO of this library.

The published layers are V-cycles of the same structure. What differs is named here once: the keys, prolongation kernels
that follow the parity of the finer grid and see zeros beyond every boundary, LayerNorms that fix the grid, and in
MgNO_NS no pointwise term and an output that is added to the input.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError, did_you_mean
from katops.models.build import build_model
from katops.models.published import read_weights

_BOUNDARIES = {"zeros": "dirichlet", "circular": "periodic", "replicate": "neumann"}
_MODELS = ("MgNO_DC", "MgNO_DC_smooth", "MgNO_NS")
_CYCLE = re.compile(r"conv_list\.(\d+)\.(.+)")
_CYCLE_KEYS = (
    (re.compile(r"RTlayers\.(\d+)\.weight"), lambda level: f"prolong.{level}.weight"),
    (re.compile(r"norm_layer_list\.(\d+)\.(weight|bias)"), lambda level, kind: f"norm.{level}.{kind}"),
    (re.compile(r"post_smooth_layer(\d+)\.(\d+)\.(.+)"), lambda level, step, rest: f"post.{level}.{step}.{rest}"),
    (re.compile(r"layer0\.0\.S\.(weight|bias)"), lambda kind: f"first.{kind}"),
    (re.compile(r"layer(\d+)\.0\.R\.weight"), lambda level: f"restrict_f.{int(level) - 1}.weight"),
    (re.compile(r"layer(\d+)\.0\.A\.weight"), lambda level: f"residual.{int(level) - 1}.weight"),
    (re.compile(r"layer(\d+)\.0\.A\.bias"), lambda level: f"residual.{int(level) - 1}.bias"),
    (re.compile(r"layer(\d+)\.0\.Pi\.weight"), lambda level: f"restrict_u.{int(level) - 1}.weight"),
    (re.compile(r"layer(\d+)\.(\d+)\.([AS]\..+)"), lambda level, step, rest: f"pre.{level}.{int(step) - 1}.{rest}"),
)


def load_published(
    source: str | Path | Mapping[str, Tensor], config: Mapping[str, Any] | None = None, **changes: Any
) -> nn.Module:
    """Build an MgNO in the published layout and load published weights into it.

    Args:
        source: a state dict in the published key layout, a ``.safetensors``, ``.pt`` or ``.pth`` file with one, or a
            folder with one such file. Pickled files are read with ``weights_only=True`` only.
        config: the published arguments: ``model``, ``num_layer``, ``num_channel_u``, ``num_channel_f``,
            ``num_iteration``, ``activation``, ``padding_mode``, ... Without it, it is read from ``config.json`` in the
            folder, or from the entry ``config`` (JSON) of the metadata of a ``.safetensors`` file.
        changes: options of :class:`katops.models.MgNO` that replace what the configuration says.

    Raises:
        UserError: the source or its configuration is missing, the weights do not fit the configuration, or a
            normaliser is among them.
    """
    state, found = read_weights(source, "MgNO")
    if any(key.startswith("normalizer.") for key in state):
        raise UserError(
            "the published weights bring the normaliser of their outputs along; drop the entries normalizer.mean and "
            "normalizer.std and decode the outputs yourself: mean + (std + 1e-5) * output"
        )
    config = config or found
    if config is None:
        raise UserError(
            "published MgNO weights come without their configuration; give config={'model': 'MgNO_DC', ...}"
        )
    model = build_model("mgno", **{**_options(config, state), **changes})
    _load(model, {_our_key(key): value for key, value in state.items()})
    return model


def _options(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The published arguments in the words of this library; what they leave open is read off the weights."""
    name = config.get("model")
    if name not in _MODELS:
        raise UserError(
            f"unknown published model {name!r}{did_you_mean(str(name), _MODELS)} Allowed: {', '.join(_MODELS)}."
        )
    missing = {"num_layer", "num_channel_u", "num_iteration"} - set(config)
    if missing:
        raise UserError(f"the configuration of {name} lacks {', '.join(sorted(missing))}")
    navier_stokes = name == "MgNO_NS"
    # The published code hands every other net its padding_mode; this one is circular whatever the argument says.
    padding = "circular" if navier_stokes else config.get("padding_mode", "zeros")
    if padding not in _BOUNDARIES:
        raise UserError(f"padding_mode {padding!r} is not supported; allowed: {', '.join(_BOUNDARIES)}")
    levels = range(len(config["num_iteration"]) - 1)
    widths = [_entry(state, f"conv_list.0.RTlayers.{level}.weight").shape[-1] for level in levels]
    norm = state.get("conv_list.0.norm_layer_list.0.weight")
    return {
        "in_channels": config.get("num_channel_f", 1),
        "out_channels": _entry(state, "last_layer.weight" if navier_stokes else "linear.weight").shape[0],
        "hidden_channels": config["num_channel_u"],
        "n_layers": config["num_layer"],
        "schedule": config["num_iteration"],
        "restrict_residual": bool(config.get("use_res", False)),
        "boundary": _BOUNDARIES[padding],
        "spatial_dims": 2,
        "act_layer": config.get("activation", "gelu"),
        "bias": "conv_list.0.layer0.0.S.bias" in state,
        "pointwise": not navier_stokes,
        "add_input": navier_stokes,
        "published_widths": widths,
        "published_norm_grid": None if norm is None else list(norm.shape[1:]),
    }


def _entry(state: Mapping[str, Tensor], key: str) -> Tensor:
    if key not in state:
        raise UserError(
            f"the published weights lack {key!r}; are model and num_iteration those they were trained with?"
        )
    return state[key]


def _our_key(key: str) -> str:
    """``conv_list.0.layer1.0.R.weight`` -> ``mixers.0.restrict_f.0.weight``; keys without a counterpart stay."""
    cycle = _CYCLE.fullmatch(key)
    if cycle:
        for pattern, translate in _CYCLE_KEYS:
            found = pattern.fullmatch(cycle[2])
            if found:
                return f"mixers.{cycle[1]}.{translate(*found.groups())}"
    key = re.sub(r"^linear_list\.", "pointwise.", key)
    return re.sub(r"^(linear|last_layer)\.", "projection.", key)


def _load(model: nn.Module, state: dict[str, Tensor]) -> None:
    own = model.state_dict()
    # The published projection has no bias; a zero bias is the same function.
    state.setdefault("projection.bias", torch.zeros_like(own["projection.bias"]))
    wrong = sorted(set(own) ^ set(state))
    if wrong:
        raise UserError(
            f"the published weights do not fit the configuration: {len(wrong)} entries have no counterpart, "
            f"beginning with {wrong[0]!r}"
        )
    for key, value in state.items():
        # Published pointwise maps are 1 x 1 convolutions, ours are matrices.
        matrix = value.flatten(1) if value.ndim == 4 and own[key].ndim == 2 else value
        if matrix.shape != own[key].shape:
            raise UserError(
                f"the published weights do not fit the configuration: {key!r} has shape {tuple(value.shape)} "
                f"where {tuple(own[key].shape)} is expected"
            )
        state[key] = matrix
    model.load_state_dict(state)
