"""The trainings of an image run: the model and those it is compared with, each with several seeds."""

import functools
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from torch import Tensor, nn

from katops.bundle import FILE_NAME, Bundle, load, save
from katops.config import Component, ImageRunConfig
from katops.data.image_loader import ImageBatch, image_loader
from katops.data.loader import BatchLoader
from katops.data.preprocessing import Preprocessing
from katops.distributed import current
from katops.errors import UserError
from katops.predictors import ImagePredictor
from katops.predictors.classifiers import build_classifier
from katops.training.conversion import conversion_sample, report_conversion
from katops.training.directory import TRIALS
from katops.training.image_data import ImageData
from katops.training.image_task import MONITOR, ImageTask
from katops.training.loop import Course
from katops.training.memory import set_activation_checkpointing
from katops.training.trackers import Trackers
from katops.training.watching import Watch


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        label: the model's name, with a number where the same name stands for several models.
        model: name and options.
        seed: of weights, order and augmentation.
        folder: where it lives.
    """

    label: str
    model: Component
    seed: int
    folder: Path

    @property
    def is_finished(self) -> bool:
        """Whether its model file is there, which is written last."""
        return (self.folder / FILE_NAME).is_file()


def plan_trials(config: ImageRunConfig) -> list[Trial]:
    """All trainings of a run; the run's own model with the first seed comes first."""
    models = [config.model, *config.compare]
    seen: Counter[str] = Counter()
    trials = []
    for model in models:
        seen[model.name] += 1
        number = seen[model.name]
        label = model.name if number == 1 else f"{model.name}-{number}"
        for seed in range(config.seed, config.seed + config.repeats):
            trials.append(Trial(label, model, seed, config.directory / TRIALS / f"{label}-seed{seed}"))
    return trials


