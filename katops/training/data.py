"""From the ``data`` section of a configuration to data sets, splits and statistics, checked before any training."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.config import DataConfig
from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.formats import describe
from katops.data.loader import Split, split
from katops.data.normalize import Fit, fit_normalizer, reading_batch_size
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.generators import create_problem
from katops.generators.writer import write

CheckProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class TestSet:
    """Windows that are never trained on.

    Attributes:
        name: how the report calls it, the name of the file.
        dataset: where to read.
        windows: indices into the data set.
        path: the file.
    """

    name: str
    dataset: FieldDataset
    windows: np.ndarray
    path: Path


@dataclass(frozen=True)
class RunData:
    """Everything a run reads.

    Attributes:
        dataset: windows of ``data.file``.
        split: samples of each part.
        tests: the test sets, the main one first.
        fingerprint: of ``data.file``.
    """

    dataset: FieldDataset
    split: Split
    tests: tuple[TestSet, ...]
    fingerprint: str

    @property
    def meta(self) -> FieldMeta:
        """Channels, axes and window of the fields."""
        return self.dataset.meta

    @property
    def train_windows(self) -> np.ndarray:
        """Windows of the training samples."""
        return self.dataset.of_samples(self.split.train)

    @property
    def validation_windows(self) -> np.ndarray:
        """Windows of the validation samples."""
        return self.dataset.of_samples(self.split.validation)

    def fit(self, kind: str, progress: CheckProgress | None = None) -> Fit:
        """Statistics of the training samples; every other sample is read once too, so that bad values show up now.

        Raises:
            UserError: a value is not finite, in whatever part.
        """
        fit = fit_normalizer(self.dataset, self.train_windows, kind=kind, progress=progress)
        check_values(self.dataset, self.validation_windows)
        for test in self.tests:
            check_values(test.dataset, test.windows)
        return fit


def check_values(dataset: FieldDataset, windows: np.ndarray) -> None:
    """Read windows once.

    Raises:
        UserError: a value is not finite; the message names file, sample and channel.
    """
    size = reading_batch_size(dataset)
    for start in range(0, len(windows), size):
        dataset.__getitems__(windows[start : start + size])


def statement(config: DataConfig) -> dict[str, Any]:
    """The description of the arrays as the configuration gives it, for :func:`katops.data.formats.describe`."""
    return {
        "inputs": config.inputs,
        "outputs": config.outputs,
        "boundary": config.boundary,
        "grid": config.grid,
        "axes": config.axes,
        "time_step": config.time_step,
    }


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
    dataset = open_dataset(config.file, config)
    parts = _share_out(config, dataset.layout.n_samples)
    windows = len(dataset.of_samples(parts.train))
    if batch_size > windows:
        raise UserError(
            f"train.batch_size is {batch_size}, but the training part of {config.file} has {windows} windows; "
            f"make the batch smaller or data.split.train larger"
        )
    tests = _named_apart([_test_set(path, config, dataset) for path in config.test_files])
    if not tests and len(parts.test):
        path = Path(config.file)
        tests = (TestSet(path.name, dataset, dataset.of_samples(parts.test), path),)
    if not tests:
        raise UserError(
            "data.split.test is 0 and data.test_files is empty; give test samples to measure the result with"
        )
    return RunData(dataset, parts, tests, fingerprint(dataset.layout))


def open_dataset(path: str | Path, config: DataConfig) -> FieldDataset:
    """One file with the description, window and subsampling of the configuration."""
    layout = describe(path, **statement(config))
    if not layout.outputs:
        raise UserError(f"{path} has no output channels to learn; name them in data.outputs")
    if config.time_step is not None and not layout.time_dependent:
        raise UserError(f"data.time_step is {config.time_step}, but no channel of {path} has a time axis; leave it out")
    return FieldDataset(layout, window=Window(**config.window.model_dump()), subsample=config.subsample)


def _share_out(config: DataConfig, samples: int) -> Split:
    return split(
        samples,
        train=config.split.train,
        validation=config.split.validation,
        test=_test_share(config),
        seed=config.split.seed,
    )


def _named_apart(tests: list[TestSet]) -> tuple[TestSet, ...]:
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


def _test_set(path: str, config: DataConfig, train: FieldDataset) -> TestSet:
    dataset = open_dataset(path, config)
    for kind in ("inputs", "outputs", "boundary"):
        ours, theirs = getattr(train.meta, kind), getattr(dataset.meta, kind)
        if ours != theirs:
            raise UserError(f"the {kind} of {path} are {theirs}, those of the training file {ours}; they must agree")
    if fingerprint(dataset.layout) == fingerprint(train.layout):
        raise UserError(f"{path} in data.test_files is the training file itself; use data.split.test instead")
    return TestSet(Path(path).name, dataset, np.arange(len(dataset)), Path(path))
