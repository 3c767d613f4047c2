"""Image classifiers by name: ours and every other model of timm, fitted to the classes and the size of the images."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model
from torch import Tensor, nn

from katops.conversion import convert
from katops.data.preprocessing import Preprocessing, per_channel
from katops.errors import UserError, did_you_mean
from katops.models.build import build_model
from katops.models.published import forget_weights, with_file_read
from katops.predictors.weights import load_weights
from katops.registry import MODELS

COLOUR = (3, 224, 224)

_CONVERSION = ("groups", "include", "exclude")
# Where weights come from; they are in the model file afterwards, so no recipe names them.
_WEIGHTS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


def build_classifier(
    name: str,
    options: Mapping[str, Any],
    classes: int,
    size: tuple[int, int, int],
    sample: Tensor | None = None,
) -> nn.Module:
    """A classifier for images of ``size`` with one logit per class, tried on two images.

    The model carries ``recipe = {"name": ..., "arguments": {...}}``, from which :func:`rebuild_classifier` builds it
    again.

    Args:
        name: a model of this library or of timm.
        options: its options; ``pretrained: true`` and ``checkpoint_path`` load weights, never a pickle's code;
            ``convert: true``, or the options of :func:`katops.convert`, then makes it a KAT.
        classes: their number.
        size: channels, height and width of the images.
        sample: preprocessed images (B, C, H, W) that a conversion is fitted to and compared on; any trained model
            needs them to stay close to its function.

    Raises:
        UserError: the name or an option does not exist or contradicts the data, the model does not take such images, or
            the weights are missing, unsafe or do not fit.
    """
    _check_name(name)
    options = dict(options)
    checkpoint, conversion = options.pop("checkpoint_path", None), options.pop("convert", False)
    described = _described(name, classes, size)
    for key, value in described.items():
        if _as_pair(key, options.get(key, value)) != value:
            raise UserError(f"model: option {key!r} of {name!r} is {options[key]!r}, the data say {value!r}; drop it")
    options |= described
    try:
        model = timm.create_model(name, **(with_file_read(name, options) if options.get("pretrained") else options))
        forget_weights(model)
        if checkpoint is not None:
            load_weights(model, checkpoint, name)
        model.recipe = getattr(model, "recipe", None) or _recipe(name, options)
        model = _converted(model, conversion, sample)
        _try(model, classes, size)
    except UserError as error:
        raise UserError(f"model: {error}") from error
    except Exception as error:  # timm's models raise whatever fits them
        reason = " ".join(str(error).split())
        raise UserError(
            f"model: {name} cannot be built with these options for images of {_spelled(size)}: {reason}"
        ) from error
    return model


def rebuild_classifier(recipe: Mapping[str, Any]) -> nn.Module:
    """The architecture of a recipe, without weights; those of a model file include the coefficients of a conversion.

    Raises:
        UserError: the installed timm has no such model.
    """
    name, arguments = recipe["name"], recipe["arguments"]
    if name in MODELS:
        model = build_model(name, **arguments)
    else:
        _check_name(name)
        model = timm.create_model(name, **arguments)
    model = _converted(model, recipe.get("convert", False))
    model.recipe = dict(recipe)
    return model


def resolve_preprocessing(
    name: str,
    options: Mapping[str, Any],
    native: tuple[int, int, int] | None,
    *,
    input_size: list[int] | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    interpolation: str | None = None,
    crop_pct: float | None = None,
) -> Preprocessing:
    """What the configuration says; where it is silent, what the data set and then the model say.

    Args:
        name: the model.
        options: of the model; ``img_size`` and ``in_chans`` are heard.
        native: size of all images of the data set, if they share it; they are then not cropped.
        input_size, mean, std, interpolation, crop_pct: from the configuration.
    """
    _check_name(name)
    published = get_pretrained_cfg(name)
    size = _size(options, native, input_size, getattr(published, "input_size", None) or COLOUR)
    keeps_all = native is not None and native[1:] == size[1:]
    return Preprocessing(
        input_size=size,
        mean=per_channel(mean or getattr(published, "mean", None) or [0.5], size[0]),
        std=per_channel(std or getattr(published, "std", None) or [0.5], size[0]),
        interpolation=interpolation or getattr(published, "interpolation", None) or "bicubic",
        crop_pct=crop_pct or (1.0 if keeps_all else getattr(published, "crop_pct", None) or 0.875),
    )


def _size(
    options: Mapping[str, Any],
    native: tuple[int, int, int] | None,
    input_size: list[int] | None,
    published: tuple[int, int, int],
) -> tuple[int, int, int]:
    if input_size is not None:
        return tuple(input_size)
    channels, *space = native or published
    if "img_size" in options:
        space = _as_pair("img_size", options["img_size"])
    return (options.get("in_chans", channels), *space)


def _described(name: str, classes: int, size: tuple[int, int, int]) -> dict[str, Any]:
    """The options that the data determine; models of any size take no ``img_size``."""
    described: dict[str, Any] = {"num_classes": classes, "in_chans": size[0]}
    if getattr(get_pretrained_cfg(name), "fixed_input_size", False):
        described["img_size"] = list(size[1:])
    return described


def _recipe(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "arguments": {key: value for key, value in options.items() if key not in _WEIGHTS}}


def _converted(model: nn.Module, conversion: Mapping[str, Any] | bool, sample: Tensor | None = None) -> nn.Module:
    """The model as a KAT, if the configuration says so."""
    if not conversion:
        return model
    options = {} if conversion is True else dict(conversion)
    for option in options:
        if option not in _CONVERSION:
            hint = did_you_mean(option, _CONVERSION)
            raise UserError(f"unknown option {option!r} of convert{hint} Allowed: {', '.join(_CONVERSION)}.")
    return convert(model, **options, sample=sample, in_place=True)


def _as_pair(key: str, value: Any) -> Any:
    """``img_size`` as [height, width], other options as they are."""
    if key != "img_size":
        return value
    return [value, value] if isinstance(value, int) else list(value)


def _check_name(name: str) -> None:
    if name in MODELS and MODELS[name].kind != "image":
        raise UserError(f"model: {name!r} learns a map between fields (task: operator) and cannot classify images")
    if not is_model(name.split(".")[0]):
        known = {*MODELS.names(), *timm.list_models()}
        raise UserError(
            f"model: there is no image model {name!r}{did_you_mean(name, known)} Allowed: the models of "
            f"timm.list_models(), ours included."
        )


def _try(model: nn.Module, classes: int, size: tuple[int, int, int]) -> None:
    training = model.training
    with torch.no_grad():
        logits = model.eval()(torch.zeros(2, *size))
    model.train(training)
    if logits.shape != (2, classes):
        raise UserError(f"the model gives {tuple(logits.shape[1:])} values per image, expected {classes} logits")


def _spelled(size: tuple[int, int, int]) -> str:
    return f"{size[1]} x {size[2]} pixels and {size[0]} channel{'s' if size[0] > 1 else ''}"
