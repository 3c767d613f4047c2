"""File formats as a table: recognised by what is in the file, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import h5py

from katops.data import format_katops, format_plain
from katops.data.layout import FileLayout, Statement
from katops.data.opening import open_file, reading, stamp_of
from katops.fields import Boundary


@dataclass(frozen=True)
class Format:
    """One way to arrange fields in an HDF5 file.

    Attributes:
        name: as reported in :attr:`FileLayout.format`.
        summary: how the format is recognised, for people.
        recognise: whether an open file has this format; looks at its contents only.
        describe: (open file, path, statement) -> layout; raises UserError where the contents do not fit.
    """

    name: str
    summary: str
    recognise: Callable[[h5py.File], bool]
    describe: Callable[[h5py.File, Path, Statement], FileLayout]


FORMATS = (
    Format(
        "katops",
        "root attribute format = 'katops' (docs/data_format.md)",
        format_katops.recognise,
        format_katops.describe,
    ),
    # Last: it takes any HDF5 file, with the help of a statement.
    Format("plain", "any HDF5 file whose arrays are stated", format_plain.recognise, format_plain.describe),
)


def recognise(file: h5py.File) -> Format:
    """The first format of the table that an open file has."""
    return next(entry for entry in FORMATS if entry.recognise(file))


def describe(
    path: str | Path,
    *,
    inputs: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    boundary: Boundary | None = None,
    grid: str | Sequence[str] | None = None,
    axes: Sequence[str] | None = None,
    time_step: float | None = None,
) -> FileLayout:
    """Parse the structure of a data file; no field is read.

    Files in the katops layout describe themselves: ``inputs`` and ``outputs`` select channels by name, the other
    arguments override what the file says. In any other HDF5 file ("plain") the arguments are the description:

    - Arrays are (sample, \\*space) or (sample, time, \\*space), 1 to 3 spatial axes, one array per scalar channel.
    - ``axes`` names the axes, e.g. ``[sample, time, x]``. An array with one axis less than a statement with ``time``
      is constant in time.
    - Without ``axes`` every stated array must have rank 2, which is (sample, x). Everything else is ambiguous (the
      second axis of rank 3 may be x or time, a fourth axis may be time or z, arrays of different rank may have a time
      axis or a channel axis) and is refused until ``axes`` is stated. So is a channel that is both input and output of
      a steady problem.
    - The domain is the unit interval, square or cube; grid ``cell_centres`` and boundary ``dirichlet`` unless stated.

    Args:
        path: HDF5 file.
        inputs, outputs: channels (katops layout) or paths of arrays (plain) in the order in which they are stacked.
            ``outputs=[]`` describes a file that is only predicted from.
        boundary: as in :func:`katops.fields.normalise_boundary`.
        grid: one of ``katops.fields.GRIDS``, or one per spatial axis.
        axes: names of the axes in the order of storage.
        time_step: time between neighbouring frames; frames count as 1 where neither this nor the file says so.

    Raises:
        UserError: the file is missing, not HDF5, truncated, incomplete, of an unknown version, holds no sample or
            arrays that disagree; a channel does not exist; the layout is ambiguous. The message names the file, the
            array and its shape, and what to write into the configuration.
    """
    path = Path(path)
    statement = Statement(
        inputs=None if inputs is None else tuple(inputs),
        outputs=None if outputs is None else tuple(outputs),
        boundary=boundary,
        grid=grid,
        axes=None if axes is None else tuple(axes),
        time_step=time_step,
    )
    with open_file(path) as file:
        stamp = stamp_of(path)
        with reading(path):
            layout = recognise(file).describe(file, path, statement)
    return replace(layout, stamp=stamp)
