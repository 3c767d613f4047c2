"""Train a model on prepared data and leave the best one as a model file."""

import functools
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from rich.console import Console
from torch import Tensor, nn

from katops.bundle import Bundle, Predictor, load, save
from katops.config import Component, RunConfig, TrainConfig
from katops.data.loader import batch_loader
from katops.data.normalize import Fit
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.files import write_text
from katops.models.build import build_model
from katops.models.options import resolve_options
from katops.registry import METRICS
from katops.training.callbacks import AtomicCheckpointIO, EpochLog, FiniteLoss, RandomState
from katops.training.data import RunData, statement
from katops.training.directory import CHECKPOINTS, CONFIG_FILE, LOG_FILE
from katops.training.optim import total_steps
from katops.training.task import MONITOR, OperatorTask

FREE_ON_RESUME = ("name", "output", "report", "plugins", "train.device", "data.workers")
"""Keys that may differ between a run and its continuation; everything else would make it another run."""


def check_run(config: RunConfig, meta: FieldMeta) -> None:
    """Everything that can be wrong with the model, the loss and the device, found before any data are read.

    The model is built without memory for its weights.

    Raises:
        UserError: a name or an option does not exist or does not fit the fields, or the device is not there.
    """
    build_loss(config.train.loss)
    check_device(config.train)
    with torch.device("meta"):
        _build(config, meta)


def _build(config: RunConfig, meta: FieldMeta) -> nn.Module:
    try:
        return build_model(config.model.name, meta=meta, **config.model.options)
    except UserError as error:
        raise UserError(f"model: {error}") from error
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model: {config.model.name} cannot be built with these options: {reason}") from error


def build_predictor(config: RunConfig, data: RunData, fit: Fit) -> Predictor:
    """The model of the configuration with the statistics of the training data; tried on one sample.

    Raises:
        UserError: the model or one of its options does not exist or does not fit the data.
    """
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    predictor = Predictor(_build(config, data.meta), fit.normalizer, data.meta)
    sample = data.dataset.__getitems__(data.train_windows[:1])
    with torch.no_grad():
        predictor.eval()(sample.x, sample.time)
    return predictor.train()


def build_loss(component: Component) -> Callable[[Tensor, Tensor], Tensor]:
    """The registered metric named by ``train.loss`` with its options.

    Raises:
        UserError: the name or an option is unknown.
    """
    metric = METRICS[component.name].factory
    internal = ("prediction", "target", "n_axes")
    for option in internal:
        if option in component.options:
            raise UserError(f"train.loss: {option!r} of {component.name!r} is set by katops; leave it out")
    return functools.partial(metric, **resolve_options(component.options, metric, f"train.loss {component.name!r}"))


def train_model(
    config: RunConfig, data: RunData, fit: Fit, *, resume: bool, console: Console, progress: bool = True
) -> Bundle:
    """Train and save ``model.safetensors`` with the weights of the best epoch.

    The folder of the run also gets ``config.yaml`` (resolved), ``log.csv`` (a row per epoch) and
    ``checkpoints/{best,last}.ckpt`` for ``resume``.

    Raises:
        UserError: see :func:`build_predictor`; the loss became NaN; the run to resume had another configuration.
    """
    directory = config.directory
    predictor = build_predictor(config, data, fit)
    loss = build_loss(config.train.loss)
    checkpoint = directory / CHECKPOINTS / "last.ckpt"
    saved = None
    if resume and checkpoint.is_file():
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        _check_same_run(config, directory / CONFIG_FILE)
        if saved["data_fingerprint"] != data.fingerprint:
            raise UserError(
                f"cannot resume {directory}: {config.data.file} is not the file that its training began with; "
                f"put that one back, or train into another folder with --output"
            )
    write_text(directory / CONFIG_FILE, config.to_yaml())
    steps = total_steps(config.train, len(data.train_windows))
    task = OperatorTask(predictor, loss, config.train, steps, data.fingerprint)
    with _quiet_lightning():
        trainer, log = _trainer(config, data, console, progress)
    started = time.monotonic()
    if saved is not None and _stopped_early(saved, config.train):
        log.load_state_dict(saved["callbacks"][log.state_key])
    else:
        _fit(trainer, task, config, data, checkpoint if saved else None)
    training = {
        "epochs": config.train.epochs,
        "epochs_run": len(log.rows),
        "seconds": round(sum(row["seconds"] for row in log.rows), 3),
        "session_seconds": round(time.monotonic() - started, 3),
        **_load_best(predictor, trainer, directory / CHECKPOINTS, log),
    }
    predictor.cpu().float().eval()
    header = {"training": training, "data": _data_header(config, data)}
    save(directory, predictor, mean_target=fit.target_mean, **header)
    return load(directory)


def _fit(
    trainer: lightning.Trainer, task: OperatorTask, config: RunConfig, data: RunData, checkpoint: Path | None
) -> None:
    """Run the trainer; Ctrl-C ends it as KeyboardInterrupt, the last checkpoint being whole."""
    try:
        with _quiet_lightning():
            trainer.fit(
                task,
                _loader(config, data, shuffle=True),
                _loader(config, data, shuffle=False) if len(data.validation_windows) else None,
                ckpt_path=checkpoint,
                weights_only=True,
            )
    except SystemExit:  # Lightning's own answer to Ctrl-C would end a notebook's kernel
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt


