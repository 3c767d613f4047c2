"""Options checked against signatures, and names turned into layers: models see callables and objects only.

The parameters named in :data:`SLOTS` take a layer: a registered name, a mapping ``{"name": ..., **options}`` with the
layer's own options, or a callable. Everything else is compared with the annotation of the parameter.
"""

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Any

from katops.errors import UserError, did_you_mean
from katops.registry import LAYERS

SLOTS = {
    "act_layer": "activation",
    "norm_layer": "norm",
    "mixer_norm_layer": "norm",
    "mlp_layer": "channel mixer",
    "space_mixer": "space mixer",
    "basis_layer": "basis",
    "base_act": "activation",
}
"""The options that take a layer, and the kind of layer that fits."""


def resolve_options(
    options: Mapping[str, Any], target: Callable, owner: str, reserved: Sequence[str] = ()
) -> dict[str, Any]:
    """The options with every slot resolved to a callable, ready for ``target(**options)``.

    Args:
        options: what the user gave.
        target: a class or a function; its signature is the list of allowed options, its annotations are their types.
        owner: what messages call the target, for example ``model 'mgno_tiny'``.
        reserved: arguments of the target that its caller gives.

    Raises:
        UserError: an option is unknown or has a wrong type; or a slot names no layer, or gives it wrong options.
    """
    allowed = {name: kind for name, kind in allowed_options(target).items() if name not in reserved}
    for name in options:
        if name in reserved:
            raise UserError(f"option {name!r} of {owner} is set by katops; leave it out")
        if name not in allowed:
            guess = did_you_mean(name, allowed)
            raise UserError(f"unknown option {name!r} of {owner}{guess} Allowed: {', '.join(allowed) or 'none'}.")
    resolved = {name: _resolve_slot(name, value) if name in SLOTS else value for name, value in options.items()}
    for name, value in resolved.items():
        if not _matches(value, allowed[name]):
            raise UserError(f"option {name!r} of {owner} must be {_in_words(allowed[name])}, got {options[name]!r}")
    return resolved


def allowed_options(target: Callable) -> dict[str, Any]:
    """Names and annotations of the options a class or a function takes; those without annotation take anything.

    A class whose constructor passes further options on (``**options``) takes those of its base class too.
    """
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    parameters = inspect.signature(target).parameters
    own = {
        name: hints.get(name, Any)
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    passes_on = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    inherited = allowed_options(target.__base__) if inspect.isclass(target) and passes_on else {}
    return {**inherited, **own}


def plain_options(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options as JSON values; ``None`` where one of them is a callable that no registry knows."""
    try:
        return {name: _plain(value) for name, value in options.items()}
    except LookupError:
        return None


def _resolve_slot(slot: str, value: Any) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        return value
    options = dict(value)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise UserError(f"{slot} {dict(value)!r} names no layer; write {{'name': ..., options ...}}")
    record = LAYERS[name]
    if record.kind != SLOTS[slot]:
        fitting = ", ".join(other.name for other in LAYERS if other.kind == SLOTS[slot])
        given = f"kind {record.kind!r}" if record.kind else "no kind"
        raise UserError(f"{slot} takes a layer of kind {SLOTS[slot]!r}, {name!r} has {given}; allowed: {fitting}")
    factory = record.factory
    options = resolve_options(options, factory, f"layer {name!r} in {slot}")
    return partial(factory, **options) if options else factory


def _matches(value: Any, annotation: Any) -> bool:
    """Whether a value has the annotated type; annotations this function does not know accept everything."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, argument) for argument in arguments)
    if origin is Callable or annotation is Callable:
        return callable(value)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        items = isinstance(value, Sequence) and not isinstance(value, str)
        return items and all(_matches(item, arguments[0]) for item in value)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_matches(item, arguments[1]) for item in value.values())
    if annotation is bool or annotation is type(None) or annotation is str:
        return isinstance(value, annotation)
    if annotation in (int, float):
        return isinstance(value, Integral if annotation is int else Real) and not isinstance(value, bool)
    return True


def _in_words(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_in_words(argument) for argument in arguments)
    if origin is Callable or annotation is Callable:
        return "the name of a layer or a callable"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list with entries that are {_in_words(arguments[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping of names to values that are {_in_words(arguments[1])}"
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a name", type(None): "null"}
    return words.get(annotation, str(annotation))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    if value is None or isinstance(value, (str, bool)):
        return value
    names = [record.name for record in LAYERS if record.factory is value]
    if not names:
        raise LookupError(f"{value!r} is not registered")
    return names[0]
