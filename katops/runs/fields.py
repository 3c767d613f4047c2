"""Runs of the task ``operator``: training, evaluation and prediction on files of fields."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from katops import generators
from katops.bundle import Bundle, load, save
from katops.config import RunConfig
from katops.data.adjustment import Adjustment
from katops.data.fingerprints import fingerprint
from katops.data.loader import batch_loader
from katops.data.pairs import Pairs
from katops.data.predictions import write_predictions
from katops.data.windows import WHOLE_TRAJECTORY, Window
from katops.distributed import current
from katops.errors import UserError
from katops.evaluation import Evaluation, Semigroup, semigroup
from katops.evaluation import evaluate as measure
from katops.fields import FieldMeta
from katops.models.baselines import MeanField, Persistence
from katops.predictors.adjusted import adjusted
from katops.predictors.keeping import keeping
from katops.predictors.rollout import Rollout, check_channels, rollout_window
from katops.progress import bar
from katops.report import print_metrics, semigroup_sentence, write_report
from katops.runs.best_step import compare_steps
from katops.runs.data_summary import data_lines, process_lines, unseen_parameters
from katops.runs.forecasts import (
    Request,
    comparison_window,
    direct_forecast,
    input_window,
    predictor_at_times,
    predictor_of,
)
from katops.runs.model_data import ModelData, learned_outputs, mesh_warning, open_for_model, part_windows
from katops.runs.result import RunResult, model_card, model_name, warn
from katops.training.data import generate_missing, open_run_data
from katops.training.directory import LOG_FILE, remove_run
from katops.training.fit import check_run, rollout_data, train_model
from katops.training.run_data import HeldOut, RunData
from katops.training.trackers import Trackers
from katops.training.watching import Watch

EXAMPLES = 3


def train_fields(
    run: RunConfig, *, resume: bool, overwrite: bool, console: Console, progress: bool, watch: Watch | None = None
) -> RunResult | None:
    """Train, evaluate on the test files and write the report; see :func:`katops.api.train`."""
    processes = current()
    if run.data.generate:
        problem = generators.create_problem(run.data.generate.problem, **run.data.generate.options)
        processes.together(lambda: check_run(run, problem.meta))
    with bar(console, "generating", progress and run.data.generate is not None) as report:
        processes.first(lambda: generate_missing(run.data, report))
    data, training, rollouts, trajectories = processes.together(lambda: _opened(run))
    for line in process_lines(run.train):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for line in data_lines(data):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with bar(console, "reading statistics", progress) as report:
        fit = processes.first(lambda: data.fit(run.data.normalizer, report))
    # Nothing that can be wrong with the input is left: only now is an older run removed.
    processes.first(lambda: _make_room(run.directory, overwrite))
    tell = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    with Trackers(run.train.trackers, run.directory, run.name, run.spelled_out(), tell) as trackers:
        options = {"resume": resume, "console": console, "progress": progress, "watch": watch}
        bundle = train_model(run, data, training, fit, trackers, **options)
        result = processes.alone(lambda: _evaluate_run(run, data, bundle, rollouts, trajectories, console, progress))
        if result is not None:
            trackers.results({name: found.metrics[found.model] for name, found in result.evaluations.items()})
    return result


def _opened(run: RunConfig) -> tuple[RunData, RunData, list[HeldOut], list[HeldOut]]:
    """The data, as the training reads them, and the test sets as rollouts and as whole trajectories."""
    data = open_run_data(run.data, run.train.batch_size)
    check_run(run, data.meta)
    return data, rollout_data(run, data), _rollouts(run, data), _trajectories(run, data)


def _make_room(directory: Path, overwrite: bool) -> None:
    if overwrite:
        remove_run(directory)
    directory.mkdir(parents=True, exist_ok=True)


def _evaluate_run(
    run: RunConfig,
    data: RunData,
    bundle: Bundle,
    rollouts: list[HeldOut],
    trajectories: list[HeldOut],
    console: Console,
    progress: bool,
) -> RunResult:
    """Measure the trained model on everything that was asked for, and report."""
    if any(isinstance(part.dataset.window, Pairs) for part in data.parts or (data,)):
        bundle.header["training"]["steps"] = compare_steps(bundle, data, run.train.batch_size)
    evaluations = {test.name: _evaluate_set(bundle, test, run, console, progress) for test in data.tests}
    for test in rollouts:
        evaluations[test.name] = _evaluate_set(bundle, test, run, console, progress)
    steps = {test.name: _compare_steps(bundle, test, run, console, progress) for test in trajectories}
    bundle = _with_metrics(bundle, run.directory, evaluations)
    summary = _summary(run, data, bundle)
    warn(console, summary["warnings"])
    write_report(
        run.directory,
        evaluations=evaluations,
        semigroups=steps,
        summary=summary,
        log_csv=run.directory / LOG_FILE,
        config_yaml=run.to_yaml(),
    )
    for name, evaluation in evaluations.items():
        print_metrics(console, evaluation, title=name)
    for name, found in steps.items():
        console.print(semigroup_sentence(found, name), markup=False, highlight=False)
    return RunResult(run.directory, bundle, evaluations)


def evaluate_fields(
    bundle: Bundle,
    file: str | Path,
    *,
    output: Path | None,
    split: str,
    batch_size: int,
    examples: int,
    request: Request,
    console: Console,
) -> Evaluation:
    """Measure on a file with known answers; see :func:`katops.api.evaluate`."""
    window = partial(comparison_window, request) if request.given else None
    found = open_for_model(bundle, file, window=window, like=request.like)
    dataset, bundle = found.dataset, _keeping(bundle, found.reading.get("mask", {}))
    windows, part = part_windows(found, split)
    warnings = _warnings(bundle, found)
    warn(console, warnings)
    batches = batch_loader(dataset, windows, batch_size=batch_size)
    part = f"{part}, {request.words()}" if request.given else part
    predictor = _predictor(bundle, dataset.meta.steps_out, request.in_learned_time(found.adjustment.time_factor))
    with bar(console, f"evaluating {part}", True) as report:
        evaluation = _measure(
            bundle, predictor, found.adjustment, dataset.meta, batches, len(windows), examples, report
        )
    print_metrics(console, evaluation, title=f"{Path(file).name} ({part})")
    if output is not None:
        summary = {
            "title": f"{model_name(bundle)} on {Path(file).name}",
            "data": {"file": str(file), "part": part, "fingerprint": fingerprint(dataset.layouts)},
            "model": model_card(bundle),
            "training": bundle.header.get("training", {}),
            "versions": bundle.header.get("versions", {}),
            "warnings": warnings,
        }
        write_report(output, evaluations={Path(file).name: evaluation}, summary=summary)
    return evaluation


def predict_fields(
    bundle: Bundle,
    file: str | Path,
    output: Path,
    *,
    batch_size: int,
    overwrite: bool,
    request: Request,
    console: Console,
) -> Path:
    """Write a file in the katops layout; see :func:`katops.api.predict`.

    Coordinates, boundary conditions, units and names are kept; the grid may be another one than in training, which is
    warned about. Memory does not grow with the file, and ``output`` appears when it is whole.
    """
    window = (lambda training, _: input_window(request, training)) if request.given else None
    found = open_for_model(bundle, file, outputs=False, window=window, like=request.like)
    dataset, bundle = found.dataset, _keeping(bundle, found.reading.get("mask", {}))
    if output.exists() and (not overwrite or any(output.samefile(layout.path) for layout in dataset.layouts)):
        raise UserError(f"{str(output)!r} exists already; choose another name or --overwrite (never the input itself)")
    warn(console, _warnings(bundle, found))
    batches = batch_loader(dataset, batch_size=batch_size)
    steps = dataset.meta.steps_out if request.rollout is None else request.rollout
    if request.given:
        predictor = predictor_at_times(request.in_learned_time(found.adjustment.time_factor), bundle)
        steps = len(request.times) if request.times else steps
    else:
        predictor = _predictor(bundle, steps, request)
    predictor = adjusted(predictor, found.adjustment, bundle.meta)
    outputs = learned_outputs(found, bundle.meta)

    def predictions() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        bundle.predictor.eval()
        device = next(bundle.model.parameters()).device
        for batch in batches:
            given = batch.to(device)
            with torch.inference_mode():
                fields = predictor(given.x, given.time, *(() if given.constants is None else (given.constants,)))
            yield fields.cpu()[:, :, outputs].numpy(), batch.index.numpy()

    meta = replace(bundle.meta, steps_out=steps, outputs=tuple(bundle.meta.outputs[place] for place in outputs))
    provenance = {"model": model_name(bundle), "predicted_from": Path(file).name}
    with bar(console, "predicting", True) as report:
        return write_predictions(output, dataset, meta, predictions(), provenance, report, times=request.times)


def _predictor(bundle: Bundle, frames: int, request: Request | None = None) -> Callable[..., Any]:
    """What gives so many evenly spaced frames: one call, or what was asked for, or a rollout, or one call for each."""
    if request is not None and request.given:
        return predictor_of(request, bundle, frames)
    if frames == bundle.meta.steps_out:
        return bundle.predictor
    return direct_forecast(bundle, frames)


def _keeping(bundle: Bundle, mask: Mapping[str, str | None]) -> Bundle:
    """The model for data whose masked channels stay what they are in rollouts."""
    return replace(bundle, predictor=keeping(bundle.predictor, mask))


def _warnings(bundle: Bundle, found: ModelData) -> list[str]:
    """What may be wrong with the errors and predictions on a file."""
    return [warning for warning in (mesh_warning(bundle, found.dataset), found.doubt) if warning]


def _with_metrics(bundle: Bundle, directory: Path, evaluations: dict[str, Evaluation]) -> Bundle:
    """The model file once more, now with its measured errors."""
    metrics = {name: evaluation.to_dict()["metrics"] for name, evaluation in evaluations.items()}
    save(directory, bundle.predictor, mean_target=bundle.mean_target, **{**bundle.header, "metrics": metrics})
    return load(directory)


def _rollouts(run: RunConfig, data: RunData) -> list[HeldOut]:
    """The test sets once more, with one rollout in each trajectory, where the report is to show them.

    Raises:
        UserError: a trajectory is too short.
    """
    wanted = run.report.rollout
    if wanted is None:
        return []
    return [
        test.in_windows(
            f"{test.name}, rollout of {wanted.frames} frames",
            rollout_window(_of_calls(test), wanted.frames, wanted.start),
        )
        for test in data.tests
    ]


def _of_calls(test: HeldOut) -> Window:
    """The frames that the calls of a rollout are apart: those of the training, in each data set of its own."""
    window = test.dataset.window
    return Window(every=window.every) if test.direct else window


def _trajectories(run: RunConfig, data: RunData) -> list[HeldOut]:
    """The test trajectories as a first frame and all later ones, where steps of different lengths are compared.

    Raises:
        UserError: the model takes or gives several frames, an input is not predicted, a trajectory is too short.
    """
    if not run.report.semigroup:
        return []
    window = data.dataset.window
    check_channels(data.meta)
    if (window.n_in, window.n_out) != (1, 1):
        raise UserError(
            f"report.semigroup needs a model that takes one frame and gives one; data.window has n_in {window.n_in} "
            f"and n_out {window.n_out}"
        )
    windows = [_whole(test) for test in data.tests]
    if min(window.n_out for window in windows) < 2:
        raise UserError("report.semigroup needs trajectories of at least 3 frames, so that there are two steps in them")
    return [test.in_windows(test.name, window) for test, window in zip(data.tests, windows, strict=True)]


def _whole(test: HeldOut) -> Window:
    """A first frame and all later ones; of pairs, as far as lead times are learned."""
    window = test.dataset.window
    if test.direct:
        return window
    frames = min(int(layout.frames.min()) for layout in test.dataset.layouts)
    return Window(n_out=(frames - 1) // window.every, every=window.every, stride=WHOLE_TRAJECTORY)


def _compare_steps(bundle: Bundle, test: HeldOut, run: RunConfig, console: Console, progress: bool) -> Semigroup:
    bundle = _keeping(bundle, getattr(test.dataset, "mask", {}))
    batches = batch_loader(test.dataset, test.windows, batch_size=run.train.batch_size, workers=run.data.workers)
    with bar(console, f"comparing steps on {test.name}", progress) as report:
        advance = _counting(len(test.windows), report)
        predictor = adjusted(bundle.predictor.eval(), test.adjustment, bundle.meta)
        return semigroup(predictor, batches, test.dataset.meta, progress=advance)


def _evaluate_set(bundle: Bundle, test: HeldOut, run: RunConfig, console: Console, progress: bool) -> Evaluation:
    bundle = _keeping(bundle, getattr(test.dataset, "mask", {}))
    batches = batch_loader(test.dataset, test.windows, batch_size=run.train.batch_size, workers=run.data.workers)
    frames = test.dataset.meta.steps_out
    one_call = frames == bundle.meta.steps_out or test.direct
    predictor = _predictor(bundle, frames) if one_call else Rollout(bundle.predictor, frames)
    with bar(console, f"evaluating {test.name}", progress) as report:
        total = len(test.windows)
        return _measure(
            bundle, predictor, test.adjustment, test.dataset.meta, batches, total, run.report.examples, report
        )


def _measure(
    bundle: Bundle,
    predictor: Callable[..., Any],
    adjustment: Adjustment,
    meta: FieldMeta,
    batches: Any,
    total: int,
    examples: int,
    report: Callable[[int, int], None],
) -> Evaluation:
    """The model and its baselines on batches in physical units."""
    bundle.predictor.eval()
    predictors = {
        name: adjusted(each, adjustment, meta)
        for name, each in {"model": predictor, **_baselines(bundle, meta)}.items()
    }
    return measure(predictors, batches, meta, examples=examples, progress=_counting(total, report))


def _counting(total: int, report: Callable[[int, int], None]) -> Callable[[int], None]:
    """From the number of samples of each batch to (done, total)."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(done, total)

    return advance


