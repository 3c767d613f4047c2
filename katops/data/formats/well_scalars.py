"""Numbers beside the fields in files of The Well: per sample, per frame, or of the whole file."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from katops.data.formats.coordinates import numbers
from katops.data.storage import StoredTree
from katops.errors import UserError


def scalars(tree: StoredTree, n_samples: int, n_frames: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The members of the group ``scalars``, stored as (), (1), (N), (T) or (N, T).

    Returns:
        those that change in time, (1 or N, T); those that do not, (N,).

    Raises:
        UserError: a shape fits neither the attributes nor the file.
    """
    in_time: dict[str, np.ndarray] = {}
    per_sample: dict[str, np.ndarray] = {}
    for name, array in tree.members("scalars").items():
        values = numbers(tree, array.path)
        moves = array.attributes.get("time_varying")
        if moves is None:
            moves = values.ndim == 2 or (values.shape == (n_frames,) and n_frames not in (1, n_samples))
        if moves:
            shapes = ((n_frames,), (1, n_frames), (n_samples, n_frames))
            in_time[name] = np.atleast_2d(values)
        else:
            shapes = ((), (1,), (n_samples,), (n_samples, 1))
            per_sample[name] = np.broadcast_to(values.reshape(-1), (n_samples,)) if values.shape in shapes else values
        if values.shape not in shapes:
            raise UserError(
                f"{tree.path}: {array.name} has shape {values.shape}; a scalar that "
                f"{'changes' if moves else 'does not change'} in time has one of {', '.join(map(str, shapes))}"
            )
    return in_time, per_sample


def words(value: object) -> tuple[str, ...]:
    """An attribute that lists names; one name may stand without the list, and anything else lists none."""
    if isinstance(value, str):
        return (value,)
    return tuple(map(str, value)) if isinstance(value, Sequence) else ()


def dataset_parameters(tree: StoredTree, known: Collection[str], notes: list[str]) -> dict[str, float]:
    """The root attributes that ``simulation_parameters`` lists and the group ``scalars`` does not repeat."""
    found = {}
    for name in words(tree.attributes.get("simulation_parameters")):
        value = tree.attributes.get(name)
        if name in known:
            continue
        if isinstance(value, (int, float)) and math.isfinite(value):
            found[name] = float(value)
        else:
            notes.append(f"the simulation parameter {name} is not a number ({value!r}) and not read")
    return found
