"""Generated data in the layouts of published data sets, for code that reads those.

The samples are written in katops' own layout first and copied from there block by block, so that no layout needs more
memory than another. Every file keeps the recipe: as the attribute (in MATLAB files up to version 7, the variable)
``katops_provenance``, the root attributes of katops' own layout as JSON.
"""

from collections.abc import Callable
from pathlib import Path

import h5py

from katops.errors import UserError, did_you_mean
from katops.generators.layouts import fno, pdebench, pdegym, well
from katops.generators.layouts.provenance import stored_provenance as stored_provenance
from katops.generators.layouts.source import Source, Writer
from katops.generators.problem import Problem

KATOPS = "katops"
LAYOUTS: dict[str, Callable[[Problem], Writer]] = {
    "pdebench": pdebench.writer,
    "well": well.writer,
    "pdegym": pdegym.writer,
    "fno": fno.writer,
}
"""Each finds the writer of a problem, or raises UserError where the layout has no place for it."""

Export = Callable[[Path, Path], None]


def export_to(layout: str, problem: Problem) -> Export | None:
    """Function: copy a file in katops' own layout into another one; ``None`` where that layout is what is wanted.

    Raises:
        UserError: there is no such layout, or it has no place for the problem.
    """
    if layout == KATOPS:
        return None
    if layout not in LAYOUTS:
        known = (KATOPS, *LAYOUTS)
        raise UserError(f"unknown layout {layout!r}{did_you_mean(str(layout), known)} Allowed: {', '.join(known)}.")
    write = LAYOUTS[layout](problem)

    def export(stored: Path, path: Path) -> None:
        with h5py.File(stored, "r") as file:
            write(Source(file, problem), path)

    return export