def _baselines(bundle: Bundle, meta: FieldMeta) -> dict[str, Callable[..., Any]]:
    """The mean of the training targets, and persistence where the outputs are among the inputs.

    In a rollout, which leaves the frames of the training behind, the mean is taken over these too.
    """
    baselines: dict[str, nn.Module] = {}
    if bundle.mean_target is not None:
        mean = bundle.mean_target
        if len(mean) != meta.steps_out:
            mean = mean.mean(0, keepdim=True).expand(meta.steps_out, *mean.shape[1:])
        baselines["mean"] = MeanField(mean.flatten(0, 1), meta.axes)
    if {channel.name for channel in meta.outputs} <= {channel.name for channel in meta.inputs}:
        baselines["persistence"] = Persistence(meta)
    return {name: _unfolded(baseline, meta) for name, baseline in baselines.items()}


def _unfolded(baseline: nn.Module, meta: FieldMeta) -> Callable[..., torch.Tensor]:
    """A baseline on folded frames as a predictor on (batch, frame, channel, \\*space)."""
    shape = (meta.steps_out, len(meta.outputs))

    def predict(x: torch.Tensor, time: torch.Tensor | None, constants: torch.Tensor | None = None) -> torch.Tensor:
        folded = x.flatten(1, 2)
        return baseline(folded if constants is None else torch.cat([folded, constants], 1), time).unflatten(1, shape)

    return predict


def _summary(run: RunConfig, data: RunData, bundle: Bundle) -> dict[str, Any]:
    """What ``summary.json`` says beside the measurements."""
    header = bundle.header["data"]
    train = run.train
    return {
        "title": f"{run.name}: {model_name(bundle)} on {data.meta.name}",
        "data": {
            **{key: header[key] for key in ("file", "samples", "fingerprint")},
            "split": header["split"],
            "test_files": [str(test.path) for test in data.tests],
            "normalizer": run.data.normalizer,
            "constant_channels": list(bundle.predictor.normalizer.constant_channels),
        },
        "warnings": [
            *unseen_parameters(data),
            *(
                f"{test.name}: {warning}"
                for test in data.tests
                if (warning := mesh_warning(bundle, test.dataset)) is not None
            ),
        ],
        "model": model_card(bundle),
        "training": {
            "optimizer": {"adamw": "AdamW", "adam": "Adam"}[train.optimizer],
            "learning_rate": train.learning_rate,
            "schedule": train.schedule.name,
            "batch_size": train.batch_size,
            "loss": train.loss.name,
            "seed": run.seed,
            **bundle.header["training"],
        },
        "versions": bundle.header["versions"],
    }
