"""``data.preset``: the name of a published data set becomes plain keys before anything is checked."""

from typing import Any

from katops.config.operators import NOT_INHERITED
from katops.errors import UserError
from katops.pdegym import resolve


def with_presets(values: dict[str, Any], locate: Any) -> dict[str, Any]:
    """The same configuration with everything that ``data.preset`` stands for, of one data set or of each of a mix.

    What the section states for all data sets of a mix goes before the presets of its entries.

    Args:
        values: what the YAML file holds.
        locate: see :func:`katops.config.reading.parse_config`.

    Raises:
        UserError: there is no such data set.
    """
    data = values.get("data")
    if not isinstance(data, dict):
        return values
    if not isinstance(data.get("mix"), list) or not data["mix"]:
        return {**values, "data": _resolved(data, locate)}
    shared = {key: value for key, value in data.items() if key not in NOT_INHERITED}
    mix = [_resolved({**shared, **entry}, locate) if isinstance(entry, dict) else entry for entry in data["mix"]]
    return {**values, "data": {**data, "mix": mix}}


def _resolved(data: dict[str, Any], locate: Any) -> dict[str, Any]:
    if not isinstance(data.get("preset"), str):
        return data
    try:
        return resolve(data)
    except UserError as error:
        raise UserError(f"{locate(('data', 'preset'))}: {error}") from None
