"""Guesses about files that do not describe themselves, to be checked by whoever knows the data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from katops.data.formats.description import PLAIN, candidates_of
from katops.data.formats.netcdf_conventions import roles_of
from katops.data.formats.plain import candidates
from katops.data.formats.plain_axes import SPACE
from katops.data.layout import FileLayout
from katops.data.storage import StoredArray, StoredTree

# Names under which published files store what is given and what is sought.
_INPUT_NAMES = {"x", "a", "f", "c", "k", "in", "nu", "mu", "coeff", "coef", "coefficient", "input", "inputs", "source"}
_INPUT_NAMES |= {"forcing", "permeability", "conductivity", "initial", "u0", "features"}
_OUTPUT_NAMES = {"y", "u", "out", "sol", "solution", "output", "outputs", "target", "targets", "pressure", "tensor"}
_COORDINATE_NAMES = {"x", "y", "z", "t", "time", "lat", "lon", "grid", "index", "indices"}
_PLAIN_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null"}
_MOST_COMPONENTS = 8


@dataclass(frozen=True)
class Proposal:
    """Arguments for :func:`katops.data.formats.description.describe`, guessed.

    Attributes:
        statement: the arguments.
        formats: those that the file could have too, where it can be read in several ways.
    """

    statement: dict[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()


def propose(tree: StoredTree) -> Proposal | None:
    """What to state about a file so that it can be described; ``None`` where nothing in it looks like a field.

    Nothing has to be stated about a file that describes itself; of a katops file that holds inputs or answers only,
    these are looked at as inputs. Where several formats fit, the first one is proposed. In any other file:

    - Arrays with the same number of samples and the same space axes belong together; the largest such group is taken.
    - The name decides the role; where it does not, the first array is the input and the last one the output. One array
      alone, of rank 3 or more, is taken for a trajectory.
    - An extra axis in second place is taken for time, in column-major files (MATLAB) one in last place; so is the
      second of five. A short axis behind the others, or in third place of five, is taken for the components of an
      array that is alone.
    """
    formats = candidates_of(tree)
    if len(formats) > 1:
        names = tuple(entry.name for entry in formats)
        return Proposal({"format": names[0]}, names[1:])
    if formats:
        return _of_katops(tree) if formats[0].name == "katops" else Proposal()
    group = _largest_group(candidates(tree))
    if not group:
        return None
    statement = _with_components(group) or _with_dimensions(group) or _without_components(group)
    if statement is None:
        return None
    parameters = _parameters(tree, next(iter(group.values())), statement)
    return Proposal({**statement, **({"parameters": parameters} if parameters else {})})


def yaml_block(layout: FileLayout, proposal: Proposal) -> str:
    """The ``data:`` section that describes the file, ready for a configuration."""
    stated = proposal.statement
    lines = ["data:", f"  file: {_yaml(str(layout.path))}"]
    if "format" in stated:
        others = f"  # check: or {', '.join(proposal.formats)}" if proposal.formats else ""
        lines.append(f"  format: {_yaml(stated['format'])}{others}")
    check = "  # check" if layout.format == PLAIN else ""
    lines.append(f"  inputs: {_yaml(stated.get('inputs', [array.name for array in layout.inputs]))}{check}")
    lines.append(f"  outputs: {_yaml(stated.get('outputs', [array.name for array in layout.outputs]))}{check}")
    lines += [f"  {key}: {_yaml(stated[key])}{check}" for key in ("channels", "parameters", "axes") if key in stated]
    if layout.format == PLAIN:
        lines.append("  boundary: dirichlet  # check: dirichlet, neumann, periodic, wall, open or none")
        lines.append("  grid: cell_centres  # check: cell_centres, nodes or periodic_nodes")
        if layout.time_dependent:
            lines.append("  time_step: 1.0  # check: time between neighbouring frames")
    if layout.time_dependent:
        lines.append("  window: {n_in: 1, n_out: 1}")
    return "\n".join(lines)


def _of_katops(tree: StoredTree) -> Proposal:
    roles = {name: array.attributes.get("role") for name, array in tree.members("fields").items()}
    if roles and set(roles.values()) <= {"output", "constant"}:
        return Proposal({"inputs": tuple(name for name, role in roles.items() if role == "output"), "outputs": ()})
    return Proposal({"outputs": ()} if roles and set(roles.values()) <= {"input", "constant"} else {})


def _with_components(group: Mapping[str, StoredArray]) -> dict[str, Any] | None:
    """One array alone, if it has an axis that is short among long ones."""
    [(name, array), *others] = group.items()
    shape = array.logical_shape
    if others or array.column_major:
        return None
    axes = {
        5: {2: ("sample", "time", "channel", *SPACE[:2]), 4: ("sample", "time", *SPACE[:2], "channel")},
        4: {3: ("sample", *SPACE[:2], "channel")},
        6: {2: ("sample", "time", "channel", *SPACE), 5: ("sample", "time", *SPACE, "channel")},
    }.get(len(shape), {})
    short = [place for place in axes if shape[place] <= _MOST_COMPONENTS < min(_without(shape[2:], place - 2))]
    if len(short) != 1:
        return None
    parts = tuple(f"{_last_word(name)}_{place}" for place in range(shape[short[0]]))
    chosen = axes[short[0]]
    half = len(parts) // 2
    roles = (parts, parts) if "time" in chosen else (parts[:half], parts[half:])
    return {"inputs": roles[0], "outputs": roles[1], "channels": {name: parts}, "axes": {name: chosen}}


def _with_dimensions(group: Mapping[str, StoredArray]) -> dict[str, Any] | None:
    """Roles by name, where named dimensions say what the axes are."""
    axes = [roles_of(array) for array in group.values()]
    if any(entry is None or "channel" in entry for entry in axes):
        return None
    inputs, outputs = _roles(list(group), all("time" in entry for entry in axes))
    if set(inputs) & set(outputs) and not any("time" in entry for entry in axes):
        return None
    return {"inputs": inputs, "outputs": outputs}


def _without_components(group: Mapping[str, StoredArray]) -> dict[str, Any] | None:
    names = list(group)
    ranks = [len(array.shape) for array in group.values()]
    lowest, highest = min(ranks), max(ranks)
    # Rank 4 is (sample, time, x, y) more often than a steady problem in 3-D.
    timed = highest > lowest or highest >= 4 or len(names) == 1
    if highest < 3 and len(names) == 1:
        return None
    inputs, outputs = _roles(names, timed and lowest == highest)
    axes = ("sample", "time", *SPACE[: highest - 2]) if timed else ("sample", *SPACE[: highest - 1])
    if timed and _time_is_last(list(group.values())):
        axes = ("sample", *SPACE[: highest - 2], "time")
    return {"inputs": inputs, "outputs": outputs, "axes": axes}


def _roles(names: Sequence[str], all_move: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(inputs, outputs), from the names."""
    outputs = tuple(name for name in names if _last_word(name) in _OUTPUT_NAMES)
    inputs = tuple(name for name in names if _last_word(name) in _INPUT_NAMES)
    if outputs and inputs:
        return inputs, outputs
    return (tuple(names), tuple(names)) if all_move else (tuple(names[:1]), tuple(names[-1:]))


