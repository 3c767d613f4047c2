"""How a converted model is built again."""

from collections.abc import Iterable, Mapping
from typing import Any

from katops.conversion.selection import Patterns, as_list
from katops.registry import MODELS


def converted_recipe(
    recipe: Mapping[str, Any] | None, groups: int, include: Patterns, exclude: Patterns, bypassed: Iterable[str]
) -> dict[str, Any] | None:
    """The recipe of a model with the arguments of its conversion under ``convert``.

    Args:
        recipe: ``{"name": ..., "arguments": ...}`` of the model as it was, None where it has none.
        groups, include, exclude: as given to :func:`katops.convert`.
        bypassed: blocks that a forward pass has shown to be no use; they are excluded, since whoever builds the model
            again may have no input to see it.

    Returns:
        None where nothing could build the model from it: there was no recipe, the model was converted before, or it is
        an operator, whose model files know of no conversion.
    """
    if recipe is None or "convert" in recipe:
        return None
    if recipe["name"] in MODELS and MODELS[recipe["name"]].kind != "image":
        return None
    excluded = [*as_list(exclude), *bypassed]
    conversion = {"groups": groups, "include": None if include is None else as_list(include), "exclude": excluded}
    return {**recipe, "convert": conversion}
