"""Image models of this library as timm entry points, with options checked and weights loaded whole or not at all.

``timm.create_model`` and ``katops.models.build.build_model`` end up in :func:`create_image_model`, and everything after
the check of the options is timm's own builder: default configurations, downloads, adapted first convolutions,
``features_only``.
"""

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from safetensors import SafetensorError
from timm.models import build_model_with_cfg, register_model
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from katops.errors import UserError
from katops.models.options import plain_options, resolve_options
from katops.models.published import forget_weights, with_file_read
from katops.registry import MODELS

# What timm's builder takes beside the options of the model.
BUILDER_OPTIONS = (
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "cache_dir",
    "features_only",
    "out_indices",
    "feature_cls",
)
# Of these, what belongs to the model and not to where its weights come from.
KEPT_OPTIONS = ("features_only", "out_indices", "feature_cls")


def register_image_model(*, summary: str, paper: str = "") -> Callable:
    """Decorator for a timm entry function ``def kat_tiny(pretrained=False, **options)``.

    Args:
        summary: one line for ``katops models``.
        paper: where the architecture was published.
    """

    def decorate(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        MODELS.register(entry.__name__, summary=summary, paper=paper, kind="image")(entry)
        return register_model(entry)

    return decorate


def create_image_model(
    model_class: type[nn.Module], name: str, pretrained: bool, sizes: Mapping[str, Any], options: Mapping[str, Any]
) -> nn.Module:
    """Build a model of this library through timm.

    The model carries ``recipe = {"name": ..., "arguments": {...}}`` in plain JSON values, from which it can be built
    again, or ``None`` where an option is a callable that is not registered.

    Args:
        model_class: a subclass of timm's ``VisionTransformer``.
        name: the registered name.
        pretrained: load the published weights, or those that ``pretrained_cfg_overlay`` names.
        sizes: the numbers that belong to ``name``.
        options: what the user gave; wins over ``sizes``.

    Raises:
        UserError: an option is unknown or has a wrong type; the weights cannot be found, are unsafe, or do not fit.
    """
    builder = {key: value for key, value in options.items() if key in BUILDER_OPTIONS}
    own = {key: value for key, value in options.items() if key not in BUILDER_OPTIONS}
    resolved = resolve_options(own, model_class, f"model {name!r}")
    indices = builder.pop("out_indices", 3)
    if pretrained:
        builder = with_file_read(name, builder)
    elif (builder.get("pretrained_cfg_overlay") or {}).get("file"):
        raise UserError(f"model {name!r}: pretrained_cfg_overlay names a file, which is read with pretrained=True only")
    try:
        model = build_model_with_cfg(
            model_class,
            name,
            pretrained,
            pretrained_filter_fn=_fitting_weights,
            feature_cfg={"out_indices": indices, "feature_cls": "getter"},
            **builder,
            **{**sizes, **resolved},
        )
    except UserError:
        raise
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        if not pretrained:
            raise
        overlay = builder.get("pretrained_cfg_overlay") or {}
        source = overlay.get("file") or overlay.get("hf_hub_id") or "the published ones"
        raise UserError(f"the pretrained weights of {name!r} ({source}) cannot be loaded: {_reason(error)}") from error
    forget_weights(model)
    arguments = plain_options({**own, **{key: options[key] for key in KEPT_OPTIONS if key in options}})
    model.recipe = None if arguments is None else {"name": name, "arguments": arguments}
    return model


def _reason(error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError) or isinstance(error.__cause__, pickle.UnpicklingError):
        return "the file holds more than tensors, and pickled code is never run; save the state dict alone"
    return " ".join(str(error).split()) or "there is no such file"


def _fitting_weights(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights resampled to the model's patches and grid; timm alone would load half of a wrong file silently.

    Raises:
        UserError: keys of the model are missing, or the file has others; the head is left to timm, which replaces it
            where the number of classes differs.
    """
    _check_positions(state.get("pos_embed"), model)
    weights = checkpoint_filter_fn(dict(state), model)
    expected = {key for key in model.state_dict() if not key.startswith("head.")}
    given = {key for key in weights if not key.startswith("head.")}
    if expected != given:
        missing, unknown = sorted(expected - given), sorted(given - expected)
        parts = [
            f"{len(keys)} {what}, beginning with {keys[0]!r}"
            for keys, what in ((missing, "weights of the model are missing"), (unknown, "have no place in it"))
            if keys
        ]
        moved = any(key.startswith("fc_norm.") for key in missing)
        hint = "; give fc_norm=False to keep the last norm where the weights have it" if moved else ""
        raise UserError(
            f"the file does not hold the weights of a {type(model).__name__} of this size: {'; '.join(parts)}{hint}"
        )
    return weights


def _check_positions(positions: Tensor | None, model: nn.Module) -> None:
    """Refuse position embeddings that cannot be resampled to the model's grid."""
    if positions is None or model.pos_embed is None or positions.shape == model.pos_embed.shape:
        return
    further = 0 if model.no_embed_class else model.num_prefix_tokens
    patches = positions.shape[1] - further
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        raise UserError(
            f"the file has {positions.shape[1]} position embeddings, which are no square image and {further} further "
            f"tokens; are class_token and reg_tokens those of the weights?"
        )