def run_trial(
    config: ImageRunConfig,
    trial: Trial,
    data: ImageData,
    preprocessing: Preprocessing,
    *,
    resume: bool,
    console: Console,
    progress: bool = True,
    watch: Watch | None = None,
) -> Bundle | None:
    """Train, measure the accuracy on the reported images, and save ``model.safetensors`` in the trial's folder.

    The model is ``None`` in all processes but the first, which measures and saves. A finished trial is only loaded when
    the run is resumed, an unfinished one is continued.

    Raises:
        UserError: the loss became NaN; the trial to resume was begun with other data.
    """
    if resume and current().first(lambda: trial.is_finished):
        return _finished(trial, data)
    options = trial.model.options
    sample = conversion_sample(data.train, preprocessing) if options.get("convert") else None
    lightning.seed_everything(trial.seed, workers=True, verbose=False)
    model = build_classifier(trial.model.name, options, len(data.classes), preprocessing.input_size, sample)
    conversion = {} if sample is None else {"conversion": report_conversion(model, len(sample), console)}
    set_activation_checkpointing(model, config.train, trial.model.name)
    tell = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    name = f"{config.name}-{trial.folder.name}"
    trackers = Trackers(config.train.trackers, trial.folder, name, _configuration(config, trial), tell)
    course = Course(trial.folder, config.train, MONITOR, console, trackers, progress, watch)
    saved = None
    if resume and current().first(course.last.is_file):
        saved = current().together(lambda: course.saved(data.fingerprint, "the images are not those"))
    training = _training_loader(config, trial, data, preprocessing)
    validation = data.validation and data.validation.loader(
        preprocessing, config.train.batch_size, config.data.workers, config.data.timeout, shared=True
    )
    steps = -(-len(training) // config.train.accumulate)
    task = ImageTask(model, len(data.classes), config.train, steps, data.train.source.names, data.fingerprint)
    with trackers:
        record = course.run(task, "model", training, validation, saved)
        bundle = current().alone(lambda: _finish(config, trial, data, preprocessing, task.model, record, conversion))
        if bundle is not None:
            trackers.results(bundle.header["metrics"])
    return bundle


def _configuration(config: ImageRunConfig, trial: Trial) -> dict[str, Any]:
    """That of the run as it holds for one of its trials."""
    shared = {key: value for key, value in config.spelled_out().items() if key not in ("compare", "repeats")}
    return {**shared, "model": trial.model.model_dump(), "seed": trial.seed}


def _finish(
    config: ImageRunConfig,
    trial: Trial,
    data: ImageData,
    preprocessing: Preprocessing,
    model: nn.Module,
    record: dict[str, Any],
    conversion: dict[str, Any],
) -> Bundle:
    """Measure the trained model and save it."""
    name, reported = data.reported
    batches = reported.loader(preprocessing, config.train.batch_size, config.data.workers)
    accuracy, images_per_second = measure_accuracy(model, batches, evaluation_device(config.train.device))
    summary = {
        "model": trial.label,
        "seed": trial.seed,
        "accuracy": accuracy,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": record["seconds"],
        "images_per_second": images_per_second,
        "folder": trial.folder.relative_to(config.directory).as_posix(),
    }
    header = {
        **conversion,
        "training": record,
        "data": {**data.header(), "plugins": list(config.plugins)},
        "metrics": {name: {"accuracy": accuracy}},
        "trial": summary,
    }
    save(trial.folder, ImagePredictor(model, preprocessing, data.classes), **header)
    return load(trial.folder)


def check_trials(config: ImageRunConfig, data: ImageData, preprocessing: Preprocessing) -> None:
    """Build every model once and look at the sizes, so that no later training ends the run.

    Raises:
        UserError: a model or an option does not exist or does not fit; the batch is larger than the training part.
    """
    processes = current().size
    if config.train.batch_size * processes > len(data.train):
        each = "" if processes == 1 else f" in each of the {processes} processes"
        raise UserError(
            f"train.batch_size is {config.train.batch_size}{each}, but there are {len(data.train)} training images; "
            f"make the batch smaller"
        )
    preprocessing.training(config.data.augmentation and config.data.augmentation.model_dump())
    for model in (config.model, *config.compare):
        built = build_classifier(model.name, model.options, len(data.classes), preprocessing.input_size)
        set_activation_checkpointing(built, config.train, model.name)


def measure_accuracy(model: nn.Module, batches: BatchLoader, device: torch.device) -> tuple[float, float]:
    """Share of the images whose largest logit is that of their class, and images per second of the model alone."""
    correct = total = 0
    seconds = 0.0
    model.to(device).eval()
    batch: ImageBatch
    with torch.inference_mode():
        for batch in batches:
            images = batch.images.to(device)
            started = time.perf_counter()
            predicted: Tensor = model(images).argmax(-1).cpu()
            seconds += time.perf_counter() - started
            correct += int((predicted == batch.labels).sum())
            total += len(predicted)
    model.cpu()
    return correct / total, total / seconds


def evaluation_device(wanted: str = "auto") -> torch.device:
    """The GPU where there is one and the configuration does not say "cpu"."""
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def _finished(trial: Trial, data: ImageData) -> Bundle:
    bundle = load(trial.folder)
    if bundle.header["data"]["fingerprint"] != data.fingerprint:
        raise UserError(
            f"cannot resume {trial.folder}: the images are not those that its training began with; put back what was "
            f"there, or train into another folder with --output"
        )
    return bundle


def _training_loader(
    config: ImageRunConfig, trial: Trial, data: ImageData, preprocessing: Preprocessing
) -> BatchLoader:
    augmentation = config.data.augmentation and config.data.augmentation.model_dump()
    return image_loader(
        data.train.source,
        data.train.indices,
        preprocessing.training(augmentation),
        mode=preprocessing.mode,
        batch_size=config.train.batch_size,
        training=True,
        seed=trial.seed,
        workers=config.data.workers,
        timeout=config.data.timeout,
        rank=current().rank,
        world_size=current().size,
    )
