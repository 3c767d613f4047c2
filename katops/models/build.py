"""From a name and options to a module: the edge at which strings stop.

A model is registered once, with timm and with :data:`katops.registry.MODELS`, by :func:`register_net`. Whoever
builds it, by ``timm.create_model`` or by :func:`build_model`, gets the same checks and a model with a ``recipe``.
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from timm.models import load_checkpoint, register_model
from torch import nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, FieldMeta, normalise_boundary
from katops.layers.boundary import Sides
from katops.models.options import allowed_options, plain_options, resolve_options
from katops.registry import LAYERS, MODELS


def register_net(
    *,
    summary: str,
    paper: str = "",
    kind: str = "operator",
    hub_id: str = "",
    load: Callable[[nn.Module, str | Path, str | Path | None], None] | None = None,
) -> Callable[[Callable], Callable]:
    """Decorator for the entry function of a model of fields or tables, ``def mgno_tiny(**options) -> MgNO``.

    The function is registered under its name with timm and with katops. Its return annotation names the class whose
    signature lists the allowed options; the function itself only adds the numbers that belong to its size. The built
    model carries ``recipe = {"name": ..., "arguments": {...}}`` in plain JSON values, from which :func:`build_model`
    builds it again, or ``None`` where an option is a callable that is not registered.

    Args:
        summary: one line for ``katops models``.
        paper: where the architecture was published.
        kind: what it works on, "operator" (fields) or "table".
        hub_id: repository on the Hugging Face hub with the weights that ``pretrained=True`` loads.
        load: puts weights into a model, called with the model, a folder, a file or a hub id, and where downloads are
            kept; by default timm's, which takes files.
    """

    def decorate(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
        model_class = typing.get_type_hints(entry)["return"]
        name = entry.__name__

        @wraps(entry)
        def build(
            pretrained: bool = False,
            pretrained_cfg: Any = None,
            pretrained_cfg_overlay: Mapping[str, Any] | None = None,
            cache_dir: str | Path | None = None,
            **options: Any,
        ) -> nn.Module:
            if "in_chans" in options:  # timm's name for the same thing
                _same(options, "in_chans", "in_channels", name)
                options["in_channels"] = options.pop("in_chans")
            overlay = pretrained_cfg_overlay or {}
            weights = overlay.get("file") or overlay.get("hf_hub_id") or hub_id
            if pretrained_cfg is not None or (pretrained and not weights):
                raise UserError(
                    f"model {name!r} has no published weights; build it with pretrained=False and load a checkpoint of "
                    "your own with checkpoint_path=..."
                )
            model = entry(**resolve_options(options, model_class, f"model {name!r}"))
            arguments = plain_options(options)
            model.recipe = None if arguments is None else {"name": name, "arguments": arguments}
            if pretrained and load is not None:
                load(model, weights, cache_dir)
            elif pretrained:
                load_checkpoint(model, weights, weights_only=True)
            return model

        build.__signature__ = inspect.signature(model_class)
        MODELS.register(name, summary=summary, paper=paper, kind=kind)(build)
        return register_model(build)

    return decorate


def _same(options: Mapping[str, Any], one: str, other: str, name: str) -> None:
    """Two names of the same option must not say different things."""
    if options.get(other, options[one]) != options[one]:
        raise UserError(f"model {name!r}: {one} is {options[one]}, but {other} is {options[other]}; give one of them")


def build_model(
    name: str, *, meta: FieldMeta | None = None, space: Sequence[int] | None = None, **options: Any
) -> nn.Module:
    """Build a registered model.

    Args:
        name: a name from :func:`list_models`.
        meta: description of the data; ``in_channels``, ``out_channels`` and ``boundary`` are taken from it.
        space: lengths of the axes of the data; the option ``grid`` of models that have one, where it is not given.
        options: options of the model. Layers (``act_layer``, ``norm_layer``, ``mlp_layer``, ``space_mixer``) are given
            by name, as ``{"name": ..., **options}`` or as callables.

    Raises:
        UserError: the name or an option is unknown, an option has a wrong type or value, or contradicts ``meta``.
    """
    factory = MODELS[name].factory
    if meta is not None and MODELS[name].kind == "table":
        raise UserError(f"model {name!r} works on tables, not on the fields of {meta.name!r}; choose one for fields")
    if meta is not None:
        options = {**options, **_options_from_meta(meta, options, allowed_options(factory), name)}
    if space is not None and "grid" in allowed_options(factory):
        options = {"grid": list(space), **options}
    return factory(**options)


def create_layer(name: str, **options: Any) -> nn.Module:
    """Build a registered layer, for example ``create_layer("group_norm", channels=32, groups=4)``.

    Raises:
        UserError: the name or an option is unknown, an option is missing, or has a wrong type or value.
    """
    factory = LAYERS[name].factory
    resolved = resolve_options(options, factory, f"layer {name!r}")
    parameters = inspect.signature(factory).parameters.values()
    missing = [p.name for p in parameters if p.default is p.empty and p.name in allowed_options(factory)]
    missing = [option for option in missing if option not in options]
    if missing:
        raise UserError(
            f"layer {name!r} needs {', '.join(missing)}; give create_layer({name!r}, {missing[0]}=..., ...)"
        )
    return factory(**resolved)


def list_models(pattern: str = "*") -> list[str]:
    """Names of the models of this library that match a shell pattern such as ``mgno*``."""
    return MODELS.names(pattern)


def list_layers(pattern: str = "*") -> list[str]:
    """Names of the registered layers that match a shell pattern."""
    return LAYERS.names(pattern)


def _options_from_meta(
    meta: FieldMeta, options: Mapping[str, Any], allowed: Mapping[str, Any], name: str
) -> dict[str, Any]:
    described = {"in_channels": meta.in_channels, "out_channels": meta.out_channels, "boundary": meta.stencil_boundary}
    described = {key: value for key, value in described.items() if key in allowed}
    for key, value in described.items():
        given = options.get(key)
        if given is None:
            continue
        if key == "boundary" and _completes(_stated_boundary(given, meta), meta.boundary):
            described[key] = _stated_boundary(given, meta)
        elif key == "boundary" or given != value:
            said = meta.boundary if key == "boundary" else value
            raise UserError(
                f"option {key!r} of model {name!r} is {given!r}, but the data {meta.name!r} say {said!r}; drop it"
            )
    return described


def _stated_boundary(given: Boundary, meta: FieldMeta) -> Sides:
    return normalise_boundary(given, len(meta.axes), names=[axis.name for axis in meta.axes])


def _completes(given: tuple, said: tuple) -> bool:
    """Whether a stated boundary only adds what the data leave open (walls, open ends, cut-outs)."""
    pairs = zip((side for axis in given for side in axis), (side for axis in said for side in axis), strict=True)
    return all(one == other or other not in STENCIL_BOUNDARIES for one, other in pairs)
