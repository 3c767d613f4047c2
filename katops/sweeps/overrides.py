"""Values put into the nested sections of a configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from katops.errors import UserError


def with_value(values: Mapping[str, Any], keys: Sequence[str], value: Any, where: str) -> dict[str, Any]:
    """A copy in which one key has another value; sections that are absent or null are made.

    Args:
        values: plain containers; they stay as they are.
        keys: the path, such as ("train", "learning_rate").
        value: what to put there.
        where: how a message calls the key.

    Raises:
        UserError: something on the path holds no keys.
    """
    first, *rest = keys
    if not rest:
        return {**values, first: value}
    inner = values.get(first)
    if inner is not None and not isinstance(inner, Mapping):
        raise UserError(f"{where}: {first!r} is {inner!r} in the configuration, which holds no keys")
    return {**values, first: with_value(inner or {}, rest, value, where)}
