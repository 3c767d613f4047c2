"""Checks of the options of a problem, with one sentence for what is wrong."""

from collections.abc import Collection
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch


def known(problem: str, option: str, value: Any, allowed: Collection[str]) -> str:
    """``value`` if it is one of ``allowed``.

    Raises:
        UserError: it is not.
    """
    if not isinstance(value, str) or value not in allowed:
        raise UserError(
            f"{problem}: unknown {option} {value!r}{did_you_mean(str(value), allowed)} Allowed: {', '.join(allowed)}."
        )
    return value


def whole_number(problem: str, option: str, value: Any, allowed: range) -> int:
    """``value`` as an int if it is a whole number in a range with step 1.

    Raises:
        UserError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UserError(f"{problem}: {option} must be a whole number; given: {value!r}")
    if value not in allowed:
        raise UserError(f"{problem}: {option} {value} is out of range; allowed: {allowed[0]} to {allowed[-1]}")
    return int(value)


def real_number(problem: str, option: str, value: Any, lower: float, upper: float) -> float:
    """``value`` as a float if it is a number in [lower, upper].

    Raises:
        UserError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not isfinite(value):
        raise UserError(f"{problem}: {option} must be a number; given: {value!r}")
    if not lower <= value <= upper:
        raise UserError(f"{problem}: {option} {value:g} is out of range; allowed: {lower:g} to {upper:g}")
    return float(value)


def torch_device(problem: str, device: Any) -> "torch.device":
    """The device of a name such as "cpu" or "cuda:1"; "auto" is a GPU where there is one.

    Raises:
        UserError: there is no such device here.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{problem}: device {device!r} cannot be used ({reason}); allowed: auto, cpu, cuda, cuda:N"
        ) from error
    return found
