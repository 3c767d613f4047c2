"""``katops inspect``: what files hold, and the lines of YAML with which they can be trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.probe import probe
from katops.data.formats import PLAIN, candidates_of, describe, guess
from katops.data.formats.proposal import yaml_block
from katops.data.inspection.arrays import ArrayInfo, array_info, with_roles
from katops.data.inspection.glance import Glance
from katops.data.inspection.render import render as render
from katops.data.layout import FileLayout
from katops.data.many_files import check_alike
from katops.data.sources import find_all, find_files, sibling_hint, split_folders
from katops.data.storage import StoredTree
from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES

# Folders may hold thousands of files; this many, evenly spread, keep inspection at about a second.
_MOST_FILES = 64


@dataclass(frozen=True)
class ChannelStatistics:
    """Range of a channel over a few samples; ``nonfinite`` counts NaN and infinity, which the rest leaves out."""

    name: str
    samples: int
    minimum: float
    mean: float
    maximum: float
    std: float
    nonfinite: int


@dataclass(frozen=True)
class Inspection:
    """Everything that :func:`katops.data.inspection.render.render` shows.

    Attributes:
        path: what was asked for: a file, a folder or a pattern.
        files: all files that it means.
        size: bytes of all files.
        container: of the first file, one of :data:`katops.data.storage.CONTAINERS`.
        format: name of the recognised format.
        candidates: further formats that the file could have; it is then shown as ``format``.
        arrays: those of the first file.
        attributes: root attributes of the first file.
        layouts: the descriptions of the files that were looked at, at most 64; empty where they cannot be read as
            fields. Files of answers only, such as predictions, are described with their channels as inputs.
        guessed: whether roles or axes are guesses.
        statement: what was stated or guessed to describe the files.
        statistics: of each channel, in the first file.
        notes: sentences about what the files are and how they are taken.
        warnings: sentences about what is wrong or remarkable.
        yaml: the ``data:`` section; "" where the files cannot be trained on.
    """

    path: str
    files: tuple[Path, ...]
    size: int
    container: str
    format: str
    candidates: tuple[str, ...]
    arrays: tuple[ArrayInfo, ...]
    attributes: dict[str, Any]
    layouts: tuple[FileLayout, ...] = ()
    guessed: bool = False
    statement: dict[str, Any] = field(default_factory=dict)
    statistics: tuple[ChannelStatistics, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    yaml: str = ""

    @property
    def layout(self) -> FileLayout | None:
        """The description of the first file."""
        return self.layouts[0] if self.layouts else None


def inspect(path: str | Path | Sequence[str], stated: Mapping[str, Any] | None = None) -> Inspection:
    """Look into a file of any kind and layout, or into the files of a folder or pattern; takes about a second.

    Args:
        path: as in :func:`katops.data.sources.describe_all`, or a folder with folders for training, validation and
            testing.
        stated: arguments of :func:`katops.data.formats.describe` that are known; only the others are guessed.

    Raises:
        UserError: a file is missing, of a kind that is not read, truncated or damaged.
    """
    parts = split_folders(path) if isinstance(path, str | Path) else None
    files = find_all(parts["file"] if parts else path)
    tree = probe(files[0])
    stated = dict(stated or {})
    found = [entry.name for entry in candidates_of(tree)]
    if stated.get("format"):
        found = [stated["format"]]
    proposal = guess.propose(tree, stated)
    warnings: list[str] = []
    layouts: tuple[FileLayout, ...] = ()
    together = False
    if proposal is None:
        warnings.append(
            "no array in this file looks like a field (real numbers, a sample axis and 1 to 3 axes of space)"
        )
    else:
        layouts, together = _describe(files, proposal.statement, warnings)
    if layouts:
        warnings += guess.hint_of(tree, layouts[0], stated).warnings
        warnings += _unlike(parts, layouts[0], proposal.statement)
        if not layouts[0].outputs and predicted_by(tree) is None:
            warnings.append("the file holds only inputs or only answers, so it cannot be trained on")
    warnings += _complex(tree)
    statistics = _statistics(layouts[0], warnings) if layouts else ()
    arrays = tuple(array_info(array) for array in tree.arrays.values())
    return Inspection(
        path=str(path) if isinstance(path, str | Path) else ", ".join(path),
        files=tuple(files),
        size=sum(_size(file) for file in files),
        container=tree.container,
        format=found[0] if found else PLAIN,
        candidates=() if "format" in stated else tuple(found[1:]),
        arrays=with_roles(arrays, tree, layouts[0], warnings) if layouts else arrays,
        attributes=tree.attributes,
        layouts=layouts,
        guessed=proposal is not None and bool(proposal.reasons.keys() & {"inputs", "outputs", "axes"}),
        statement=dict(proposal.statement) if proposal else {},
        statistics=statistics,
        notes=(*_remarks(tree, layouts), *sibling_hint(path)),
        warnings=tuple(warnings),
        yaml=yaml_block(layouts[0], proposal, parts or {"file": _shown(path)})
        if together and layouts[0].outputs
        else "",
    )


def _shown(path: str | Path | Sequence[str]) -> str | list[str]:
    return str(path) if isinstance(path, str | Path) else list(path)


def _unlike(parts: Mapping[str, str] | None, layout: FileLayout, statement: Mapping[str, Any]) -> list[str]:
    """What is wrong with the files for validation and testing."""
    found = []
    for key, folder in (parts or {}).items():
        if key != "file":
            try:
                check_alike([layout, describe(find_files(folder)[0], **statement)])
            except UserError as error:
                found.append(str(error))
    return found


def _remarks(tree: StoredTree, layouts: Sequence[FileLayout]) -> list[str]:
    """Sentences about what the files are and how they are taken."""
    remarks = []
    if (model := predicted_by(tree)) is not None and layouts:
        source = tree.attributes["predicted_from"]
        source = ", ".join(map(str, source)) if isinstance(source, list | tuple) else source
        names = ", ".join(array.name for array in layouts[0].arrays)
        remarks.append(f"these are predictions of {model} from {source}, one sample per window: {names}")
    parts = list(dict.fromkeys(part for array in tree.arrays.values() for part in array.parts))
    if parts:
        size = sum(size for _, size, _ in parts) / 1e6
        remarks.append(
            f"the arrays are joined from {len(parts)} files, {size:.4g} MB together, which must stay where they are: "
            f"{Path(parts[0][0]).name} to {Path(parts[-1][0]).name}"
        )
    remarks += dict.fromkeys(note for layout in layouts for note in layout.notes)
    open_sides = [
        side
        for axis in (layouts[0].meta.axes if layouts else ())
        for side in axis.boundary
        if side not in STENCIL_BOUNDARIES
    ]
    if open_sides:
        kinds = " and ".join(dict.fromkeys(open_sides))
        remarks.append(
            f"models with stencils treat the boundary {kinds} as neumann; state data.boundary where another one fits"
        )
    return remarks


def predicted_by(tree: StoredTree) -> str | None:
    """The model whose predictions a file holds; ``None`` where it holds other things."""
    attributes = tree.attributes
    if attributes.get("format") != "katops" or "predicted_from" not in attributes:
        return None
    return str(attributes.get("model", "an unknown model"))


def _describe(
    files: Sequence[Path], statement: dict[str, Any], warnings: list[str]
) -> tuple[tuple[FileLayout, ...], bool]:
    """The layouts of the files, and whether all of them can be read as one data set."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), _MOST_FILES)).astype(int))
    layouts: list[FileLayout] = []
    for number in chosen:
        try:
            layouts.append(describe(files[number], **statement))
        except UserError as error:
            warnings.append(str(error))
            if not number:
                return (), False
    try:
        check_alike(layouts)
    except UserError as error:
        warnings.append(str(error))
        return tuple(layouts), False
    return tuple(layouts), len(layouts) == len(chosen)