def _stopped_early(checkpoint: dict[str, Any], train: TrainConfig) -> bool:
    """Whether the run that left this checkpoint had ended by early stopping."""
    states = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EarlyStopping")]
    return train.early_stopping is not None and any(state["wait_count"] >= state["patience"] for state in states)


def _loader(config: RunConfig, data: RunData, *, shuffle: bool) -> Any:
    return batch_loader(
        data.dataset,
        data.train_windows if shuffle else data.validation_windows,
        batch_size=config.train.batch_size,
        shuffle=shuffle,
        seed=config.seed,
        workers=config.data.workers,
    )


def _trainer(config: RunConfig, data: RunData, console: Console, progress: bool) -> tuple[lightning.Trainer, EpochLog]:
    train, folder = config.train, config.directory / CHECKPOINTS
    validate = bool(len(data.validation_windows))
    live = progress and console.is_terminal
    log = EpochLog(config.directory / LOG_FILE, None if live or not progress else _plain_print(console))
    keep = functools.partial(ModelCheckpoint, folder, enable_version_counter=False, save_top_k=1)
    callbacks: list[lightning.Callback] = [FiniteLoss(), log, RandomState()]
    if validate:
        callbacks.append(keep(filename="best", monitor=MONITOR, mode="min"))
    callbacks.append(keep(filename="last", save_on_train_epoch_end=True))
    if train.ema_decay is not None:
        callbacks.append(EMAWeightAveraging(decay=train.ema_decay))
    if train.early_stopping is not None:
        callbacks.append(EarlyStopping(MONITOR, patience=train.early_stopping, mode="min"))
    if live:
        callbacks.append(RichProgressBar())
    trainer = lightning.Trainer(
        max_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        accelerator=train.device,
        devices=1,
        precision=train.precision,
        gradient_clip_val=train.gradient_clip,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        default_root_dir=config.directory,
        enable_progress_bar=live,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    return trainer, log


def check_device(train: TrainConfig) -> None:
    """Refuse what this machine cannot do, in words of the configuration."""
    gpu = torch.cuda.is_available()
    if train.device == "cuda" and not gpu:
        raise UserError("train.device is 'cuda', but torch sees no CUDA device here; use 'auto' or 'cpu'")
    if train.precision == "16-mixed" and (train.device == "cpu" or not gpu):
        raise UserError("train.precision is '16-mixed', which needs a GPU; on the CPU use 'bf16-mixed' or '32-true'")


def _plain_print(console: Console) -> Callable[[str], None]:
    return functools.partial(console.print, highlight=False, soft_wrap=True)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Leave out advertisements, hardware lists and advice that does not apply here; warnings of other origin stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Worker processes are not faster for files without compression.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Validation samples are optional; and a run that max_steps ends within an epoch skips them once.
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
            # A resumed run finds its own checkpoints.
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
            warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
            warnings.filterwarnings("ignore", module="lightning", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)


def _load_best(predictor: Predictor, trainer: lightning.Trainer, folder: Path, log: EpochLog) -> dict[str, Any]:
    """Put the best weights into the predictor and say which epoch they are from."""
    best = folder / "best.ckpt"
    path, chosen = (best, "best") if best.is_file() else (folder / "last.ckpt", "last")
    if not path.is_file():
        return {"chosen": "last", "best_epoch": len(log.rows), "monitor": None}
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    prefix = "predictor."
    state = {
        key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    predictor.load_state_dict(state)
    epoch = checkpoint["epoch"] + 1
    return {
        "chosen": chosen,
        "best_epoch": epoch,
        "monitor": MONITOR if chosen == "best" else None,
        "best_value": next((row[MONITOR] for row in log.rows if row["epoch"] == epoch), None),
    }


def _data_header(config: RunConfig, data: RunData) -> dict[str, Any]:
    """What a later evaluation needs to read a file in the same way and to leave the training samples out."""
    return {
        "file": config.data.file,
        "fingerprint": data.fingerprint,
        "samples": data.dataset.layout.n_samples,
        "plugins": list(config.plugins),
        "space": list(data.dataset.space),
        "statement": statement(config.data),
        "window": config.data.window.model_dump(),
        "subsample": config.data.subsample,
        "split": {
            "train": len(data.split.train),
            "validation": len(data.split.validation),
            "test": len(data.split.test),
            "seed": config.data.split.seed,
        },
    }


def _check_same_run(config: RunConfig, path: Path) -> None:
    """Refuse to continue a run under a configuration that would have made another run."""
    if not path.is_file():
        return
    before, now = _flat(yaml.safe_load(path.read_text(encoding="utf-8"))), _flat(config.model_dump())
    for key in sorted({*before, *now}):
        free = any(key == prefix or key.startswith(prefix + ".") for prefix in FREE_ON_RESUME)
        if not free and before.get(key) != now.get(key):
            raise UserError(
                f"cannot resume {path.parent}: {key} was {before.get(key)!r} and is {now.get(key)!r} now; "
                f"put it back, or train into another folder with --output"
            )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        key: value
        for name, child in values.items()
        for key, value in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }
