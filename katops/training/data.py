"""From the ``data`` section of a configuration to data sets, splits and statistics, checked before any training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.config import DataConfig
from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.normalize import Fit
from katops.data.resample import Resample
from katops.data.sources import describe_all
from katops.data.splits import Split, preset_split, split
from katops.data.statistics.cached import cached_fit, check_values
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.generators import create_problem
from katops.generators.writer import write

CheckProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class HeldOut:
    """Windows that are never trained on.

    Attributes:
        name: how the report calls it, the name of the file or folder.
        dataset: where to read.
        windows: indices into the data set.
        path: the file, folder or pattern.
    """

    name: str
    dataset: FieldDataset
    windows: np.ndarray
    path: Path

    def in_windows(self, name: str, window: Window) -> "HeldOut":
        """The same samples in other windows.

        Raises:
            UserError: a trajectory is shorter than the window.
        """
        dataset = self.dataset.with_window(window)
        return HeldOut(name, dataset, dataset.of_samples(self.dataset.samples_of(self.windows)), self.path)


@dataclass(frozen=True)
class RunData:
    """Everything a run reads.

    Attributes:
        dataset: windows of ``data.file``.
        split: samples of each part.
        validation: what the best epoch is chosen by; ``None`` where there is nothing to validate with.
        tests: the test sets, the main one first.
        fingerprint: of ``data.file``.
    """

    dataset: FieldDataset
    split: Split
    validation: HeldOut | None
    tests: tuple[HeldOut, ...]
    fingerprint: str

    @property
    def meta(self) -> FieldMeta:
        """Channels, axes and window of the fields."""
        return self.dataset.meta

    def of_rollouts(self, window: Window) -> "RunData":
        """The same training samples in windows that are as long as a rollout; everything else as it is."""
        return replace(self, dataset=self.dataset.with_window(window))

    @property
    def train_windows(self) -> np.ndarray:
        """Windows of the training samples."""
        return self.dataset.of_samples(self.split.train)

    def fit(self, kind: str, progress: CheckProgress | None = None) -> Fit:
        """Statistics of the training samples; every other sample is read once too, so that bad values show up now.

        Raises:
            UserError: a value is not finite, in whatever part.
        """
        fit = cached_fit(self.dataset, self.train_windows, kind=kind, progress=progress)
        for part in (*(() if self.validation is None else (self.validation,)), *self.tests):
            check_values(part.dataset, part.windows)
        return fit


def statement(config: DataConfig) -> dict[str, Any]:
    """The description of the arrays as the configuration gives it, for :func:`katops.data.formats.describe`."""
    keys = ("format", "inputs", "outputs", "constants", "parameters", "channels", "axes", "boundary", "grid", "domain")
    return {key: getattr(config, key) for key in (*keys, "time_step")}


def open_run_data(config: DataConfig, batch_size: int, generation_progress: CheckProgress | None = None) -> RunData:
    """Open the files, generate the first if the configuration says how, and share the samples out.

    Raises:
        UserError: a file is missing or does not hold what is asked for; the parts do not fit the samples; the batch is
            larger than the training part; a test file has other channels or axes than the training file.
    """
    if config.generate:
        wanted = config.generate
        problem = create_problem(wanted.problem, **wanted.options)
        _share_out(config, wanted.samples)
        write(problem, wanted.samples, wanted.seed, config.file, progress=generation_progress)
    dataset = open_dataset(config.file, config, exclude=config.exclude)
    parts = _share_out(config, dataset.n_samples)
    windows = len(dataset.of_samples(parts.train))
    if batch_size > windows:
        raise UserError(
            f"train.batch_size is {batch_size}, but the training part of {config.file} has {windows} windows; "
            f"make the batch smaller or data.split.train larger"
        )
    tests = _named_apart([_held_out(path, config, dataset, "test_files") for path in config.test_files])
    own = Path(config.file)
    if not tests and len(parts.test):
        tests = (HeldOut(own.name, dataset, dataset.of_samples(parts.test), own),)
    if not tests:
        raise UserError(
            "data.split.test is 0 and data.test_files is empty; give test samples to measure the result with"
        )
    validation = None
    if config.validation_files:
        validation = _held_out(config.validation_files, config, dataset, "validation_files")
    elif len(parts.validation):
        validation = HeldOut(own.name, dataset, dataset.of_samples(parts.validation), own)
    return RunData(dataset, parts, validation, tests, fingerprint(dataset.layouts))


def open_dataset(path: str | Path | Sequence[str], config: DataConfig, exclude: Sequence[int] = ()) -> FieldDataset:
    """The files of a path, folder or pattern with the description, window and resampling of the configuration."""
    layouts = describe_all(path, **statement(config))
    named = path if isinstance(path, str | Path) else ", ".join(path)
    if not layouts[0].outputs:
        raise UserError(f"{named} has no output channels to learn; name them in data.outputs")
    if config.time_step is not None and not layouts[0].time_dependent:
        raise UserError(
            f"data.time_step is {config.time_step}, but no channel of {named} has a time axis; leave it out"
        )
    return FieldDataset(
        layouts,
        window=Window(**config.window.model_dump()),
        resample=resampling(config.model_dump()),
        exclude=exclude,
        memory=config.memory,
        condition=config.condition,
    )


def resampling(data: Mapping[str, Any]) -> Resample:
    """The resampling that a ``data`` section, or the header of a model file, asks for."""
    return Resample(data.get("subsample", 1), data.get("subsample_method", "stride"), data.get("crop"))


def _share_out(config: DataConfig, samples: int) -> Split:
    if config.split.preset is not None:
        return preset_split(config.split.preset, samples)
    return split(
        samples,
        train=config.split.train,
        validation=0 if config.validation_files else config.split.validation,
        test=_test_share(config),
        seed=config.split.seed,
    )


def _named_apart(tests: list[HeldOut]) -> tuple[HeldOut, ...]:
    """Test sets with different names: the name of the file, or its path where two files have the same name."""
    names = [test.name for test in tests]
    named = [test if names.count(test.name) == 1 else replace(test, name=str(test.path)) for test in tests]
    if len({test.name for test in named}) < len(named):
        raise UserError(f"data.test_files names a file twice: {', '.join(test.name for test in named)}")
    return tuple(named)


def _test_share(config: DataConfig) -> int | float | None:
    if config.test_files:
        return 0
    if config.split.test is None and config.split.train is None:
        return 0.1
    return config.split.test


def _held_out(path: str | Sequence[str], config: DataConfig, train: FieldDataset, key: str) -> HeldOut:
    dataset = open_dataset(path, config)
    named = path if isinstance(path, str) else ", ".join(path)
    for kind in ("inputs", "constants", "outputs", "boundary"):
        ours, theirs = getattr(train.meta, kind), getattr(dataset.meta, kind)
        if ours != theirs:
            raise UserError(f"the {kind} of {named} are {theirs}, those of the training file {ours}; they must agree")
    own = {fingerprint(layout) for layout in train.layouts}
    if any(fingerprint(layout) in own for layout in dataset.layouts):
        raise UserError(
            f"{named} in data.{key} is the training file itself, or has it among its files; use data.split instead"
        )
    return HeldOut(Path(named).name, dataset, np.arange(len(dataset)), Path(named))
