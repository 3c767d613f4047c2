"""The arguments of an estimator, checked, with what "auto" stands for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import torch

from katops.data.table_columns import REACH, SCALERS
from katops.errors import UserError, did_you_mean

OPTIMISERS = ("auto", "lbfgs", "adamw")

SMALL = 2000
"""Up to this number of distinct rows "auto" is L-BFGS on all rows at once, in float64."""

TYPES = {"float32": torch.float32, "float64": torch.float64}

NETWORK = ("basis", "degree", "linear", "extrapolation", "products", "arity", "base_act", "init")
SCALER = {"reach": REACH}
OPTIMISER = {"learning_rate": 1e-2, "patience": 30, "dtype": "auto"}
PENALTY = ("edges", "inputs", "smoothness")


@dataclass(frozen=True)
class Settings:
    """Checked arguments; see :class:`katops.estimators.KANRegressor` for what they mean.

    Attributes:
        grids: numbers of intervals, one grid after the other.
        network: options of the networks beside their widths and grids.
        scaler, reach: of the columns.
        optimiser, learning_rate, patience, dtype: of the fit.
        edges, inputs, smoothness: weights of the penalties.
    """

    hidden: tuple[int, ...]
    grids: tuple[int, ...]
    network: dict[str, Any]
    scaler: str
    reach: float | None
    optimiser: str
    learning_rate: float
    patience: int
    dtype: str
    epochs: int
    weight_decay: float
    edges: float
    inputs: float
    smoothness: float
    validation_fraction: float
    ensemble: int
    device: torch.device

    @classmethod
    def checked(cls, arguments: Mapping[str, Any]) -> "Settings":
        """The settings that these arguments of an estimator mean.

        Raises:
            UserError: an argument has a wrong type or lies outside its range.
        """
        for name, low in (("epochs", 1), ("ensemble", 1)):
            _check_whole(name, arguments[name], low)
        _check_real("weight_decay", arguments["weight_decay"], 0.0, None)
        _check_real("validation_fraction", arguments["validation_fraction"], 0.0, 0.5)
        network = _network(arguments["network"])
        grids = _widths("intervals", arguments["intervals"])
        if not grids or any(later <= earlier for earlier, later in pairwise(grids)):
            raise UserError(f"intervals={arguments['intervals']!r} must rise from grid to grid, such as (3, 6, 12)")
        scaler, scaling = _named("scaler", arguments["scaler"], SCALERS, SCALER)
        if scaling["reach"] is not None:
            _check_real("scaler reach", scaling["reach"], 0.0, None)
        optimiser, fit = _named("optimiser", arguments["optimiser"], OPTIMISERS, OPTIMISER)
        _check_real("optimiser learning_rate", fit["learning_rate"], 0.0, None)
        _check_whole("optimiser patience", fit["patience"], 1)
        _check_choice("optimiser dtype", fit["dtype"], ("auto", *TYPES))
        penalty = _penalty(arguments["penalty"])
        if network.get("basis", "bspline") != "bspline":
            if len(grids) > 1:
                raise UserError(f"intervals={grids!r} needs the basis 'bspline'; other bases have no grid to refine")
            if penalty["smoothness"]:
                raise UserError("the penalty 'smoothness' is defined for the basis 'bspline' only; use weight_decay")
        return cls(
            hidden=_widths("hidden", arguments["hidden"]),
            grids=grids,
            network=network,
            scaler=scaler,
            optimiser=optimiser,
            device=_device(arguments["device"]),
            **scaling,
            **fit,
            **penalty,
            **{name: arguments[name] for name in ("epochs", "weight_decay", "validation_fraction", "ensemble")},
        )

    def method(self, rows: int) -> str:
        """The optimiser for this number of distinct rows."""
        if self.optimiser != "auto":
            return self.optimiser
        return "lbfgs" if rows <= SMALL else "adamw"

    def type_for(self, rows: int) -> torch.dtype:
        """The type of the parameters; L-BFGS compares losses that differ in the tenth digit and needs float64."""
        if self.dtype != "auto":
            return TYPES[self.dtype]
        return torch.float64 if self.method(rows) == "lbfgs" and self.device.type != "mps" else torch.float32

    def model_options(self) -> dict[str, Any]:
        """Options of :class:`katops.models.kan.KAN`, all but the numbers of columns.

        Beside a straight branch, splines keep their end values outside of the range: the slope at an end, known from
        few rows, would otherwise be followed by every member, and by the layers behind it.
        """
        given = dict(self.network)
        linear = given.pop("linear", True)
        basis = given.pop("basis", "bspline")
        if basis == "bspline":
            outside = "clamp" if linear else "linear"
            splines = {"degree": given.pop("degree", 3), "extrapolation": given.pop("extrapolation", outside)}
            basis = {"name": "bspline", "intervals": self.grids[0], **splines}
        return {"hidden": list(self.hidden), "basis_layer": basis, "linear": linear, **given}


def _network(value: Any) -> dict[str, Any]:
    """The argument ``network``.

    Raises:
        UserError: it is no mapping, or holds something unknown or of a wrong type.
    """
    given = _known("network", {} if value is None else value, NETWORK)
    if not isinstance(given.get("linear", True), bool):
        raise UserError(f"network linear={given['linear']!r} must be True or False")
    basis = given.get("basis", "bspline")
    if not isinstance(basis, str) and not (isinstance(basis, Mapping) and isinstance(basis.get("name"), str)):
        raise UserError(f"network basis={basis!r} must be a name, or {{'name': ..., options ...}}, such as 'radial'")
    if isinstance(basis, Mapping) and basis["name"] == "bspline":
        raise UserError(f"network basis={basis!r}: options of 'bspline' are degree and extrapolation, beside it")
    if basis == "bspline":
        _check_whole("network degree", given.get("degree", 3), 1)
    elif "degree" in given or "extrapolation" in given:
        raise UserError(f"network degree and extrapolation are those of 'bspline'; give {basis!r} its own options")
    products = given.get("products")
    if products is not None:
        if not isinstance(products, Sequence) or not all(isinstance(count, Integral) for count in products):
            raise UserError(f"network products={products!r} must be whole numbers, one for each layer, such as (1, 0)")
        given["products"] = [int(count) for count in products]
    return given


def _penalty(value: Any) -> dict[str, float]:
    given = {"edges": value} if isinstance(value, Real) else _known("penalty", value, PENALTY)
    weights = {name: given.get(name, 0.0) for name in PENALTY}
    for name, weight in weights.items():
        _check_real("penalty" if isinstance(value, Real) else f"penalty {name}", weight, 0.0, None)
    return weights


def _named(
    argument: str, value: Any, names: Sequence[str] | Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """A name alone, or with options as ``{"name": ..., option: ...}``."""
    given = _known(argument, {"name": value} if isinstance(value, str) else value, ("name", *defaults))
    name = given.pop("name", "auto")
    _check_choice(argument, name, names)
    return name, {**defaults, **given}


def _known(argument: str, value: Any, allowed: Sequence[str]) -> dict[str, Any]:
    """A mapping as a dictionary of its own.

    Raises:
        UserError: it is none, or has other keys.
    """
    if not isinstance(value, Mapping):
        raise UserError(f"{argument}={value!r} must be a mapping with some of: {', '.join(allowed)}")
    for key in value:
        if key not in allowed:
            raise UserError(
                f"{argument} has no option {key!r}{did_you_mean(str(key), allowed)} Allowed: {', '.join(allowed)}."
            )
    return dict(value)


def _check_whole(name: str, value: Any, low: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise UserError(f"{name}={value!r} must be a whole number of at least {low}")


def _check_real(name: str, value: Any, low: float, high: float | None) -> None:
    fits = isinstance(value, Real) and not isinstance(value, bool) and low <= value and (high is None or value <= high)
    if not fits:
        allowed = f"a number of at least {low:g}" if high is None else f"a number from {low:g} to {high:g}"
        raise UserError(f"{name}={value!r} must be {allowed}")


def _check_choice(name: str, value: Any, allowed: Any) -> None:
    if not isinstance(value, str) or value not in allowed:
        raise UserError(
            f"{name}={value!r} is not known{did_you_mean(str(value), allowed)} Allowed: {', '.join(allowed)}."
        )


def _widths(name: str, value: Any) -> tuple[int, ...]:
    widths = (value,) if isinstance(value, Integral) else value
    fits = isinstance(widths, Sequence) and all(isinstance(w, Integral) and not isinstance(w, bool) for w in widths)
    if not fits or any(width < 1 for width in widths):
        raise UserError(f"{name}={value!r} must be whole numbers above zero, such as (5,), or () for none")
    return tuple(int(width) for width in widths)


def _device(value: Any) -> torch.device:
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError) as error:
        raise UserError(f"device={value!r} is none that torch knows; allowed: 'cpu', 'cuda', 'cuda:1', ...") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={value!r} is not there; this torch sees no CUDA device, use device='cpu'")
    return device
