"""Predictions for a folder of images, as a table."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from katops.bundle import Bundle
from katops.data.image_files import find_images, read_endings
from katops.errors import UserError
from katops.files import atomic_path
from katops.predictors.images import read_image
from katops.progress import bar
from katops.runs.result import warn
from katops.training.trials import evaluation_device

MANY_CLASSES = 20
"""Up to this many classes every one has a column; of more, the five most probable are given."""
TOP = 5
HDF5_ENDINGS = (".h5", ".hdf5", ".hdf")


def predict_images(
    bundle: Bundle, source: str | Path, output: Path, *, batch_size: int, overwrite: bool, console: Console
) -> Path:
    """Write a row per image: file, label, probability, then the probability of each class or the next most probable.

    An image that cannot be read has a row with its name alone, and is named on the console; so are files that look
    like images but have an ending that is not read. Names that start with "." are not looked at.

    Raises:
        UserError: there is no image, or ``output`` exists or has a name for HDF5.
    """
    if output.suffix.lower() in HDF5_ENDINGS:
        raise UserError(f"predictions for images are a table, not HDF5; give a name such as {output.stem + '.csv'!r}")
    files, root, warnings = _image_files(Path(source))
    if output.exists() and (not overwrite or output.samefile(source)):
        raise UserError(f"{str(output)!r} exists already; choose another name or --overwrite (never the input itself)")
    warn(console, warnings)
    classes = bundle.predictor.classes
    bundle.model.to(evaluation_device())
    unreadable: list[str] = []
    columns = _columns(classes)
    with (
        atomic_path(output) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as table,
        bar(console, "predicting", True) as report,
    ):
        writer = csv.writer(table)
        writer.writerow(columns)
        for start in range(0, len(files), batch_size):
            batch = files[start : start + batch_size]
            rows = _rows(bundle, batch, root, unreadable)
            writer.writerows([*row, *[""] * (len(columns) - len(row))] for row in rows)
            report(start + len(batch), len(files))
    bundle.model.cpu()
    warn(console, [f"{text}; its row is empty" for text in unreadable])
    return output


def _image_files(source: Path) -> tuple[list[Path], Path, tuple[str, ...]]:
    """The images, the folder that their names are relative to, and what is to be said about them."""
    if source.is_file():
        return [source], source.parent, ()
    if not source.is_dir():
        raise UserError(f"there is no image and no folder {str(source)!r}")
    found = find_images(source)
    if not found.images:
        raise UserError(f"the folder {str(source)!r} holds no images; katops reads {', '.join(read_endings())}")
    return sorted(found.images), source, found.warnings


def _columns(classes: tuple[str, ...]) -> list[str]:
    if len(classes) <= MANY_CLASSES:
        return ["file", "label", "probability", *classes]
    more = [f"{kind}_{place}" for place in range(2, TOP + 1) for kind in ("label", "probability")]
    return ["file", "label", "probability", *more]


def _rows(bundle: Bundle, files: list[Path], root: Path, unreadable: list[str]) -> Iterator[list[Any]]:
    images: dict[Path, Any] = {}
    for file in files:
        try:
            images[file] = read_image(file)
        except UserError as error:
            unreadable.append(str(error))
    probabilities = bundle.predict(list(images.values()), batch_size=max(len(images), 1))
    by_file = dict(zip(images, probabilities, strict=True))
    for file in files:
        name = file.relative_to(root).as_posix()
        yield [name, *_cells(by_file[file], bundle.predictor.classes)] if file in by_file else [name]


def _cells(probabilities: Tensor, classes: tuple[str, ...]) -> list[Any]:
    best = torch.topk(probabilities, min(TOP, len(classes)))
    ranked = [(classes[index], f"{value:.6g}") for value, index in zip(*map(Tensor.tolist, best), strict=True)]
    if len(classes) <= MANY_CLASSES:
        return [*ranked[0], *(f"{value:.6g}" for value in probabilities.tolist())]
    return [cell for pair in ranked for cell in pair]
