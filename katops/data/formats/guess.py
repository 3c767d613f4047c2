"""Guesses about files that do not describe themselves, to be checked by whoever knows the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from katops.data.formats.description import FORMATS, PLAIN, candidates_of, describe_tree, statement_of
from katops.data.formats.grid_hints import GridHint, coordinates_of, grid_hint, renamed
from katops.data.formats.netcdf_conventions import roles_of
from katops.data.formats.plain import candidates
from katops.data.formats.plain_axes import SPACE
from katops.data.formats.proposal import Proposal
from katops.data.formats.square_grids import REASON, odd_axis, samples_last
from katops.data.layout import FileLayout
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

# Names under which published files store what is given and what is sought.
_INPUT_NAMES = {"x", "a", "f", "c", "k", "in", "nu", "mu", "coeff", "coef", "coefficient", "input", "inputs", "source"}
_INPUT_NAMES |= {"forcing", "permeability", "conductivity", "initial", "u0", "features"}
_OUTPUT_NAMES = {"y", "u", "out", "sol", "solution", "output", "outputs", "target", "targets", "pressure", "tensor"}
_COORDINATE_NAMES = {"x", "y", "z", "t", "time", "lat", "lon", "grid", "index", "indices"}
_MOST_COMPONENTS = 8
_MOVES = "everything that moves"


def propose(tree: StoredTree, stated: Mapping[str, Any] | None = None) -> Proposal | None:
    """What to state about a file so that it can be described; ``None`` where nothing in it looks like a field.

    Nothing has to be stated about a file that describes itself; of a katops file that holds inputs or answers only,
    these are looked at as inputs. Where several formats fit, the first one is proposed. In any other file:

    - Arrays with the same number of samples and the same space axes belong together; the largest such group is taken.
    - The name decides the role; where it does not, the first array is the input and the last one the output. One array
      alone, of rank 3 or more, is taken for a trajectory.
    - Samples come first; of three axes of which two have the same size, the other one counts the samples.
    - An extra axis in second place is taken for time, in column-major files (MATLAB) one in last place; so is the
      second of five. A short axis behind the others, or in third place of five, is taken for the components of an
      array that is alone.
    - Arrays of one axis that are called like an axis of space tell grid and domain.

    Args:
        tree: the file.
        stated: arguments of :func:`.description.describe` that are known; only the others are guessed.
    """
    stated = dict(stated or {})
    formats = [FORMATS[stated["format"]]] if "format" in stated else candidates_of(tree)
    if len(formats) > 1:
        names = tuple(entry.name for entry in formats)
        return Proposal({"format": names[0], **stated}, names[1:])
    if formats and formats[0].name != PLAIN:
        roles = _of_katops(tree) if formats[0].name == "katops" and not stated.keys() & {"inputs", "outputs"} else {}
        return Proposal({**roles, **stated})
    guessed = _fields(tree, stated)
    if guessed is None and not {"inputs", "outputs"} <= stated.keys():
        return None
    return _with_numbers(tree, _added(Proposal(stated), *(guessed or ({}, {}))), stated)


def uncarried_parameters(tree: StoredTree, layout: FileLayout) -> tuple[str, ...]:
    """Names of arrays with one number, or one per sample, that are no coordinates and not in the layout."""
    known = {channel.name for channel in layout.meta.parameters}
    used = {coordinates.path for axis in layout.meta.axes if (coordinates := coordinates_of(tree, axis.name))}
    return tuple(
        array.name
        for array in tree.arrays.values()
        if array.is_real
        and array.size
        and (array.size == 1 or [size for size in array.shape if size != 1] == [layout.n_samples])
        and _last_word(array.name) not in _COORDINATE_NAMES
        and "CLASS" not in array.attributes
        and array.name not in known
        and array.path not in used
    )


def _added(proposal: Proposal, found: Mapping[str, Any], reasons: Mapping[str, str]) -> Proposal:
    """The proposal with what was found and is not said yet."""
    new = {key: value for key, value in found.items() if key not in proposal.statement}
    why = {key: reasons[key] for key in new if key in reasons}
    return replace(proposal, statement={**new, **proposal.statement}, reasons={**proposal.reasons, **why})


def _fields(tree: StoredTree, stated: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]] | None:
    """(roles and axes, why), guessed where they are not stated."""
    fields = candidates(tree)
    if {"inputs", "outputs"} <= stated.keys():
        names = [name for kind in ("inputs", "outputs", "constants") for name in stated.get(kind, ())]
        fields = {name: fields[name] for name in dict.fromkeys(names) if name in fields}
    last = samples_last(fields)
    group = {name: fields[name] for name in last} if last else _largest_group(fields)
    if not group:
        return None
    if last:
        return _samples_last(group, last)
    found = _with_components(group) or _with_dimensions(group) or _without_components(group)
    if found is not None and "channels" in found[0] and stated.keys() & {"inputs", "outputs", "axes"}:
        # Components that nobody asked for.
        found = _without_components(group)
    return found


def _with_numbers(tree: StoredTree, proposal: Proposal, stated: Mapping[str, Any]) -> Proposal:
    """The proposal with parameters, grid and domain, and with axes called as the coordinates say."""
    try:
        layout = describe_tree(tree, statement_of(proposal.statement))
        if "axes" not in stated and "axes" in proposal.statement and (names := renamed(tree, layout)):
            axes = _rename(proposal.statement["axes"], names)
            proposal = replace(proposal, statement={**proposal.statement, "axes": axes})
            layout = describe_tree(tree, statement_of(proposal.statement))
    except UserError:
        return proposal  # describing the file tells what is wrong
    parameters = uncarried_parameters(tree, layout)
    hint = hint_of(tree, layout, stated)
    found = {**({"parameters": parameters} if parameters else {}), **hint.statement}
    return _added(proposal, found, {"parameters": "one number, or one per sample", **_because(hint)})


def hint_of(tree: StoredTree, layout: FileLayout, stated: Mapping[str, Any]) -> GridHint:
    """What coordinates in a plain file say; nothing for files that describe themselves."""
    return grid_hint(tree, layout, statement_of(stated)) if layout.format == PLAIN else GridHint()


def _because(hint: GridHint) -> dict[str, str]:
    return dict.fromkeys(hint.statement, hint.source)


def _rename(axes: Any, names: Mapping[str, str]) -> Any:
    if isinstance(axes, Mapping):
        return {array: _rename(entry, names) for array, entry in axes.items()}
    return tuple(names.get(axis, axis) for axis in axes)


def _samples_last(
    group: Mapping[str, StoredArray], axes: Mapping[str, tuple[str, ...]]
) -> tuple[dict[str, Any], dict[str, str]]:
    inputs, outputs, why = _roles(list(group), all("time" in entry for entry in axes.values()))
    shared = next(iter(axes.values()))
    same = all(entry == shared for entry in axes.values())
    return {"inputs": inputs, "outputs": outputs, "axes": shared if same else dict(axes)}, {**why, "axes": REASON}


def _of_katops(tree: StoredTree) -> dict[str, Any]:
    """Roles in a file of inputs or answers only."""
    roles = {name: array.attributes.get("role") for name, array in tree.members("fields").items()}
    if roles and set(roles.values()) <= {"output", "constant"}:
        return {"inputs": tuple(name for name, role in roles.items() if role == "output"), "outputs": ()}
    return {"outputs": ()} if roles and set(roles.values()) <= {"input", "constant"} else {}


def _with_components(group: Mapping[str, StoredArray]) -> tuple[dict[str, Any], dict[str, str]] | None:
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
    moving = "time" in chosen
    roles = (parts, parts) if moving else (parts[:half], parts[half:])
    role = _MOVES if moving else "half of the components each"
    found = {"inputs": roles[0], "outputs": roles[1], "channels": {name: parts}, "axes": {name: chosen}}
    reasons = {"inputs": role, "outputs": role, "channels": "names", "axes": "the short axis counts components"}
    return found, reasons


def _with_dimensions(group: Mapping[str, StoredArray]) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Roles by name, where named dimensions say what the axes are."""
    axes = [roles_of(array) for array in group.values()]
    if any(entry is None or "channel" in entry for entry in axes):
        return None
    inputs, outputs, why = _roles(list(group), all("time" in entry for entry in axes))
    if set(inputs) & set(outputs) and not any("time" in entry for entry in axes):
        return None
    return {"inputs": inputs, "outputs": outputs}, why


