"""Data sets of partial differential equations, generated from published recipes instead of downloaded."""

import inspect
from pathlib import Path
from typing import Any

from katops.errors import UserError, did_you_mean
from katops.generators.darcy import Darcy as Darcy
from katops.generators.problem import Problem
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
        **options: options of the problem, such as ``resolution`` and ``variant``.

    Returns:
        The path of the file.

    Raises:
        UserError: the problem or an option is unknown, a value is out of range, or the file cannot be written.
    """
    return write(create_problem(problem, **options), samples, seed, output, workers, None, progress, overwrite)
