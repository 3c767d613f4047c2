"""The verbs: train, evaluate, predict. The command line calls them, and so can a notebook or a sweep."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from katops.bundle import Bundle, load
from katops.config import ImageRunConfig, RunConfig, TableRunConfig, load_config, parse_config
from katops.distributed import joined
from katops.errors import UserError
from katops.extras import part_of_extra
from katops.plugins import load_plugins
from katops.predictors import ImagePredictor, TablePredictor
from katops.runs import fields, images
from katops.runs.forecasts import Request
from katops.runs.result import RunResult as RunResult
from katops.training.directory import check_directory, is_run
from katops.training.signals import ending_at_once
from katops.training.watching import Watch

AnyRunConfig = RunConfig | ImageRunConfig | TableRunConfig


def train(
    config: AnyRunConfig | str | Path | dict[str, Any],
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_plugins: bool = False,
    console: Console | None = None,
    progress: bool = True,
    watch: Watch | None = None,
) -> RunResult | None:
    """Train, evaluate on the test data and write the report.

    Under ``torchrun`` or ``srun`` the processes train together; the first one writes, prints and has the result, the
    others return ``None``.

    Args:
        config: a checked configuration, the path of a YAML file, or what such a file would hold.
        resume: continue from the last checkpoint of the run's folder, if there is one.
        overwrite: replace a run that is already there.
        allow_plugins: run the Python files listed under ``plugins``.
        console: where to print; a quiet one by default in Python.
        progress: show progress bars and epoch lines.
        watch: told (step, value) after every epoch of the run's own model, or fold; what it raises ends the run.

    Raises:
        UserError: the configuration, the files or their contents do not fit; the folder holds another run; another
            process of the job is gone.
        Preempted: SIGTERM or SIGUSR1 asked for an end; everything is saved, ``resume`` continues.
    """
    run = as_config(config)
    with ending_at_once(), joined() as processes:
        if console is None or not processes.is_first:
            console = Console(quiet=True)
        processes.first(lambda: _check_task(run, processes.size))
        processes.together(lambda: load_plugins(run.plugins, allowed=allow_plugins))
        processes.first(lambda: check_directory(run.directory, resume=resume, overwrite=overwrite))
        progress = progress and processes.is_first
        options = {"resume": resume, "overwrite": overwrite, "console": console, "progress": progress, "watch": watch}
        return _training(run)(run, **options)


def evaluate(
    model: Bundle | str | Path,
    file: str | Path,
    *,
    output: str | Path | None = None,
    split: str = "auto",
    batch_size: int = 16,
    examples: int | None = None,
    rollout: int | None = None,
    times: Sequence[float] | None = None,
    step: float | str | None = None,
    start: int = 0,
    like: str | None = None,
    console: Console | None = None,
) -> Any:
    """Measure a model on data with known answers: fields beside the mean and persistence, images by their classes.

    The result is an :class:`katops.evaluation.Evaluation` of fields, a
    :class:`katops.evaluation.classification_result.ClassificationEvaluation` of images, or a
    :class:`katops.runs.table_rows.TableEvaluation` of the rows of a table.

    Args:
        model: a loaded model, a run folder, a model file or a hub id.
        file: for fields, a file with the channels of the training data. For images, a folder with a folder per class,
            or the data set of the training by its name or ``data.root``. For tables, a CSV file.
        output: folder for ``summary.json``, ``metrics.csv``, figures and ``report.html``; nothing is written without.
        split: "all" samples, or a part of the training data ("train", "validation", "test"); "auto" is the test part
            where the data are those of the training, so that the error is never that of samples seen in training.
        batch_size: samples per forward pass.
        examples: samples to show in the report; 3 fields or 12 images by default.
        rollout: frames of one rollout in each trajectory, whose predictions are the model's next inputs; every frame is
            compared. The windows of the training where ``None``.
        times: lead times at which to predict in each trajectory, for models that take the time; the frames at their
            common distances are compared.
        step: longest step on the way to a time: a lead time, or "auto" for the one that did best on the validation
            samples of the training; each time is predicted in one step where ``None``.
        start: first frame of the input of rollouts and of predictions at chosen times.
        like: of a model that was trained on several data sets, the name of the one whose levels, times and channels the
            file has; the one that it is or resembles most where ``None``.
        console: where to print; a quiet one by default in Python.

    Raises:
        UserError: the data lack a channel or have a class that the model does not know, or ``split`` asks for a part
            of other data.
    """
    console = console or Console(quiet=True)
    bundle = _as_bundle(model)
    output = None if output is None else Path(output)
    if output is not None and is_run(output):
        raise UserError(f"{str(output)!r} holds a training run, whose report would be replaced; choose another folder")
    forward = _request(bundle, rollout, times, step, start, like)
    measure, usual = _evaluation(bundle)
    return measure(
        bundle,
        file,
        output=output,
        split=split,
        batch_size=batch_size,
        examples=usual if examples is None else examples,
        console=console,
        **forward,
    )


def predict(
    model: Bundle | str | Path,
    file: str | Path,
    output: str | Path,
    *,
    batch_size: int = 16,
    overwrite: bool = False,
    rollout: int | None = None,
    times: Sequence[float] | None = None,
    step: float | str | None = None,
    start: int = 0,
    like: str | None = None,
    console: Console | None = None,
) -> Path:
    """Apply a model to every window of a file of fields, to every image of a folder, or to every row of a CSV file.

    Args:
        model: a loaded model, a run folder, a model file or a hub id.
        file: the input fields, an image or a folder of images at any depth, or a CSV file; answers are not needed.
        output: file to write: HDF5 in the katops layout and in physical units for fields, CSV for images and tables.
        batch_size: samples per forward pass.
        overwrite: replace ``output`` if it exists.
        rollout: frames to predict from one window of each trajectory, the predictions being the model's next inputs.
        times, step: lead times to predict at, and the longest step on the way to them, see :func:`evaluate`.
        start: first frame of the input of rollouts and of predictions at chosen times.
        like: of a model that was trained on several data sets, the name of the one whose levels, times and channels the
            file has; the one that it is or resembles most where ``None``.
        console: where to print; a quiet one by default in Python.

    Raises:
        UserError: the file lacks an input channel, there is no image, or ``output`` exists or is the input.
    """
    console = console or Console(quiet=True)
    bundle = _as_bundle(model)
    forward = _request(bundle, rollout, times, step, start, like)
    return _prediction(bundle)(
        bundle, file, Path(output), batch_size=batch_size, overwrite=overwrite, console=console, **forward
    )


def _request(
    bundle: Bundle,
    rollout: int | None,
    times: Sequence[float] | None,
    step: float | str | None,
    start: int,
    like: str | None,
) -> dict[str, Request]:
    """The arguments for runs on fields; images and tables have no time."""
    request = Request(rollout, None if times is None else tuple(times), step, start, like)
    if isinstance(bundle.predictor, ImagePredictor | TablePredictor):
        if request.given or like is not None:
            kind = "classifies images" if isinstance(bundle.predictor, ImagePredictor) else "is of a table"
            raise UserError(f"rollouts, times and data sets to be like are for fields; this model {kind}")
        return {}
    return {"request": request}


def _training(run: AnyRunConfig) -> Callable[..., RunResult]:
    if isinstance(run, TableRunConfig):
        return _tables().train_tables
    return images.train_images if isinstance(run, ImageRunConfig) else fields.train_fields


def _evaluation(bundle: Bundle) -> tuple[Callable[..., Any], int]:
    """What measures this kind of model, and how many examples it shows where nothing is said."""
    if isinstance(bundle.predictor, TablePredictor):
        return _tables().evaluate_tables, _tables().EXAMPLES
    if isinstance(bundle.predictor, ImagePredictor):
        return images.evaluate_images, images.EXAMPLES
    return fields.evaluate_fields, fields.EXAMPLES


def _prediction(bundle: Bundle) -> Callable[..., Path]:
    if isinstance(bundle.predictor, TablePredictor):
        return _tables().predict_tables
    return images.predict_images if isinstance(bundle.predictor, ImagePredictor) else fields.predict_fields


def _tables() -> ModuleType:
    return tables_part("katops.runs.tables")


def tables_part(module: str) -> ModuleType:
    """A module that works on tables, which needs packages of an extra.

    Raises:
        UserError: one of them is not installed.
    """
    return part_of_extra(module, "tables", ("mapie", "pandas", "sklearn", "sympy"), "tables")


def _check_task(run: AnyRunConfig, processes: int) -> None:
    if processes > 1 and isinstance(run, TableRunConfig):
        raise UserError("task: tables runs in one process; start it without torchrun or srun")


def as_config(config: AnyRunConfig | str | Path | dict[str, Any]) -> AnyRunConfig:
    """The checked configuration that a path, the contents of such a file, or a configuration itself stands for."""
    if isinstance(config, AnyRunConfig):
        return config
    return parse_config(config) if isinstance(config, dict) else load_config(config)


def _as_bundle(model: Bundle | str | Path) -> Bundle:
    return model if isinstance(model, Bundle) else load(model)
