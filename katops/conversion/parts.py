"""Parts of a module by name, ``fc1`` or ``intermediate.dense``."""

from functools import reduce
from typing import Any

from torch import nn


def get_part(module: nn.Module, name: str) -> Any:
    """The part.

    Raises:
        AttributeError: there is none.
    """
    return reduce(getattr, name.split("."), module)


def has_part(module: nn.Module, name: str) -> bool:
    """Whether it is there."""
    try:
        return get_part(module, name) is not None
    except AttributeError:
        return False


def set_part(module: nn.Module, name: str, value: Any) -> None:
    """Put something in its place; torch allows no plain function where it holds a module, which goes first then."""
    *path, last = name.split(".")
    owner = reduce(getattr, path, module)
    if not isinstance(value, nn.Module) and isinstance(getattr(owner, last), nn.Module):
        delattr(owner, last)
    setattr(owner, last, value)
