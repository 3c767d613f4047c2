"""Runs of the task ``image_classification``: training, evaluation and prediction on labelled images."""

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from katops.bundle import Bundle, load, save
from katops.config import ImageDataConfig, ImageRunConfig
from katops.config.images import FOLDER
from katops.data.images import folder
from katops.data.preprocessing import Preprocessing
from katops.distributed import current
from katops.errors import UserError
from katops.evaluation.activations import record_activations
from katops.evaluation.classification import evaluate_classifier
from katops.evaluation.classification_result import ClassificationEvaluation
from katops.files import write_text
from katops.predictors.classifiers import resolve_preprocessing
from katops.progress import bar
from katops.report.classification import write_classification_report
from katops.report.classification_tables import Trial as TrialRow
from katops.report.classification_tables import print_classification
from katops.runs.data_summary import process_lines
from katops.runs.image_predictions import predict_images as predict_images
from katops.runs.replacement import replacing
from katops.runs.result import SPLITS, RunResult, model_card, model_name, warn
from katops.training.directory import CONFIG_FILE, LOG_FILE
from katops.training.image_data import MOST_LISTED, ImageData, ImagePart, open_image_data
from katops.training.image_optim import check_optimizer
from katops.training.resume import check_same_run
from katops.training.trackers import check_trackers
from katops.training.trainer import check_device
from katops.training.trials import check_trials, evaluation_device, plan_trials, run_trial
from katops.training.watching import Watch

EXAMPLES = 12
"""Images that a report shows where the configuration does not say."""
LOOKED_AT = 32
"""Images whose size is looked at before training."""
ACTIVATION_IMAGES = 512
"""Images whose activations are recorded for the report."""


def train_images(
    run: ImageRunConfig,
    *,
    resume: bool,
    overwrite: bool,
    console: Console,
    progress: bool,
    watch: Watch | None = None,
) -> RunResult | None:
    """Train every trial, evaluate and write the report; see :func:`katops.api.train`.

    The run's own model file, log and evaluation are those of the first seed, whatever the others reached. A run that is
    to be overwritten is kept until the new one is complete, see :func:`katops.runs.replacement.replacing`.
    """
    processes = current()
    data, preprocessing = processes.together(lambda: open_images(run, console, progress))
    directory = run.directory
    if resume:
        processes.first(lambda: check_same_run(run, directory))
    warn(console, [*data.reading_warnings, *_size_warning(data, preprocessing)])
    counts = ", ".join(f"{len(part)} {name}" for name, part in data.parts.items())
    shape = " x ".join(map(str, preprocessing.input_size))
    console.print(f"{counts} images of {len(data.classes)} classes, read as {shape}", highlight=False)
    for line in process_lines(run.train):
        console.print(line, highlight=False)
    with replacing(directory, overwrite=overwrite, console=console) if processes.is_first else nullcontext():
        processes.first(lambda: write_text(directory / CONFIG_FILE, run.to_yaml()))
        models = _run_trials(run, data, preprocessing, resume, console, progress, watch)
        return processes.alone(lambda: _report(run, data, preprocessing, *models, console, progress))


def evaluate_images(
    bundle: Bundle,
    source: str | Path,
    *,
    output: Path | None,
    split: str,
    batch_size: int,
    examples: int,
    console: Console,
) -> ClassificationEvaluation:
    """Measure on a folder of images or on the data of the training; see :func:`katops.api.evaluate`."""
    part, name, warnings = _part_of(bundle, source, split)
    warn(console, warnings)
    preprocessing = bundle.predictor.preprocessing
    device = evaluation_device()
    bundle.model.to(device).eval()
    batches = _on_device(part.loader(preprocessing, batch_size), device)
    with bar(console, f"evaluating {name}", True) as report:
        evaluation = evaluate_classifier(
            {model_name(bundle): bundle.model},
            batches,
            bundle.predictor.classes,
            examples=examples,
            progress=_counter(report, len(part)),
            denormalise=preprocessing.denormalise,
        )
    bundle.model.cpu()
    title = f"{Path(source).name} ({name})"
    print_classification(console, evaluation, title=title)
    if output is not None:
        summary = {
            "title": f"{model_name(bundle)} on {Path(source).name}",
            "data": {"source": str(source), "part": name, "fingerprint": part.source.fingerprint},
            "model": model_card(bundle),
            "training": bundle.header.get("training", {}),
            "versions": bundle.header.get("versions", {}),
            "warnings": warnings,
        }
        write_classification_report(output, evaluations={title: evaluation}, summary=summary)
    return evaluation


