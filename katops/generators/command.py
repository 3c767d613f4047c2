"""``katops generate``: the file, its data card and its picture; and the list of problems."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from rich.console import Console, Group
from rich.table import Table

from katops.errors import UserError, did_you_mean
from katops.generators import create_problem
from katops.generators.merge import merge
from katops.generators.parts import JOINED, Part
from katops.generators.writer import available_cores, root_attributes, write
from katops.hardware import device_name
from katops.progress import bar
from katops.registry import PROBLEMS

if TYPE_CHECKING:
    from katops.generators.card import Cost


class Request(NamedTuple):
    """The options of the command, see ``katops generate --help``."""

    problem: str
    output: Path
    samples: int
    seed: int
    workers: int | None
    shard: str | None
    layout: str
    card: bool
    plot: bool
    overwrite: bool


def listing(pattern: str = "") -> Group:
    """A table of the problems, and one of their options with defaults.

    Args:
        pattern: shell pattern of names, "" for all.

    Raises:
        UserError: no problem matches.
    """
    names = PROBLEMS.names(pattern or "*")
    if not names:
        raise UserError(f"no problem matches {pattern!r}{did_you_mean(pattern, PROBLEMS.names())}")
    problems = Table("problem", "what it is", "variants", "paper", box=None, header_style="bold")
    options = Table("problem", "options and their defaults", box=None, header_style="bold")
    for name in names:
        record = PROBLEMS[name]
        parameters = inspect.signature(record.factory).parameters.values()
        problems.add_row(name, record.summary, ", ".join(getattr(record.factory, "variants", ())), record.paper)
        options.add_row(name, ", ".join(f"{parameter.name} {parameter.default}" for parameter in parameters))
    return Group(problems, "", options)


def run(request: Request, options: dict[str, Any], console: Console) -> Path:
    """Make what is asked for and say where it is.

    Args:
        request: the options of the command.
        options: those of the problem.
        console: to write to.

    Raises:
        UserError: see :func:`katops.generators.writer.write`.
    """
    part = Part.parse(request.shard) if request.shard is not None else Part()
    _check_suffix(request.output, request.card, request.plot)
    problem = create_problem(request.problem, **options)
    indices = part.indices(request.samples)
    there = part.path(request.output).exists() and not request.overwrite
    workers = request.workers or available_cores()
    with bar(console, f"generating {request.problem}") as show:
        found: list[int] = []

        def progress(done: int, total: int) -> None:
            found.append(done)
            show(done, total)

        began = perf_counter()
        path = write(
            problem,
            request.samples,
            request.seed,
            request.output,
            workers,
            progress=progress,
            overwrite=request.overwrite,
            part=part,
            layout=request.layout,
        )
        seconds = perf_counter() - began
    already = ", already complete" if there else ""
    console.print(f"{path}: {len(indices)} samples of {request.problem}{already}", soft_wrap=True)
    picture = _draw(path, console) if request.plot else None
    if request.card:
        from katops.generators.card import Cost

        device = getattr(problem, "device", torch.device("cpu"))
        cost = Cost(len(indices) - found[0], seconds, workers, device_name(device))
        _write_card(path, cost, picture, console)
    return path


def merge_shards(
    output: Path, shards: Sequence[str], console: Console, *, card: bool, plot: bool, overwrite: bool
) -> Path:
    """Join shards and say what came of it.

    Args:
        output: the file to write.
        shards: the files; those that are named after ``output`` where empty.
        console: to write to.
        card, plot, overwrite: see ``katops generate --help``.

    Raises:
        UserError: see :func:`katops.generators.merge.merge`.
    """
    _check_suffix(output, card, plot)
    path = merge(output, shards, overwrite=overwrite)
    found = root_attributes(path)
    joined = f"joined from {found[JOINED]} shards" if JOINED in found else "already complete in one file"
    console.print(f"{path}: {found['samples']} samples of {found['name']}, {joined}", soft_wrap=True)
    picture = _draw(path, console) if plot else None
    if card:
        _write_card(path, None, picture, console)
    return path


def _check_suffix(output: Path, card: bool, plot: bool) -> None:
    for wanted, suffix in ((card, ".md"), (plot, ".png")):
        if wanted and output.suffix == suffix:
            raise UserError(f"{str(output)!r} is where the {suffix} file goes; give the data another suffix")


def _write_card(path: Path, cost: "Cost | None", picture: Path | None, console: Console) -> None:
    from katops.generators.card import write_card

    console.print(f"card    {write_card(path, cost, picture)}", soft_wrap=True)


def _draw(path: Path, console: Console) -> Path:
    from katops.data.formats import describe
    from katops.data.inspection.plot import plot

    picture = plot(describe(path), path.with_suffix(".png"))
    console.print(f"picture {picture}", soft_wrap=True)
    return picture
