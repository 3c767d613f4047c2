"""The arguments of an estimator, checked, with what "auto" stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import torch

from katops.data.table_columns import SCALERS
from katops.errors import UserError, did_you_mean

OPTIMISERS = ("auto", "lbfgs", "adamw")

SMALL = 2000
"""Up to this number of distinct rows "auto" is L-BFGS on all rows at once, in float64."""

TYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Settings:
    """Checked arguments; see :class:`katops.estimators.KANRegressor` for what they mean."""

    hidden: tuple[int, ...]
    intervals: int
    degree: int
    basis: Any
    linear: bool
    scaler: str
    optimiser: str
    epochs: int
    learning_rate: float
    weight_decay: float
    penalty: float
    smoothness: float
    refine: tuple[int, ...]
    validation_fraction: float
    patience: int
    ensemble: int
    device: torch.device
    dtype: str

    @classmethod
    def checked(cls, arguments: dict[str, Any]) -> "Settings":
        """The settings that these arguments of an estimator mean.

        Raises:
            UserError: an argument has a wrong type or lies outside its range.
        """
        given = dict(arguments)
        for name, low in _WHOLE.items():
            _check_whole(name, given[name], low)
        for name, (low, high) in _REAL.items():
            _check_real(name, given[name], low, high)
        for name, allowed in (("scaler", SCALERS), ("optimiser", OPTIMISERS), ("dtype", ("auto", *TYPES))):
            _check_choice(name, given[name], allowed)
        if not isinstance(given["linear"], bool):
            raise UserError(f"linear={given['linear']!r} must be True or False")
        given |= _grid_of(given["basis"])
        for name in ("intervals", "degree"):
            _check_whole(name, given[name], _WHOLE[name])
        refine = _widths("refine", given["refine"])
        grid = (given["intervals"], *refine)
        if any(later <= earlier for earlier, later in zip(grid, refine, strict=False)):
            raise UserError(
                f"refine={given['refine']!r} must rise from intervals={given['intervals']}, such as (6, 12)"
            )
        if refine and not _is_bspline(given["basis"]):
            raise UserError(f"refine={given['refine']!r} needs basis='bspline'; other bases have no grid to refine")
        if given["smoothness"] and not _is_bspline(given["basis"]):
            raise UserError("smoothness is defined for basis='bspline' only; use weight_decay")
        given |= {
            "hidden": _widths("hidden", given["hidden"]),
            "refine": refine,
            "device": _device(given["device"]),
        }
        return cls(**{name: given[name] for name in cls.__dataclass_fields__})

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

    def basis_layer(self) -> Any:
        """The option ``basis_layer`` of the models.

        Beside a straight branch, splines keep their end values outside of the range: the slope at an end, known from
        few rows, would otherwise be followed by every member, and by the layers behind it.
        """
        if _is_bspline(self.basis):
            options = {"name": self.basis} if isinstance(self.basis, str) else dict(self.basis)
            outside = "clamp" if self.linear else "linear"
            return {"intervals": int(self.intervals), "degree": int(self.degree), "extrapolation": outside, **options}
        return self.basis


_WHOLE = {"intervals": 1, "degree": 1, "epochs": 1, "patience": 1, "ensemble": 1}
_REAL = {
    "learning_rate": (0.0, None),
    "weight_decay": (0.0, None),
    "penalty": (0.0, None),
    "smoothness": (0.0, None),
    "validation_fraction": (0.0, 0.5),
}


def _grid_of(basis: Any) -> dict[str, Any]:
    """What a basis says of the grid itself, which goes before the arguments ``intervals`` and ``degree``.

    Raises:
        UserError: the basis is neither a name nor a mapping with one.
    """
    if isinstance(basis, str):
        return {}
    if not isinstance(basis, dict) or not isinstance(basis.get("name"), str):
        raise UserError(f"basis={basis!r} must be a name, or {{'name': ..., options ...}}, such as 'bspline'")
    return {name: basis[name] for name in ("intervals", "degree") if _is_bspline(basis) and name in basis}


def _is_bspline(basis: Any) -> bool:
    return basis == "bspline" or (isinstance(basis, dict) and basis.get("name") == "bspline")


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