def _size_warning(data: ImageData, preprocessing: Preprocessing) -> list[str]:
    """A sentence where the images are much smaller than what the model is given."""
    part = data.train
    sizes = []
    for index in part.indices[:LOOKED_AT]:
        with part.source.open_image(int(index)) as image:
            sizes.append(image.size)
    width, height = (int(np.median(side)) for side in zip(*sizes, strict=True))
    channels, *wanted = preprocessing.input_size
    if 2 * max(width, height) > min(wanted):
        return []
    return [
        f"the images have about {width} x {height} pixels and are enlarged to {wanted[1]} x {wanted[0]}, which costs "
        f"time; data.input_size: [{channels}, {height}, {width}] keeps them as they are, with a smaller patch_size"
    ]


def open_images(run: ImageRunConfig, console: Console, progress: bool) -> tuple[ImageData, Preprocessing]:
    """Data and preprocessing, after everything that can be wrong with the input has been looked at.

    Raises:
        UserError: something of the configuration does not fit the images or this machine.
    """
    check_device(run.train)
    check_trackers(run.train.trackers)
    check_optimizer(run.train)
    data = open_image_data(run.data)
    stated = {key: getattr(run.data, key) for key in ("input_size", "mean", "std", "interpolation", "crop_pct")}
    native = data.train.source.native_size
    preprocessing = resolve_preprocessing(run.model.name, run.model.options, native, **stated)
    check_trials(run, data, preprocessing)
    _check_accumulation(run, data)
    if current().is_first:
        with bar(console, "looking at images", progress) as report:
            data.check_readable(report)
    return data, preprocessing


def _check_accumulation(run: ImageRunConfig, data: ImageData) -> None:
    """Refuse optimiser steps of more batches than an epoch has, which would be smaller than the report says."""
    train = run.train
    batches = len(data.train) // (train.batch_size * current().size)
    if train.accumulate > batches:
        raise UserError(
            f"train.accumulate is {train.accumulate}, but an epoch has {batches} batches: {len(data.train)} training "
            f"images by train.batch_size {train.batch_size}; make one of the two smaller"
        )


