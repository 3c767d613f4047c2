"""File formats as a table: recognised by what is in the file, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from katops.data.containers.probe import probe
from katops.data.formats.published import PUBLISHED
from katops.data.formats.table import Format, FormatTable
from katops.data.layout import FileLayout, Statement
from katops.data.storage import StoredTree
from katops.errors import UserError
from katops.fields import Boundary

FORMATS = FormatTable(PUBLISHED)
PLAIN = "plain"
"""The format of last resort."""


def register_format(
    name: str,
    *,
    summary: str,
    recognise: Callable[[StoredTree], bool],
    describe: Callable[[StoredTree, Statement], FileLayout],
    licence: str = "",
) -> None:
    """Add a format to the table, for instance from a plugin; see :class:`Format`.

    Raises:
        ValueError: the name is taken.
    """
    FORMATS.add(Format(name, summary, recognise, describe, licence))


def candidates_of(tree: StoredTree) -> list[Format]:
    """The formats that a file may have, "plain" left out."""
    return [entry for entry in FORMATS if entry.name != PLAIN and entry.recognise(tree)]


def recognise(tree: StoredTree) -> Format:
    """The format that a file has; "plain" where no other recognises it.

    Raises:
        UserError: several formats recognise it.
    """
    found = candidates_of(tree)
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise UserError(
            f"{tree.path} can be read in several ways; choose one with data.format: NAME, where NAME is one of "
            f"{names}, or plain to describe the arrays yourself"
        )
    return found[0] if found else FORMATS[PLAIN]


def describe(
    path: str | Path,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    constants: Sequence[str] | None = None,
    parameters: Sequence[str] | None = None,
    channels: Mapping[str, Sequence[str]] | None = None,
    boundary: Boundary | None = None,
    grid: str | Sequence[str] | None = None,
    domain: Sequence[Sequence[float]] | None = None,
    axes: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    time_step: float | None = None,
    format: str | None = None,
) -> FileLayout:
    """Parse the structure of a data file; no field is read.

    Published formats describe themselves: ``inputs``, ``outputs``, ``constants`` and ``parameters`` select by name, the
    other arguments override what the file says. In any other file ("plain") the arguments are the description:

    - ``axes`` names what each axis of an array is: "sample", "time", "channel" for the components of a vector, and one
      to three names of spatial axes, in any order; one list for all arrays or a mapping from arrays to lists. The axes
      of column-major arrays (MATLAB) are counted as their author sees them.
    - With one list, an array that has fewer axes lacks time (it is constant in time), or else the components, or else
      the samples (it is the same for all). A mapping says which.
    - Without ``axes`` every stated array must have rank 2, which is (sample, x). Everything else is ambiguous (the
      second axis of rank 3 may be x or time, a fourth axis may be time or z, arrays of different rank may have a time
      axis or a channel axis) and is refused until ``axes`` is stated. So is a channel that is both input and output of
      a steady problem.
    - ``channels`` names the components of an array with a channel axis; without it they are ``data[0]``, ``data[1]``.
    - The domain is the unit interval, square or cube; grid ``cell_centres`` and boundary ``dirichlet`` unless stated.

    Args:
        path: the file; a folder for zarr.
        inputs, outputs: channels, or paths of arrays (plain), in the order in which they are stacked.
            ``outputs=[]`` describes a file that is only predicted from.
        constants: channels without time that are handed out once beside inputs that move, not in every frame.
        parameters: scalars per sample; of a plain file the paths of arrays with one value, or one per sample.
        channels: array -> names of its components (plain).
        boundary: as in :func:`katops.fields.normalise_boundary`.
        grid: one of ``katops.fields.GRIDS``, or one per spatial axis.
        domain: [lower, upper] per spatial axis.
        axes: see above.
        time_step: time between neighbouring frames; frames count as 1 where neither this nor the file says so.
        format: a name of :data:`FORMATS`, where a file can be read in several ways or is not to be recognised
            ("plain").

    Raises:
        UserError: the file is missing, damaged, truncated, incomplete, of an unknown version, holds no sample or
            arrays that disagree; a channel does not exist; the layout is ambiguous. The message names the file, the
            array and its shape, and what to write into the configuration.
    """
    stated = {
        "inputs": inputs,
        "outputs": outputs,
        "constants": constants,
        "parameters": parameters,
        "channels": channels,
        "boundary": boundary,
        "grid": grid,
        "domain": domain,
        "axes": axes,
        "time_step": time_step,
        "format": format,
    }
    return describe_tree(probe(path), statement_of(stated))


def statement_of(stated: Mapping[str, Any]) -> Statement:
    """Some of the arguments of :func:`describe`, by name, as one value.

    Raises:
        UserError: one of them is of the wrong kind.
    """
    values = {name: value for name, value in stated.items() if value is not None}
    for kind in values.keys() & {"inputs", "outputs", "constants", "parameters"}:
        values[kind] = _names(kind, values[kind])
    if "channels" in values:
        values["channels"] = {name: tuple(parts) for name, parts in values["channels"].items()}
    if "domain" in values:
        values["domain"] = _pairs(values["domain"])
    if "axes" in values:
        values["axes"] = _axes(values["axes"])
    return Statement(**values)


def describe_tree(tree: StoredTree, statement: Statement) -> FileLayout:
    """As :func:`describe`, of a file that was looked at already."""
    chosen = recognise(tree) if statement.format is None else FORMATS[statement.format]
    if statement.format is not None and not chosen.recognise(tree):
        raise UserError(f"{tree.path} does not hold what data.format: {chosen.name} means ({chosen.summary})")
    try:
        return chosen.describe(tree, statement)
    except UserError as error:
        # What is wrong with an axis or a channel by itself is said without the file.
        if str(tree.path) in str(error):
            raise
        raise UserError(f"{tree.path}: {error}") from None


def _names(kind: str, names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise UserError(f"data.{kind} must be a list of names, e.g. [{names}]; given: {names!r}")
    return tuple(names)


def _pairs(domain: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    try:
        return tuple((float(lower), float(upper)) for lower, upper in domain)
    except (TypeError, ValueError):
        raise UserError(
            f"data.domain must hold [lower, upper] for each spatial axis, e.g. [[0, 1], [0, 2]]; given: {domain!r}"
        ) from None


def _axes(
    axes: Sequence[str] | Mapping[str, Sequence[str]],
) -> tuple[str, ...] | dict[str, tuple[str, ...]]:
    if isinstance(axes, Mapping):
        return {name: tuple(entries) for name, entries in axes.items()}
    return _names("axes", axes)
