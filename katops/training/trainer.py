"""Lightning's trainer as the configuration describes it, in one process or as one of several."""

import functools
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from katops.config import Optimisation
from katops.distributed import current
from katops.errors import UserError
from katops.training.callbacks import AtomicCheckpointIO, Monitor, RandomState
from katops.training.directory import CHECKPOINTS

LAST, BEST = "last", "best"


def build_trainer(
    train: Optimisation,
    directory: Path,
    monitor: Monitor | None,
    callbacks: list[lightning.Callback],
    *,
    live: bool,
) -> lightning.Trainer:
    """The trainer of a run.

    Args:
        train: the ``train`` section.
        directory: gets ``checkpoints/{best,last}.ckpt``.
        monitor: what chooses the best epoch; ``None`` where there is nothing to validate with.
        callbacks: what is called beside checkpoints, averaging and early stopping.
        live: show a progress bar.
    """
    keep = functools.partial(ModelCheckpoint, directory / CHECKPOINTS, enable_version_counter=False, save_top_k=1)
    # Numbers are drawn, and weights averaged, before anybody saves a step.
    average = [] if train.ema_decay is None else [EMAWeightAveraging(decay=train.ema_decay)]
    callbacks = [RandomState(), *average, *callbacks]
    if monitor is not None:
        callbacks.append(keep(filename=BEST, monitor=monitor.name, mode=monitor.mode))
    callbacks.append(keep(filename=LAST, save_on_train_epoch_end=True))
    if train.early_stopping is not None and monitor is not None:
        callbacks.append(EarlyStopping(monitor.name, patience=train.early_stopping, mode=monitor.mode))
    if live:
        callbacks.append(RichProgressBar())
    processes = current()
    environment: ClusterEnvironment = LightningEnvironment()
    several: dict[str, Any] = {}
    devices = processes.local_size
    if processes.size > 1:
        # The environment that was joined has torchrun's variables, whoever started it.
        environment = OneGpuEach() if has_one_gpu_each(train) else TorchElasticEnvironment()
        devices = 1 if has_one_gpu_each(train) else devices
        several = {"strategy": _strategy(train), "num_nodes": processes.size // devices}
    return lightning.Trainer(
        max_epochs=train.epochs,
        max_steps=train.max_steps or -1,
        accelerator=train.device,
        devices=devices,
        precision=train.precision,
        gradient_clip_val=train.gradient_clip,
        accumulate_grad_batches=train.accumulate,
        callbacks=callbacks,
        # Lightning would take a batch script with the variables of SLURM for one of several processes.
        plugins=[AtomicCheckpointIO(), environment],
        logger=False,
        default_root_dir=directory,
        enable_progress_bar=live,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        use_distributed_sampler=False,  # each loader reads its own share
        **several,
    )


class OneGpuEach(TorchElasticEnvironment):
    """Of processes that see one GPU each (``--gpus-per-task 1``), and so are machines of their own to Lightning."""

    def local_rank(self) -> int:
        """The number of the GPU."""
        return 0

    def node_rank(self) -> int:
        """The number of the process."""
        return self.global_rank()


def has_one_gpu_each(train: Optimisation) -> bool:
    """Whether the launcher shows each process on a machine one GPU only."""
    on_gpu = torch.cuda.is_available() and train.device != "cpu"
    return on_gpu and current().local_size > 1 and torch.cuda.device_count() == 1


def is_sharded(train: Optimisation) -> bool:
    """Whether parameters are spread over the processes of this job; a single process keeps them all."""
    return train.strategy == "fsdp" and current().size > 1


def _strategy(train: Optimisation) -> Strategy:
    """How the processes share the work; each sees its share of the batch and the mean of the gradients.

    Buffers are statistics of the data, the same everywhere; the running means of batch norms are those of the first
    process, whose model is kept.
    """
    if is_sharded(train):
        size = current().size
        return ModelParallelStrategy(data_parallel_size=size, tensor_parallel_size=1, save_distributed_checkpoint=False)
    return DDPStrategy(broadcast_buffers=False, gradient_as_bucket_view=True)


def check_device(train: Optimisation) -> None:
    """Refuse what this machine or this job cannot do, in words of the configuration."""
    gpu, processes = torch.cuda.is_available(), current()
    if train.device == "cuda" and not gpu:
        raise UserError("train.device is 'cuda', but torch sees no CUDA device here; use 'auto' or 'cpu'")
    if train.precision == "16-mixed" and (train.device == "cpu" or not gpu):
        raise UserError("train.precision is '16-mixed', which needs a GPU; on the CPU use 'bf16-mixed' or '32-true'")
    crowded = processes.local_size > torch.cuda.device_count() and not has_one_gpu_each(train)
    if gpu and train.device != "cpu" and crowded:
        raise UserError(
            f"{processes.local_size} processes were started on this machine, which has {torch.cuda.device_count()} "
            f"GPUs; start as many (--nproc-per-node, --ntasks-per-node), or set train.device to 'cpu'"
        )
    if train.num_nodes is not None and train.num_nodes != processes.nodes:
        raise UserError(
            f"train.num_nodes is {train.num_nodes}, but the launcher has started processes on {processes.nodes}; "
            f"start torchrun with --nnodes {train.num_nodes} or srun with --nodes {train.num_nodes}, or drop num_nodes"
        )
    if is_sharded(train) and train.ema_decay is not None:
        raise UserError("train.ema_decay averages whole weights, which train.strategy 'fsdp' spreads out; take 'ddp'")
    if is_sharded(train) and train.precision == "16-mixed":
        raise UserError("train.precision '16-mixed' does not go with train.strategy 'fsdp'; use 'bf16-mixed'")


@contextmanager
def quiet_lightning() -> Iterator[None]:
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
            # No model changes the output of one of its blocks in place (tests compare with a single process).
            warnings.filterwarnings("ignore", message=".*returned a view tensor. An in-place op.*")
            # Validation values are those of all processes already.
            warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
            # What it warns of, averaging what is spread over processes, is refused.
            warnings.filterwarnings("ignore", message=".*WeightAveraging callback with a model that overrides.*")
            # A resumed run finds its own checkpoints.
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
            warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
            warnings.filterwarnings("ignore", module="lightning", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