def _without_components(group: Mapping[str, StoredArray]) -> tuple[dict[str, Any], dict[str, str]] | None:
    names = list(group)
    ranks = [len(array.shape) for array in group.values()]
    lowest, highest = min(ranks), max(ranks)
    # Rank 4 is (sample, time, x, y) more often than a steady problem in 3-D.
    timed = highest > lowest or highest >= 4 or len(names) == 1
    if highest < 3 and len(names) == 1:
        return None
    inputs, outputs, why = _roles(names, timed and lowest == highest)
    axes = ("sample", "time", *SPACE[: highest - 2]) if timed else ("sample", *SPACE[: highest - 1])
    order = "samples first, then time" if timed else "samples first"
    odd = {odd_axis(array.logical_shape) for array in group.values()} - {None}
    if timed and _time_is_last(list(group.values())):
        axes, order = ("sample", *SPACE[: highest - 2], "time"), "samples first, time last"
    elif odd == {2} and len(names) == 1:
        axes, order = ("time", "x", "sample"), REASON
    elif odd == {0}:
        order = REASON
    return {"inputs": inputs, "outputs": outputs, "axes": axes}, {**why, "axes": order}


def _roles(names: Sequence[str], all_move: bool) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """(inputs, outputs, why), from the names."""
    outputs = tuple(name for name in names if _last_word(name) in _OUTPUT_NAMES)
    inputs = tuple(name for name in names if _last_word(name) in _INPUT_NAMES)
    if outputs and inputs:
        return inputs, outputs, dict.fromkeys(("inputs", "outputs"), "by the names")
    if all_move:
        return tuple(names), tuple(names), dict.fromkeys(("inputs", "outputs"), _MOVES)
    return tuple(names[:1]), tuple(names[-1:]), {"inputs": "the first array", "outputs": "the last array"}


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


def _without(sizes: Sequence[int], place: int) -> list[int]:
    return [size for position, size in enumerate(sizes) if position != place] or [0]


def _last_word(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower()
