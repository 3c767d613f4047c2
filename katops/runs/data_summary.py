"""What a training reads, said before it begins."""

from collections.abc import Sequence

import numpy as np

from katops.config import Optimisation
from katops.distributed import current
from katops.fields import Channel
from katops.training.run_data import HeldOut, RunData


def data_lines(data: RunData) -> list[str]:
    """Channels, and how many samples (trajectories) and windows each part has."""
    meta, dataset, split = data.meta, data.dataset, data.split
    channels = f"{_named(meta.inputs)} -> {_named(meta.outputs)}"
    if meta.constants:
        channels += f", given {_named(meta.constants)}"
    if dataset.layout.time_dependent:
        channels += f", {_frames(meta.steps_in)} -> {_frames(meta.steps_out)}"
    grid = " x ".join(map(str, dataset.space))
    lines = [f"fields  {channels}, on {grid} points", f"train   {_counted(split.train, data.train_windows)}"]
    if data.parts:
        return [*lines, *_of_parts(data)]
    own = data.tests[0].dataset is dataset
    if data.validation is None:
        lines.append("validation  none: the weights of the last epoch are kept")
    else:
        lines.append(f"validation  {_part(data.validation, data, split.validation)}")
    lines += [f"test    {_part(test, data, split.test)}" for test in data.tests]
    unused = dataset.n_samples - len(split.train)
    unused -= len(split.validation) if data.validation is not None and data.validation.dataset is dataset else 0
    unused -= len(split.test) if own else 0
    if unused:
        lines.append(f"unused  {unused} of the {dataset.n_samples} samples of the training file")
    return lines


def _of_parts(data: RunData) -> list[str]:
    """A line for each data set of a mixture."""
    lines = []
    for part, weight in zip(data.parts, data.weights, strict=True):
        trained = _counted(part.split.train, part.train_windows)
        drawn = "" if weight == 1 else f", each drawn {weight:g} times an epoch"
        held_out = f"{len(part.split.validation)} to validate with, {len(part.split.test)} to test with"
        lines.append(f"        {part.dataset.layout.path}: {trained}{drawn}; {held_out}")
    return lines


def unseen_parameters(data: RunData) -> list[str]:
    """A sentence where samples differ in a parameter that the model is not given."""
    if data.parts:
        return list(dict.fromkeys(line for part in data.parts for line in unseen_parameters(part)))
    dataset = data.dataset
    values = np.concatenate([layout.parameters for layout in dataset.layouts])[data.split.train]
    names = [
        channel.name
        for column, channel in enumerate(data.meta.parameters)
        if channel.name not in data.meta.condition and len(np.unique(values[:, column])) > 1
    ]
    if not names:
        return []
    listed = ", ".join(names)
    return [f"the samples differ in {listed}, which the model is not told; data.condition: [{listed}] gives it to it"]


def _part(held_out: HeldOut, data: RunData, samples: np.ndarray) -> str:
    if held_out.dataset is data.dataset:
        return _counted(samples, held_out.windows)
    return f"{_counted(range(held_out.dataset.n_samples), held_out.windows)} of {held_out.path}"


def _counted(samples: Sequence[int] | np.ndarray, windows: np.ndarray) -> str:
    if len(samples) == len(windows):
        return f"{len(samples):,} samples"
    return f"{len(samples):,} samples with {len(windows):,} windows"


def _named(channels: Sequence[Channel]) -> str:
    return ", ".join(f"{channel.name} [{channel.unit}]" if channel.unit else channel.name for channel in channels)


def _frames(steps: int) -> str:
    return f"{steps} frame" if steps == 1 else f"{steps} frames"


def process_lines(train: Optimisation) -> list[str]:
    """How the work is shared, where there are several processes."""
    processes = current()
    if processes.size == 1:
        return []
    effective = train.batch_size * processes.size * train.accumulate
    nodes = "1 machine" if processes.nodes == 1 else f"{processes.nodes} machines"
    how = "the model spread over them" if train.strategy == "fsdp" else "a copy of the model in each"
    return [f"{processes.size} processes on {nodes}, {how}; one optimiser step is over {effective} samples"]
