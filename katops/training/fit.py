"""Train an operator on prepared data and leave the best one as a model file."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import lightning
import numpy as np
import torch
from rich.console import Console
from torch import nn

from katops.bundle import Bundle, load, save
from katops.config import DataConfig, RunConfig
from katops.data.adjustment import NOT_ADJUSTED
from katops.data.loader import batch_loader
from katops.data.normalize import Fit, Normalizer
from katops.data.order import Mixing
from katops.distributed import current
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.files import write_text
from katops.models.build import build_model
from katops.predictors import FieldPredictor
from katops.predictors.dirichlet import dirichlet_sources
from katops.predictors.rollout import check_channels, check_gap
from katops.registry import MODELS
from katops.training.data import statement
from katops.training.directory import CONFIG_FILE
from katops.training.initial import start_from
from katops.training.loop import Course
from katops.training.losses import build_loss
from katops.training.memory import set_activation_checkpointing
from katops.training.optim import check_rates, check_schedule, steps_per_epoch, total_steps
from katops.training.resume import check_same_run
from katops.training.run_data import FieldSource, RunData
from katops.training.task import MONITOR, OperatorTask
from katops.training.trackers import Trackers, check_trackers
from katops.training.trainer import check_device
from katops.training.watching import Watch


def check_run(config: RunConfig, meta: FieldMeta) -> None:
    """Everything that can be wrong with the model, the loss and the device, found before any data are read.

    The model is built without memory for its weights.

    Raises:
        UserError: a name or an option does not exist or does not fit the fields, the device is not there, a value on
            the Dirichlet sides cannot be enforced, or pairs of frames are to be learned, or lead times compared, by a
            model that takes no lead time.
    """
    build_loss(config.train.loss, Normalizer(meta), meta)
    check_schedule(config.train)
    check_device(config.train)
    check_trackers(config.train.trackers)
    dirichlet_sources(config.data.dirichlet_values, meta)
    if config.train.rollout.steps > 1 or config.report.rollout is not None:
        check_channels(meta)
    with torch.device("meta"):
        model = _build(config, meta)
    set_activation_checkpointing(model, config.train, config.model.name)
    check_rates(model, config.train)
    of_pairs = any(section.pairs is not None for section in (config.data, *config.data.mix))
    if of_pairs and not getattr(model, "takes_time", False):
        raise UserError(
            f"data.pairs are learned with the time between their frames, but {config.model.name!r} does not take the "
            f"lead time; write data.window, or choose a model that does, such as scot_*"
        )
    if config.report.semigroup and not getattr(model, "takes_time", False):
        raise UserError(
            f"report.semigroup compares steps of different lengths, but {config.model.name!r} does not take the lead "
            f"time; leave it out or choose a model that does"
        )


def _build(config: RunConfig, meta: FieldMeta, space: Sequence[int] | None = None) -> nn.Module:
    if MODELS[config.model.name].kind == "image":
        raise UserError(f"model: {config.model.name!r} classifies images; write task: image_classification")
    try:
        return build_model(config.model.name, meta=meta, space=space, **config.model.options)
    except UserError as error:
        raise UserError(f"model: {error}") from error
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model: {config.model.name} cannot be built with these options: {reason}") from error


def build_predictor(config: RunConfig, data: RunData, fit: Fit) -> FieldPredictor:
    """The model of the configuration with the statistics of the training data; tried on one sample.

    Raises:
        UserError: the model or one of its options does not exist or does not fit the data.
    """
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    model = _build(config, data.meta, data.dataset.space)
    set_activation_checkpointing(model, config.train, config.model.name)
    normalizer = fit.normalizer
    normalizer.state(data.stated.statistics)
    scale = data.stated.time_scale or data.longest_lead
    if scale:
        normalizer.time_scale.fill_(scale)
    predictor = FieldPredictor(model, normalizer, data.meta, config.data.dirichlet_values)
    sample = data.dataset.read(data.train_windows[:1])
    with torch.no_grad():
        predictor.eval()(sample.x, sample.time, sample.constants)
    return predictor.train()


def train_model(
    config: RunConfig,
    data: RunData,
    rollouts: RunData,
    fit: Fit,
    trackers: Trackers,
    *,
    resume: bool,
    console: Console,
    progress: bool = True,
    watch: Watch | None = None,
) -> Bundle | None:
    """Train on ``rollouts`` (:func:`rollout_data`) and save ``model.safetensors`` with the weights of the best epoch.

    The folder of the run also gets ``config.yaml`` (resolved), ``log.csv`` (a row per epoch) and
    ``checkpoints/{best,last}.ckpt`` for ``resume``. The model is ``None`` in all processes but the first, which writes.

    Raises:
        UserError: see :func:`build_predictor`; the loss became NaN; the run to resume had another configuration.
    """
    directory = config.directory
    predictor = build_predictor(config, data, fit)
    initial = start_from(config, predictor, data)
    if initial is not None:
        console.print(initial, markup=False, highlight=False, soft_wrap=True)
    course = Course(directory, config.train, MONITOR, console, trackers, progress, watch)
    saved = None
    if resume and current().first(course.last.is_file):
        current().first(lambda: check_same_run(config, directory))
        saved = current().together(lambda: course.saved(data.fingerprint, f"{config.data.name} is not the file"))
    current().first(lambda: write_text(directory / CONFIG_FILE, config.to_yaml()))
    batches = _loader(config, rollouts.dataset, rollouts.train_windows, shuffle=True, mixing=rollouts.mixing)
    windows = len(batches.sampler)
    steps = total_steps(config.train, windows), steps_per_epoch(config.train, windows)
    loss = build_loss(config.train.loss, predictor.normalizer, predictor.meta)
    task = OperatorTask(predictor, loss, config.train, steps, data.fingerprint)
    held_out = data.validation
    validation = None if held_out is None else _loader(config, held_out.dataset, held_out.windows, shuffle=False)
    training = course.run(task, "predictor", batches, validation, saved)
    if initial is not None:
        training["initial"] = initial
    if not current().is_first:
        return None
    header = {"training": training, "data": _data_header(config, data)}
    save(directory, task.predictor, mean_target=fit.target_mean, **header)
    return load(directory)


def rollout_data(config: RunConfig, data: RunData) -> RunData:
    """Data in windows with the targets of all calls of a training step.

    Raises:
        UserError: there is no rollout of these data, or a trajectory is too short for it.
    """
    steps = config.train.rollout.steps
    if steps == 1:
        return data
    window = data.dataset.window
    check_gap(window)
    return data.of_rollouts(replace(window, n_out=steps * window.n_out))


def _loader(
    config: RunConfig, dataset: FieldSource, windows: np.ndarray, *, shuffle: bool, mixing: Mixing | None = None
) -> Any:
    """The share of this process; all of them make as many steps, and validate as many batches."""
    processes = current()
    return batch_loader(
        dataset,
        windows,
        batch_size=config.train.batch_size,
        shuffle=shuffle,
        seed=config.seed,
        mixing=mixing,
        workers=config.data.workers,
        timeout=config.data.timeout,
        rank=processes.rank,
        world_size=processes.size,
        even="drop" if shuffle else "repeat",
    )


def _data_header(config: RunConfig, data: RunData) -> dict[str, Any]:
    """What a later evaluation needs to read a file in the same way and to leave the training samples out."""
    header = {
        "file": config.data.name,
        "fingerprint": data.fingerprint,
        "samples": data.dataset.n_samples,
        "plugins": list(config.plugins),
        "space": list(data.dataset.space),
        "split": {name: len(getattr(data.split, name)) for name in ("train", "validation", "test")}
        | {"seed": config.data.split.seed, "preset": config.data.split.preset},
        **_reading(config.data),
        **asdict(getattr(data.dataset, "adjustment", NOT_ADJUSTED)),
    }
    if data.parts:
        parts = zip(config.data.mix, data.parts, strict=True)
        header["mix"] = [_data_header(config.model_copy(update={"data": entry}), part) for entry, part in parts]
    return header


def _reading(data: DataConfig) -> dict[str, Any]:
    """How the files are read."""
    return {
        "statement": statement(data),
        "window": data.window.model_dump(),
        "pairs": None if data.pairs is None else data.pairs.model_dump(),
        "subsample": data.subsample,
        "subsample_method": data.subsample_method,
        "crop": data.crop,
        "exclude": list(data.exclude),
        "condition": list(data.condition),
        "channels": {kind: getattr(data, kind) for kind in ("inputs", "outputs", "constants")},
        "fill": dict(data.fill),
        "mask": dict(data.mask),
        "lead_time": data.lead_time,
    }
