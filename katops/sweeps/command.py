"""``katops sweep``: many trainings of one configuration with other values, and which of them are best."""

from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console

from katops.api import AnyRunConfig, as_config
from katops.distributed.launchers import is_one_of_several
from katops.errors import UserError
from katops.extras import part_of_extra
from katops.plugins import load_plugins
from katops.sweeps.plan import Plan, Pruner
from katops.sweeps.space import read_space

Engine = Literal["optuna", "ray"]


def sweep(
    config: AnyRunConfig | str | Path | dict[str, Any],
    space: str | Path | dict[str, Any],
    *,
    trials: int,
    output: str | Path | None = None,
    workers: int = 1,
    engine: Engine = "optuna",
    storage: str | None = None,
    seed: int = 0,
    pruner: Pruner = "median",
    allow_plugins: bool = False,
    console: Console | None = None,
) -> Any:
    """Train a configuration with other values of some of its keys, and report which values are best.

    The same call continues a sweep that was ended, and joins one that runs on another machine: trials are run once.

    Args:
        config: what ``katops train`` takes: a checked configuration, the path of a YAML file, or what it would hold.
        space: the varied keys, a YAML file or what it would hold: key -> list of values, or a range
            ``{low: 1e-4, high: 1e-2, log: true}``.
        trials: how many there are in the end.
        output: folder of the sweep; ``sweeps/NAME`` by default.
        workers: trials at a time: processes of this machine, or tasks of the Ray cluster. More than one process needs a
            script whose start is guarded by ``if __name__ == "__main__"``.
        engine: who runs the trials, processes of this machine or a Ray cluster.
        storage: address of a database for the study; a journal file in the folder where ``None``.
        seed: of the values that are tried.
        pruner: what ends bad trials early.
        allow_plugins: run the Python files listed under ``plugins`` of the configuration.
        console: where to print; a quiet one by default.

    Returns:
        the :class:`katops.sweeps.results.SweepResult`.

    Raises:
        UserError: the configuration or the space has a mistake, the folder holds something else, a package is missing,
            the disk is full, or all trials fail.
        Preempted: SIGTERM or SIGUSR1 asked for an end; the same call continues.
    """
    console = console or Console(quiet=True)
    for name, given, allowed in (("engine", engine, get_args(Engine)), ("pruner", pruner, get_args(Pruner))):
        if given not in allowed:
            raise UserError(f"{name} should be {' or '.join(allowed)}; given: {given!r}")
    for name, count in (("trials", trials), ("workers", workers)):
        if count < 1:
            raise UserError(f"{name} should be at least 1; given: {count}")
    _check_alone()
    base = as_config(config)
    load_plugins(base.plugins, allowed=allow_plugins)
    directory = Path(output) if output else Path("sweeps") / base.name
    plan = Plan(directory, base, read_space(space, base), trials, seed, pruner, storage, allow_plugins)
    return part_of_extra("katops.sweeps.running", "sweep", ("optuna",), "sweeps").run(plan, workers, engine, console)


def _check_alone() -> None:
    """Refuse processes of torchrun or srun, which would train one model together."""
    if is_one_of_several():
        raise UserError(
            "a sweep starts its own processes (--workers, or several jobs on one folder), and each trial has one; "
            "start it without torchrun, or with one task per srun"
        )
