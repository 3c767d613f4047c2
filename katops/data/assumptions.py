"""What is taken for granted of a file that does not describe itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from katops.data.containers.probe import probe
from katops.data.formats import PLAIN, describe_tree, statement_of
from katops.data.formats.grid_hints import grid_hint
from katops.data.formats.guess import uncarried_parameters
from katops.data.formats.proposal import ASSUMED
from katops.data.sources import find_all


def assumptions(where: str | Path | Sequence[str | Path], stated: Mapping[str, Any]) -> list[str]:
    """One sentence for each fact about the first of some files that was neither stated nor stored.

    Args:
        where: as in :func:`katops.data.sources.describe_all`.
        stated: the arguments with which the files were described.
    """
    tree, statement = probe(find_all(where)[0]), statement_of(stated)
    layout = describe_tree(tree, statement)
    if layout.format != PLAIN:
        return []
    hint, found = grid_hint(tree, layout, statement), []
    names = [axis.name for axis in layout.meta.axes]
    if statement.boundary is None:
        found.append(
            f"boundary {ASSUMED['boundary'][0]} assumed on all sides; say --boundary with {ASSUMED['boundary'][1]}"
        )
    if statement.grid is None:
        found.append(f"grid {ASSUMED['grid'][0]} assumed; say --grid {_each(hint.statement.get('grid'), 'nodes')}")
    if statement.domain is None:
        ends = hint.statement.get("domain", [[0.0, 2.0]] * len(names))
        example = ",".join(f"{low:g}:{high:g}" for low, high in ends)
        found.append(f"domain [0, 1] assumed along {', '.join(names)}; say --domain {example}")
    if hint.source and (statement.grid is None or statement.domain is None):
        found[-1] += f" ({hint.source})"
    if statement.time_step is None and layout.time_dependent:
        found.append(f"time step {ASSUMED['time_step'][0]:g} assumed between frames; say --time-step")
    if left_out := uncarried_parameters(tree, layout):
        found.append(f"parameters not carried: {', '.join(left_out)}; say --parameters {','.join(left_out)}")
    return [*found, *hint.warnings]


def _each(grids: str | list[str] | None, example: str) -> str:
    return grids if isinstance(grids, str) else ",".join(grids or [example])
