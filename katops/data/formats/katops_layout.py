"""The katops HDF5 layout (docs/data_format.md): files that describe themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import check_increasing
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

VERSIONS = (1, 2)
ROLES = ("input", "output", "state", "constant")


def recognise(tree: StoredTree) -> bool:
    """Whether the root attribute ``format`` is "katops"."""
    return tree.attributes.get("format") == "katops"


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Parse and verify the whole structure: attributes, axes, fields, times, parameters, quality."""
    _check_whole(tree)
    axes = _axes(tree)
    sizes = tuple(tree.array(f"axes/{axis.name}").size for axis in axes)
    fields = _fields(tree, [axis.name for axis in axes], sizes)
    roles = {name: _role(tree, name) for name in fields}
    _check_defaults(tree, statement, roles)
    arrays = list(fields.values())
    n_samples = _n_samples(tree, arrays)
    frames, times, unit = _times(tree, arrays, n_samples, stated=statement.time_step is not None)
    _per_sample(tree, "quality", n_samples)
    parameters, parameter_units = _per_sample(tree, "parameters", n_samples)
    scalars, scalar_units = _per_frame(tree, n_samples, int(frames.max()))
    draft = Draft(
        format="katops",
        name=str(tree.attributes.get("name", "unnamed")),
        channels=arrays,
        axes=list(axes),
        space=sizes,
        frames=frames,
        times=times,
        parameters=parameters,
        scalars=scalars,
        inputs=tuple(name for name, role in roles.items() if role in ("input", "state")),
        outputs=tuple(name for name, role in roles.items() if role in ("output", "state")),
        constants=tuple(name for name, role in roles.items() if role == "constant"),
        units={**parameter_units, **scalar_units},
        licence=str(tree.attributes.get("licence", "")),
        citation=str(tree.attributes.get("citation", "")),
        coordinates=str(tree.attributes.get("coordinates", "cartesian")),
        time_unit=unit,
        notes=[str(note) for note in _listed(tree.attributes.get("notes", ()))],
    )
    return finish(tree, statement, draft)


def _check_whole(tree: StoredTree) -> None:
    version = tree.attributes.get("format_version")
    if version not in VERSIONS:
        raise UserError(
            f"{tree.path} has format_version {version!r}; this katops reads versions "
            f"{' and '.join(map(str, VERSIONS))}, so update katops or make the file again"
        )
    if tree.attributes.get("complete") is not True:
        raise UserError(
            f"{tree.path} is incomplete: the attribute 'complete', which is written last, is missing; it was copied or "
            f"written half-way, so copy or generate it again"
        )
    for path, reason in tree.broken.items():
        raise UserError(f"{tree.path}: {path} cannot be read: {reason}")


def _attribute(tree: StoredTree, array: StoredArray, name: str) -> Any:
    if name not in array.attributes:
        raise UserError(f"{tree.path}: {array.path} lacks the attribute {name!r} (docs/data_format.md)")
    return array.attributes[name]


def _axes(tree: StoredTree) -> tuple[Axis, ...]:
    members = tree.members("axes")
    if not 1 <= len(members) <= 3:
        raise UserError(f"{tree.path}: the group /axes must hold 1 to 3 arrays of coordinates (docs/data_format.md)")
    places = {name: _attribute(tree, array, "position") for name, array in members.items()}
    if sorted(places.values()) != list(range(len(places))):
        raise UserError(f"{tree.path}: the positions of the axes must be 0, 1, ...; found {places}")
    return tuple(_axis(tree, name, members[name]) for name in sorted(places, key=places.get))


def _axis(tree: StoredTree, name: str, array: StoredArray) -> Axis:
    check_array(tree.path, array)
    if len(array.shape) != 1:
        raise UserError(f"{tree.path}: {array.path} has shape {array.shape}; coordinates have one axis")
    grid = _attribute(tree, array, "grid")
    points = np.asarray(tree.values(array.path), dtype=np.float64)
    axis = Axis(
        name=name,
        grid=grid,
        lower=float(_attribute(tree, array, "lower")),
        upper=float(_attribute(tree, array, "upper")),
        boundary=tuple(_attribute(tree, array, "boundary")),
        unit=str(array.attributes.get("unit", "")),
        points=tuple(points.tolist()) if grid == "uneven" else (),
    )
    if not np.allclose(points, axis.coordinates(array.size), rtol=0.0, atol=1e-5 * (axis.upper - axis.lower)):
        raise UserError(
            f"{tree.path}: the coordinates in {array.path} are not the {array.size} {axis.grid} of "
            f"[{axis.lower:g}, {axis.upper:g}]; points that are not evenly spaced have grid 'uneven'"
        )
    steps = np.diff(points)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise UserError(f"{tree.path}: the coordinates in {array.path} neither increase nor decrease")
    return axis


def _fields(tree: StoredTree, axes: Sequence[str], sizes: tuple[int, ...]) -> dict[str, ChannelArray]:
    """The channels by name, in the order of creation."""
    members = tree.members("fields")
    if not members:
        raise UserError(f"{tree.path}: the group /fields holds no channel (docs/data_format.md)")
    return {name: _field(tree, name, array, axes, sizes) for name, array in members.items()}


