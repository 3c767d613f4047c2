"""Data sets of partial differential equations, generated from published recipes instead of downloaded."""

import inspect
from pathlib import Path
from typing import Any

from katops.errors import UserError, did_you_mean
from katops.generators.advection import Advection as Advection
from katops.generators.allen_cahn import AllenCahn as AllenCahn
from katops.generators.burgers import Burgers as Burgers
from katops.generators.darcy import Darcy as Darcy
from katops.generators.diffusion_reaction import DiffusionReaction as DiffusionReaction
from katops.generators.euler import Euler as Euler
from katops.generators.helmholtz import Helmholtz as Helmholtz
from katops.generators.layouts import KATOPS
from katops.generators.navier_stokes import NavierStokes as NavierStokes
from katops.generators.parts import Part
from katops.generators.poisson import Poisson as Poisson
from katops.generators.problem import Problem
from katops.generators.shallow_water import ShallowWater as ShallowWater
from katops.generators.wave import Wave as Wave
from katops.generators.writer import Progress, write
from katops.registry import PROBLEMS


def create_problem(problem: str, **options: Any) -> Problem:
    """The problem registered under ``problem``, with its options.

    Raises:
        UserError: the problem or an option is unknown, or an option is of the wrong type or out of range.
    """
    factory = PROBLEMS[problem].factory
    allowed = inspect.signature(factory).parameters
    for option in options:
        if option not in allowed:
            raise UserError(
                f"{problem}: unknown option {option!r}{did_you_mean(option, allowed)} Allowed: {', '.join(allowed)}."
            )
    return factory(**options)


def generate(
    problem: str,
    output: str | Path,
    *,
    samples: int,
    seed: int = 0,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    shard: str | None = None,
    layout: str = KATOPS,
    **options: Any,
) -> Path:
    """Generate a data set: ``generate("darcy", "darcy.h5", samples=1200, resolution=64)``.

    Sample i depends on the problem, its options, the seed and i only. An interrupted call is continued by the same
    call; see :func:`katops.generators.writer.write` for what the other arguments mean.

    Args:
        problem: a registered problem, such as "darcy".
        output: the HDF5 file to write (docs/data_format.md).
        samples: number of samples.
        seed: 0 <= seed < 2^64.
        workers: number of threads.
        overwrite: replace an ``output`` that holds something else.
        progress: called with (samples done, samples wanted).
        shard: "3/16" makes the third of 16 parts, in a file of its own (``darcy-03-of-16.h5``), for job arrays. A
            folder or a pattern of these files is read as one data set, and so is the file that
            :func:`katops.generators.merge.merge` joins them in.
        layout: "katops", "pdebench", "well", "pdegym" or "fno".
        **options: options of the problem, such as ``resolution`` and ``variant``.

    Returns:
        The path of the file.

    Raises:
        UserError: the problem or an option is unknown, a value is out of range, or the file cannot be written.
    """
    part = Part.parse(shard) if shard is not None else None
    recipe = create_problem(problem, **options)
    return write(recipe, samples, seed, output, workers, None, progress, overwrite, part, layout)