def _complex(tree: StoredTree) -> list[str]:
    """That arrays which may be meant as fields are left out."""
    return [
        f"array {array.name!r} holds complex values, which are not read; store their two parts as separate arrays"
        for array in tree.arrays.values()
        if np.dtype(array.dtype).kind == "c" or array.attributes.get("type") == "complex"
    ]


def _statistics(layout: FileLayout, warnings: list[str]) -> tuple[ChannelStatistics, ...]:
    glance = Glance(layout)
    rows = []
    for array in layout.arrays:
        try:
            values, samples = glance.share(array)
        except UserError as error:
            warnings.append(str(error))
            continue
        rows.append(_row(array.name, values, samples))
        if rows[-1].nonfinite:
            warnings.append(
                f"channel {array.name!r} holds {rows[-1].nonfinite} values that are not finite in the "
                f"{rows[-1].samples} samples that were read; training refuses them, and --check lists all such samples"
            )
        elif rows[-1].std == 0.0:
            warnings.append(f"channel {array.name!r} is constant over the samples that were read")
    return tuple(rows)


def _row(name: str, values: np.ndarray, samples: int) -> ChannelStatistics:
    finite = values[np.isfinite(values)]
    known = finite if finite.size else np.full(1, np.nan)
    return ChannelStatistics(
        name=name,
        samples=samples,
        minimum=float(known.min()),
        mean=float(known.mean()),
        maximum=float(known.max()),
        std=float(known.std()),
        nonfinite=values.size - finite.size,
    )


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
