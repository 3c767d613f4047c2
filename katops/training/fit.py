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
from torch import Tensor

from katops.bundle import Bundle, Predictor, save, versions
from katops.config import Component, RunConfig, TrainConfig
from katops.data.loader import batch_loader
from katops.data.normalize import Fit
from katops.errors import UserError, did_you_mean
from katops.files import write_text
from katops.models.build import build_model
from katops.models.options import allowed_options
from katops.registry import METRICS
from katops.training.callbacks import AtomicCheckpointIO, EpochLog, FiniteLoss, RandomState
from katops.training.data import RunData, statement
from katops.training.optim import total_steps
from katops.training.task import MONITOR, OperatorTask

CONFIG_FILE = "config.yaml"
LOG_FILE = "log.csv"
CHECKPOINTS = "checkpoints"
FREE_ON_RESUME = ("name", "output", "report", "plugins", "train.device", "train.max_steps", "data.workers")
"""Keys that may differ between a run and its continuation; everything else would make it another run."""


def build_predictor(config: RunConfig, data: RunData, fit: Fit) -> Predictor:
    """The model of the configuration with the statistics of the training data; tried on one sample.

    Raises:
        UserError: the model or one of its options does not exist or does not fit the data.
    """
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    try:
        model = build_model(config.model.name, meta=data.meta, **config.model.options)
    except UserError as error:
        raise UserError(f"model: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"model: {config.model.name} cannot be built with these options: {error}") from error
    predictor = Predictor(model, fit.normalizer, data.meta)
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
    allowed = [name for name in allowed_options(metric) if name not in ("prediction", "target")]
    for option in component.options:
        if option not in allowed:
            raise UserError(
                f"train.loss: unknown option {option!r} of {component.name!r}{did_you_mean(option, allowed)} "
                f"Allowed: {', '.join(allowed) or 'none'}."
            )
    return functools.partial(metric, **component.options)


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
    resuming = resume and checkpoint.is_file()
    if resuming:
        _check_same_run(config, directory / CONFIG_FILE)
    write_text(directory / CONFIG_FILE, config.to_yaml())
    task = OperatorTask(predictor, loss, config.train, total_steps(config.train, len(data.train_windows)))
    with _quiet_lightning():
        trainer, log = _trainer(config, data, console, progress)
    started = time.monotonic()
    with _quiet_lightning():
        trainer.fit(
            task,
            _loader(config, data, shuffle=True),
            _loader(config, data, shuffle=False) if len(data.validation_windows) else None,
            ckpt_path=checkpoint if resuming else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    training = {
        "epochs": config.train.epochs,
        "epochs_run": len(log.rows),
        "seconds": round(sum(row["seconds"] for row in log.rows), 3),
        "session_seconds": round(time.monotonic() - started, 3),
        **_load_best(predictor, trainer, directory / CHECKPOINTS, log),
    }
    predictor.cpu().float().eval()
    header = {"training": training, "data": _data_header(config, data), "versions": versions()}
    save(directory, predictor, mean_target=fit.target_mean, **header)
    return Bundle(predictor, header, fit.target_mean)


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
    _check_device(train)
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


def _check_device(train: TrainConfig) -> None:
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