def _report(
    run: ImageRunConfig,
    data: ImageData,
    preprocessing: Preprocessing,
    models: dict[str, Bundle],
    trials: list[dict[str, Any]],
    console: Console,
    progress: bool,
) -> RunResult:
    """Everything that a run writes beside its configuration and its trials."""
    directory = run.directory
    name, part = data.reported
    label, bundle = next(iter(models.items()))
    evaluation = _measure(models, part, run, console, progress, name)
    scores = evaluation.to_dict()["predictors"][label]
    metrics = {name: {key: value for key, value in scores.items() if isinstance(value, int | float)}}
    save(directory, bundle.predictor, **{**bundle.header, "metrics": metrics})
    write_text(directory / LOG_FILE, (directory / trials[0]["folder"] / LOG_FILE).read_text(encoding="utf-8"))
    summary = _summary(run, data, bundle)
    warn(console, summary["warnings"])
    batches = part.loader(preprocessing, run.train.batch_size, run.data.workers)
    few = islice(_on_device(batches, torch.device("cpu")), -(-ACTIVATION_IMAGES // run.train.batch_size))
    fields = TrialRow.__dataclass_fields__
    write_classification_report(
        directory,
        evaluations={name: evaluation},
        summary=summary,
        activations=record_activations(bundle.model.cpu(), few),
        trials=[TrialRow(**{key: trial[key] for key in fields}) for trial in trials] if len(trials) > 1 else (),
        log_csv=directory / LOG_FILE,
        config_yaml=run.to_yaml(),
    )
    print_classification(console, evaluation, title=name)
    return RunResult(directory, load(directory), {name: evaluation})


def _run_trials(
    run: ImageRunConfig,
    data: ImageData,
    preprocessing: Preprocessing,
    resume: bool,
    console: Console,
    progress: bool,
    watch: Watch | None,
) -> tuple[dict[str, Bundle], list[dict[str, Any]]]:
    """The models of the first seed by label, and a line about every trial; in the first process.

    ``watch`` is told of the first trial.
    """
    models: dict[str, Bundle] = {}
    lines = []
    trials = plan_trials(run)
    for number, trial in enumerate(trials, 1):
        if len(trials) > 1 and progress:
            console.print(f"trial {number} of {len(trials)}: {trial.label}, seed {trial.seed}", highlight=False)
        options = {"resume": resume, "console": console, "progress": progress, "watch": watch if number == 1 else None}
        bundle = run_trial(run, trial, data, preprocessing, **options)
        if bundle is not None:
            models.setdefault(trial.label, bundle)
            lines.append(bundle.header["trial"])
    return models, lines


def _measure(
    models: dict[str, Bundle], part: ImagePart, run: ImageRunConfig, console: Console, progress: bool, name: str
) -> ClassificationEvaluation:
    """The model beside those it is compared with, on the reported images."""
    device = evaluation_device(run.train.device)
    first = next(iter(models.values())).predictor
    for bundle in models.values():
        bundle.model.to(device).eval()
    batches = _on_device(part.loader(first.preprocessing, run.train.batch_size, run.data.workers), device)
    with bar(console, f"evaluating {name}", progress) as report:
        evaluation = evaluate_classifier(
            {label: bundle.model for label, bundle in models.items()},
            batches,
            first.classes,
            examples=run.report.examples,
            progress=_counter(report, len(part)),
            denormalise=first.preprocessing.denormalise,
        )
    for bundle in models.values():
        bundle.model.cpu()
    return evaluation


def _on_device(batches: Any, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    return ((batch.images.to(device), batch.labels.to(device)) for batch in batches)


def _counter(report: Any, total: int) -> Any:
    """A function of the images in a batch from one of (done, total)."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(done, total)

    return advance


def _part_of(bundle: Bundle, source: str | Path, split: str) -> tuple[ImagePart, str, list[str]]:
    """The images that were asked for, what they are called, and what is to be said about them."""
    if split not in SPLITS:
        raise UserError(f"unknown split {split!r}; allowed: {', '.join(SPLITS)}")
    header = bundle.header.get("data", {})
    own = ImageDataConfig(**header["configuration"]) if "configuration" in header else None
    if own is not None and _is_own(own, source):
        return _own_part(own, header["fingerprint"], split)
    if split not in ("auto", "all"):
        raise UserError(f"split {split!r} is a part of the training data, which {str(source)!r} is not; use 'all'")
    images = folder(source, classes=bundle.predictor.classes)
    if split == "auto" and images.fingerprint == header.get("fingerprints", {}).get("train"):
        raise UserError(
            f"{str(source)!r} holds the training images; give others, or say --split all to measure on images that the "
            f"training has seen"
        )
    return ImagePart(images, np.arange(len(images))), "all", list(images.warnings)


def _is_own(own: ImageDataConfig, source: str | Path) -> bool:
    """Whether ``source`` is the data set of the training, by root or, where no folder is called so, by name.

    Raises:
        UserError: it is the name of the data set and a folder too.
    """
    named = own.dataset != FOLDER and str(source) == own.dataset
    if not Path(source).is_dir():
        return named
    by_root = own.root is not None and Path(source).resolve() == Path(own.root).resolve()
    if named and not by_root:
        raise UserError(
            f"{str(source)!r} is the data set of the training and a folder here; write {f'./{source}'!r} for the "
            f"folder, or rename it to measure on the data set"
        )
    return by_root


def _own_part(own: ImageDataConfig, expected: str, split: str) -> tuple[ImagePart, str, list[str]]:
    data = open_image_data(own)
    if data.fingerprint != expected:
        raise UserError("the images are no longer those of the training; give a folder of test images instead")
    if split == "auto":
        name, part = data.reported
        return part, name, data.warnings
    if split == "all":
        return data.whole, split, data.reading_warnings
    if split not in data.parts:
        raise UserError(f"the training data have no part {split!r}; they have {', '.join(data.parts)}")
    return data.parts[split], split, data.reading_warnings


def _summary(run: ImageRunConfig, data: ImageData, bundle: Bundle) -> dict[str, Any]:
    """What ``summary.json`` says beside the measurements."""
    train = run.train
    per_class = data.train.source.count(data.train.indices)
    numbers = list(per_class.values())
    few = len(data.classes) <= MOST_LISTED
    preprocessing = bundle.predictor.preprocessing
    return {
        "title": f"{run.name}: {model_name(bundle)} on {run.data.dataset}",
        "data": {
            "dataset": run.data.dataset,
            "root": run.data.root,
            "training_images": len(data.train),
            "validation_images": len(data.validation) if data.validation else 0,
            "test_images": len(data.test) if data.test else 0,
            "class_names": list(data.classes) if few else f"{len(data.classes)} classes",
            "training_images_per_class": per_class if few else f"{min(numbers)} to {max(numbers)}",
            "input_size": list(preprocessing.input_size),
            "fingerprint": data.fingerprint,
        },
        "warnings": data.warnings,
        "model": model_card(bundle),
        "training": {
            "optimizer": train.optimizer,
            "learning_rate": train.learning_rate,
            "schedule": train.schedule,
            "batch_size": train.batch_size * train.accumulate,
            "seeds": list(range(run.seed, run.seed + run.repeats)),
            **bundle.header["training"],
        },
        "versions": bundle.header["versions"],
    }
