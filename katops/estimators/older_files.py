"""Arguments of estimators as older model files name them."""

from typing import Any

NETWORK = {"degree": 3, "basis": "bspline", "linear": True}
OPTIMISER = {"learning_rate": 1e-2, "patience": 30, "dtype": "auto"}


def present_arguments(stored: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a model file under their present names; those of a new file stay as they are.

    Until version 0.1 the options of the network, of the optimiser and of the penalties were arguments of their own.
    """
    arguments = dict(stored)
    if "refine" in arguments:
        grids = (arguments["intervals"], *arguments.pop("refine"))
        arguments["intervals"] = grids if len(grids) > 1 else grids[0]
    network = _taken(arguments, NETWORK)
    basis = network.get("basis")
    if isinstance(basis, dict) and basis.get("name") == "bspline":
        options = {name: value for name, value in basis.items() if name != "name"}
        arguments["intervals"] = options.pop("intervals", arguments["intervals"])
        network = {**network, **options, "basis": "bspline"}
    if network:
        arguments["network"] = network
    fit = _taken(arguments, OPTIMISER)
    if fit:
        arguments["optimiser"] = {"name": arguments["optimiser"], **fit}
    smoothness = arguments.pop("smoothness", 0.0)
    if smoothness:
        arguments["penalty"] = {"edges": arguments["penalty"], "smoothness": smoothness}
    return arguments


def _taken(arguments: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The arguments of these names, taken out; those that have their default are left out."""
    found = {name: arguments.pop(name) for name in defaults if name in arguments}
    return {name: value for name, value in found.items() if value != defaults[name]}
