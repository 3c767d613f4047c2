"""What two processes of one job do, started once by torchrun; the tests read what they leave."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image

from katops import api, cli
from katops.data.dataset import FieldDataset
from katops.data.loader import batch_loader
from katops.data.sources import describe_all
from katops.distributed import joined
from katops.distributed.processes import Processes
from katops.errors import Preempted, UserError
from katops.metrics import relative_l2
from katops.runs import fields
from katops.training.base_task import ValidationValues
from katops.training.task import OperatorTask


def configuration(folder: Path, name: str, file: Path | None = None, **train: Any) -> dict[str, Any]:
    """A small operator on 20 training, 7 validation and 7 test samples, which are generated or in a file."""
    generated = {"problem": "darcy", "samples": 34, "resolution": 12}
    return {
        "name": name,
        "output": str(folder / name),
        "data": {
            "file": str(file or folder / "darcy.h5"),
            "generate": None if file else generated,
            "split": {"train": 20, "validation": 7, "test": 7},
        },
        "model": {"name": "mgno", "hidden_channels": 6, "n_layers": 2, "levels": 2},
        "train": {"epochs": 2, "batch_size": 2, "schedule": "constant", "device": "cpu", **train},
        "report": {"examples": 1},
    }


def validation_mean(file: Path, rank: int, size: int, batch_size: int) -> float:
    """The mean over 7 windows of a relative error, of the shares of all processes."""
    dataset = FieldDataset(describe_all(file))
    values = ValidationValues()
    share = {"rank": rank, "world_size": size, "even": "repeat"}
    for batch in batch_loader(dataset, np.arange(7), batch_size=batch_size, **share):
        values.add(map(tuple, batch.index.tolist()), relative_l2(batch.x.flatten(1, 2), batch.y.flatten(1, 2)))
    return values.mean()


def train(folder: Path, name: str, resume: bool = False, **options: Any) -> None:
    """A training, whose report is left out where nobody looks at it."""
    report = nullcontext() if name in ("ddp", "fsdp") else mock.patch.object(fields, "write_report")
    with report:
        api.train(configuration(folder, name, **options), resume=resume, progress=False)


def images(folder: Path, name: str, batch_size: int) -> dict[str, Any]:
    """Stripes to be told apart, 24 of them for training and 9 for validation; no random changes."""
    root = folder / "images"
    for split, count in (("train", 8), ("val", 3)):
        for label, period in (("wide", 4), ("middle", 3), ("narrow", 2)):
            place = root / split / label
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                stripes = np.broadcast_to(80 * ((np.arange(8) + number) % period), (8, 8)).astype(np.uint8)
                Image.fromarray(stripes).save(place / f"{number}.png")
    return {
        "task": "image_classification",
        "name": name,
        "output": str(folder / name),
        "data": {"root": str(root), "validation_split": "val", "input_size": [1, 8, 8], "augmentation": None},
        "model": {
            "name": "vit_tiny_patch16_224",
            "patch_size": 4,
            "embed_dim": 12,
            "depth": 1,
            "num_heads": 2,
        },
        "train": {"epochs": 2, "batch_size": batch_size, "warmup_epochs": 0, "device": "cpu"},
    }


def in_step(number: int, act: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Have the training act on the loss of a step, counted from 1, of this process."""
    step, count = OperatorTask.training_step, 0

    def acting(task: OperatorTask, batch: Any, index: int) -> torch.Tensor:
        nonlocal count
        count += 1
        loss = step(task, batch, index)
        return act(loss) if count == number else loss

    return mock.patch.object(OperatorTask, "training_step", acting)


def outcome(work: Callable[[], Any]) -> str:
    """The kind of exception and its sentence, or "done"."""
    try:
        work()
    except (UserError, Preempted) as error:
        return f"{type(error).__name__}: {error}"
    return "done"


def stopped(folder: Path, processes: Processes, name: str, **options: Any) -> str:
    """Process 1 is asked to end in the third step."""

    def signalled(loss: torch.Tensor) -> torch.Tensor:
        if processes.rank == 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        return loss

    with in_step(3, signalled):
        return outcome(lambda: train(folder, name, **options))


def broken(folder: Path, processes: Processes, name: str, policy: str) -> str:
    """The loss of process 1 is not finite in the second batch of the first epoch, whenever that comes."""
    step = OperatorTask.training_step

    def breaking(task: OperatorTask, batch: Any, index: int) -> torch.Tensor:
        bad = processes.rank == 1 and (task.current_epoch, index) == (0, 1)
        return step(task, batch, index) * (float("nan") if bad else 1.0)

    with mock.patch.object(OperatorTask, "training_step", breaking):
        return outcome(lambda: train(folder, name, non_finite=policy))


def train_on_images(folder: Path, processes: Processes) -> None:
    config = processes.first(lambda: images(folder, "images-ddp", 3))
    api.train(config, progress=False)


def fails(message: str) -> None:
    raise UserError(message)


def dies(folder: Path) -> None:
    """Process 1 is killed in the second epoch."""

    def killed(loss: torch.Tensor) -> torch.Tensor:
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return loss

    with in_step(8, killed):
        command(folder, "killed")


def terminated(folder: Path) -> None:
    """The whole job is asked to end in the second epoch."""

    def asked(loss: torch.Tensor) -> torch.Tensor:
        if os.environ["RANK"] == "0":
            os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(1)
        return loss

    with in_step(7, asked):
        command(folder, "terminated")


def command(folder: Path, name: str) -> None:
    """``katops train`` in this process."""
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(configuration(folder, name)), encoding="utf-8")
    sys.argv = ["katops", "train", str(path)]
    cli.main()


def everything(folder: Path) -> None:
    """All that ends well, or with an exception that is caught here."""
    truncated = folder / "truncated.h5"
    with joined() as processes:
        train(folder, "ddp")
        processes.first(lambda: truncated.write_bytes((folder / "darcy.h5").read_bytes()[:20000]))
        found = {
            "metric": validation_mean(folder / "darcy.h5", processes.rank, processes.size, 2),
            "stopped": stopped(folder, processes, "stopped"),
            "resumed": outcome(lambda: train(folder, "stopped", resume=True)),
            "stop": broken(folder, processes, "stop", "stop"),
            "skip": broken(folder, processes, "skip", "skip"),
            "restart": broken(folder, processes, "restart", "restart"),
            "first": outcome(lambda: processes.first(lambda: fails("only once"))),
            "together": outcome(lambda: processes.together(lambda: fails("no file") if processes.rank else None)),
            "images": outcome(lambda: train_on_images(folder, processes)),
            "nodes": outcome(lambda: train(folder, "nodes", num_nodes=2)),
            "truncated": outcome(lambda: train(folder, "truncated", file=truncated)),
            "killed": outcome(lambda: train(folder, "killed", resume=True)),
            "terminated": outcome(lambda: train(folder, "terminated", resume=True)),
            "fsdp stopped": stopped(folder, processes, "fsdp", strategy="fsdp"),
            "fsdp": outcome(lambda: train(folder, "fsdp", resume=True, strategy="fsdp")),
        }
        everyone = processes.gather(found)
        if processes.is_first:
            (folder / "found.json").write_text(json.dumps(everyone), encoding="utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"dies": dies, "terminated": terminated, "everything": everything}[sys.argv[1]](Path(sys.argv[2]))