def _time_is_last(arrays: Sequence[StoredArray]) -> bool:
    """Whether the last axis is the extra one: MATLAB's files have time there."""
    moving = max(arrays, key=lambda array: len(array.shape))
    static = [array for array in arrays if len(array.shape) < len(moving.shape)]
    if static:
        return all(array.logical_shape == moving.logical_shape[:-1] for array in static)
    return moving.column_major and len(moving.shape) >= 4


def _largest_group(fields: dict[str, StoredArray]) -> dict[str, StoredArray]:
    """The arrays that share the sample axis and the space axes of the array with most values."""
    if not fields:
        return {}
    main = max(fields.values(), key=lambda array: array.size).logical_shape
    best: dict[str, StoredArray] = {}
    # The second axis of the main array is time in one reading and space in the other; time may come last.
    for space, timed in ((main[1:], None), (main[2:], main), (main[1:-1], main)):
        group = {
            name: array
            for name, array in fields.items()
            if array.logical_shape == main or (space and array.logical_shape in (timed, (main[0], *space)))
        }
        if len(group) > len(best):
            best = group
    return best


def _parameters(tree: StoredTree, field: StoredArray, statement: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of arrays with one number, or one per sample, that are no coordinates."""
    axes = statement.get("axes")
    axes = next(iter(axes.values())) if isinstance(axes, Mapping) else axes or roles_of(field) or ()
    count = field.logical_shape[axes.index("sample")] if "sample" in axes else 1
    return tuple(
        array.name
        for array in tree.arrays.values()
        if array.is_real
        and array.size
        and (array.size == 1 or [size for size in array.shape if size != 1] == [count])
        and _last_word(array.name) not in _COORDINATE_NAMES
        and "CLASS" not in array.attributes
    )


def _without(sizes: Sequence[int], place: int) -> list[int]:
    return [size for position, size in enumerate(sizes) if position != place] or [0]


def _last_word(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower()


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value)