def _field(
    tree: StoredTree, name: str, array: StoredArray, axes: Sequence[str], sizes: tuple[int, ...]
) -> ChannelArray:
    check_array(tree.path, array)
    leading = len(array.shape) - len(axes)
    constant = _role(tree, name) == "constant"
    if leading not in ((0, 1) if constant else (1, 2)) or array.shape[leading:] != sizes:
        allowed = "(*space) or (N, *space)" if constant else "(N, *space) or (N, T, *space)"
        raise UserError(
            f"{tree.path}: {array.path} has shape {array.shape}, but the axes have {sizes} points; a "
            f"{'constant' if constant else 'field'} is {allowed}"
        )
    return ChannelArray(
        name=name,
        datasets=(array.path,),
        dtype=array.dtype,
        axes=(*("sample", "time")[:leading], *axes),
        shape=array.shape,
        unit=str(array.attributes.get("unit", "")),
        quantity=str(array.attributes.get("quantity", "")),
        place=tuple(_listed(array.attributes.get("component", ()))),
        shift=tuple(_listed(array.attributes.get("shift", ()))),
    )


def _role(tree: StoredTree, name: str) -> str:
    array = tree.array(f"fields/{name}")
    role = _attribute(tree, array, "role")
    if role not in ROLES:
        raise UserError(f"{tree.path}: {array.path} has role {role!r}; allowed: {', '.join(ROLES)}")
    return role


def _check_defaults(tree: StoredTree, statement: Statement, roles: dict[str, str]) -> None:
    for kind, stated in (("inputs", statement.inputs), ("outputs", statement.outputs)):
        wanted = (kind.removesuffix("s"), "state")
        if stated is None and not any(role in wanted for role in roles.values()):
            raise UserError(
                f"{tree.path} has no channel with role {' or '.join(wanted)}; choose with data.{kind} from: "
                f"{', '.join(roles)}"
            )


def _n_samples(tree: StoredTree, arrays: Sequence[ChannelArray]) -> int:
    counted = [array for array in arrays if "sample" in array.axes]
    if not counted:
        raise UserError(f"{tree.path}: no array in /fields has a sample axis (docs/data_format.md)")
    for array in counted:
        if array.shape[0] != counted[0].shape[0]:
            raise UserError(
                f"{tree.path}: {array.datasets[0]} has {array.shape[0]} samples, but {counted[0].datasets[0]} has "
                f"{counted[0].shape[0]}"
            )
    return counted[0].shape[0]


def _times(
    tree: StoredTree, arrays: Sequence[ChannelArray], n_samples: int, *, stated: bool
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """(frames of each sample, times, unit)."""
    moving = [array for array in arrays if array.has_time]
    if not moving:
        return np.ones(n_samples, dtype=np.int64), None, ""
    longest = moving[0].shape[1]
    item = tree.find("time")
    if item is None:
        raise UserError(f"{tree.path}: {moving[0].datasets[0]} has a time axis, but there is no array /time")
    for array in moving:
        if item.shape not in (array.shape[1:2], array.shape[:2]):
            raise UserError(
                f"{tree.path}: /time has shape {item.shape}, but {array.datasets[0]} has {array.shape[1]} frames"
            )
    frames = _frames(tree, n_samples, longest)
    times = np.asarray(tree.values("time"), dtype=np.float64)
    # A stated time step counts frames as evenly spaced, whatever their times are.
    times = times if stated else check_increasing(tree.path, "/time", times, frames)
    return frames, times, str(item.attributes.get("unit", ""))


def _frames(tree: StoredTree, n_samples: int, longest: int) -> np.ndarray:
    """(N,), how many frames of each trajectory are valid."""
    item = tree.find("frames")
    if item is None:
        return np.full(n_samples, longest, dtype=np.int64)
    counts = np.asarray(tree.values("frames"))
    if item.shape != (n_samples,) or counts.dtype.kind not in "iu" or counts.min() < 1 or counts.max() > longest:
        raise UserError(
            f"{tree.path}: /frames has shape {item.shape} and values from {counts.min()} to {counts.max()}; it should "
            f"hold the number of valid frames of each of {n_samples} samples, integers from 1 to {longest}"
        )
    return counts.astype(np.int64)


def _per_sample(tree: StoredTree, group: str, n_samples: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Values and units of the (N,) arrays of a group, by name."""
    return _numbers(tree, group, ((n_samples,),), f"({n_samples},), one per sample")


def _per_frame(tree: StoredTree, n_samples: int, longest: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Values (1 or N, T) and units of the (T,) or (N, T) arrays in /scalars, by name."""
    allowed = ((longest,), (n_samples, longest))
    values, units = _numbers(tree, "scalars", allowed, f"({longest},) or ({n_samples}, {longest}), one per frame")
    return {name: np.atleast_2d(array) for name, array in values.items()}, units


def _numbers(
    tree: StoredTree, group: str, shapes: Sequence[tuple[int, ...]], wanted: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    values, units = {}, {}
    for name, item in tree.members(group).items():
        check_array(tree.path, item)
        if item.shape not in shapes:
            raise UserError(f"{tree.path}: {item.path} has shape {item.shape}; it should be {wanted}")
        values[name] = np.asarray(tree.values(item.path), dtype=np.float64)
        units[name] = str(item.attributes.get("unit", ""))
    return values, units


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
