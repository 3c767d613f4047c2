"""From the ``data`` section of a configuration to data sets, splits and statistics, checked before any training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.config import DataConfig
from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.layout import FileLayout
from katops.data.mixture import MixedDataset
from katops.data.normalize import Fit
from katops.data.order import Mixing
from katops.data.pairs import Pairs
from katops.data.preset_check import check_preset
from katops.data.resample import Resample
from katops.data.sources import describe_all
from katops.data.splits import Split, preset_split, split
from katops.data.windows import WHOLE_TRAJECTORY, Window
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.generators import create_problem
from katops.generators.writer import write
from katops.training.statistics import check_read, fit_parts

CheckProgress = Callable[[int, int], None]

FieldSource = FieldDataset | AlignedDataset | MixedDataset
"""What windows are read from."""


@dataclass(frozen=True)
class HeldOut:
    """Windows that are never trained on.

    Attributes:
        name: how the report calls it, the name of the file or folder.
        dataset: where to read.
        windows: indices into the data set.
        path: the file, folder or pattern.
        direct: whether every frame of a window is predicted from its input in one call, by its lead time.
    """

    name: str
    dataset: FieldSource
    windows: np.ndarray
    path: Path
    direct: bool = False

    def in_windows(self, name: str, window: Window) -> "HeldOut":
        """The same samples in other windows.

        Raises:
            UserError: a trajectory is shorter than the window.
        """
        dataset = self.dataset.with_window(window)
        return HeldOut(name, dataset, dataset.of_samples(self.dataset.samples_of(self.windows)), self.path)

    def direct_from_first(self) -> "HeldOut":
        """Of pairs: one window in each trajectory, with the first frame of the pairs in and all later ones out."""
        dataset = self.dataset.with_window(direct_window(self.dataset.window))
        windows = dataset.of_samples(self.dataset.samples_of(self.windows))
        return HeldOut(self.name, dataset, windows, self.path, direct=True)


@dataclass(frozen=True)
class RunData:
    """Everything a run reads.

    Attributes:
        dataset: windows of ``data.file``.
        split: samples of each part.
        validation: what the best epoch is chosen by; ``None`` where there is nothing to validate with.
        tests: the test sets, the main one first.
        fingerprint: of ``data.file``.
        parts: the data sets of a mixture; empty where there is one.
        weights: how often windows of each part are drawn.
        together: pairs of a trajectory that share a batch.
        statistics: stated (mean, standard deviation) of channels.
        time_scale: stated lead time that models see as 1.
    """

    dataset: FieldSource
    split: Split
    validation: HeldOut | None
    tests: tuple[HeldOut, ...]
    fingerprint: str
    parts: tuple["RunData", ...] = ()
    weights: tuple[float, ...] = (1.0,)
    together: int = 1
    statistics: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    time_scale: float | None = None

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

    @property
    def mixing(self) -> Mixing | None:
        """How training windows are mixed; ``None`` where each is drawn once, alone."""
        if self.together == 1 and self.weights == (1.0,):
            return None
        windows = self.train_windows
        samples = np.repeat(self.split.train, [len(self.dataset.of_samples([s])) for s in self.split.train])
        sources = np.zeros(len(windows), np.int64)
        if self.parts:
            sources = np.searchsorted(self.dataset.first_windows, windows, side="right") - 1
        return Mixing(sources, samples, self.weights, self.together)

    @property
    def longest_lead(self) -> float | None:
        """The longest lead time of the training windows; ``None`` where there is no time."""
        if self.parts:
            leads = [part.longest_lead for part in self.parts]
            return None if None in leads else max(leads)
        windows = self.train_windows
        if isinstance(self.dataset.window, Pairs):
            places = self.dataset.places(windows)
            # One window for each distance of frames in each file is enough.
            distances = np.stack([places.files, places.targets - places.starts])
            windows = windows[np.unique(distances, axis=1, return_index=True)[1]]
        else:
            windows = windows[:1]
        times = [self.dataset.read([window]).time for window in windows]
        return None if any(time is None for time in times) else float(max(time.max() for time in times))

    def fit(self, kind: str, progress: CheckProgress | None = None) -> Fit:
        """Statistics of the training samples; every other sample is read once too, so that bad values show up now.

        Raises:
            UserError: a value is not finite, in whatever part.
        """
        parts = self.parts or (self,)
        shares = [(part.dataset, part.train_windows, weight) for part, weight in zip(parts, self.weights, strict=True)]
        fit = fit_parts(shares, self.dataset, kind, progress)
        for part in parts:
            for held_out in (*(() if part.validation is None else (part.validation,)), *part.tests):
                check_read(held_out.dataset, held_out.windows)
        return fit


def statement(config: DataConfig) -> dict[str, Any]:
    """The description of the arrays as the configuration gives it, for :func:`katops.data.formats.describe`.

    Channels that ``data.fill`` gives are not in the files.
    """
    keys = ("format", "parameters", "channels", "axes", "boundary", "grid", "domain", "time_step")
    named = {key: getattr(config, key) for key in ("inputs", "outputs", "constants")}
    stored = {
        key: None if names is None else [name for name in names if name not in config.fill]
        for key, names in named.items()
    }
    return {key: getattr(config, key) for key in keys} | stored


def open_run_data(
    config: DataConfig,
    batch_size: int,
    generation_progress: CheckProgress | None = None,
    offset: Mapping[str, float] | None = None,
) -> RunData:
    """Open the files, generate the first if the configuration says how, and share the samples out.

    Raises:
        UserError: a file is missing or does not hold what is asked for; the parts do not fit the samples; the batch is
            larger than the training part; a test file has other channels or axes than the training file.
    """
    if config.mix:
        return _open_mixture(config, batch_size, generation_progress)
    offset = offset or {}
    if config.generate:
        wanted = config.generate
        problem = create_problem(wanted.problem, **wanted.options)
        _share_out(config, wanted.samples)
        write(problem, wanted.samples, wanted.seed, config.file, progress=generation_progress)
    dataset = open_dataset(config.file, config, exclude=config.exclude, offset=offset)
    parts = _share_out(config, dataset.n_samples)
    _check_batch(len(dataset.of_samples(parts.train)), batch_size, config.name)
    tests = _named_apart([_held_out(path, config, dataset, "test_files", offset) for path in config.test_files])
    own = Path(config.name)
    if not tests and len(parts.test):
        tests = (HeldOut(own.name, dataset, dataset.of_samples(parts.test), own),)
    if not tests:
        raise UserError(
            "data.split.test is 0 and data.test_files is empty; give test samples to measure the result with"
        )
    validation = None
    if config.validation_files:
        validation = _held_out(config.validation_files, config, dataset, "validation_files", offset)
    elif len(parts.validation):
        validation = HeldOut(own.name, dataset, dataset.of_samples(parts.validation), own)
    if isinstance(dataset.window, Pairs):
        validation = None if validation is None else _from_first_frame(validation)
        tests = tuple(test.direct_from_first() for test in tests)
    together = config.pairs.together if config.pairs is not None else 1
    stated = {name: (mean, std) for name, (mean, std) in config.statistics.items()}
    return RunData(
        dataset,
        parts,
        validation,
        tests,
        fingerprint(dataset.layouts),
        together=together,
        statistics=stated,
        time_scale=config.time_scale,
    )


def _open_mixture(config: DataConfig, batch_size: int, generation_progress: CheckProgress | None) -> RunData:
    """The data sets of ``data.mix`` as one."""
    statistics, offsets = stated_together(config)
    parts = tuple(
        open_run_data(entry, 1, generation_progress, offset) for entry, offset in zip(config.mix, offsets, strict=True)
    )
    dataset = MixedDataset([part.dataset for part in parts])
    split_all = Split(
        *(
            np.concatenate(
                [
                    getattr(part.split, name) + first
                    for part, first in zip(parts, dataset.first_samples[:-1], strict=True)
                ]
            )
            for name in ("train", "validation", "test")
        )
    )
    held_out = [part.validation for part in parts if part.validation is not None]
    validation = None
    if held_out:
        mixed = MixedDataset([part.dataset for part in held_out])
        windows = [part.windows + first for part, first in zip(held_out, mixed.first_windows[:-1], strict=True)]
        validation = HeldOut("validation", mixed, np.concatenate(windows), Path(config.name))
    together = max(part.together for part in parts)
    data = RunData(
        dataset,
        split_all,
        validation,
        _named_apart([test for part in parts for test in part.tests]),
        fingerprint(dataset.layouts),
        parts,
        tuple(entry.weight for entry in config.mix),
        together,
        statistics,
        _common_time_scale(config),
    )
    _check_batch(len(data.train_windows), batch_size, config.name)
    return data


def stated_together(config: DataConfig) -> tuple[dict[str, tuple[float, float]], list[dict[str, float]]]:
    """The statistics that the entries of ``data.mix`` state, as one, and what is subtracted from each data set for it.

    Data sets of which one states another mean than the others, as the published ones do of the pressure, are moved to
    the mean of the first one, what is filled too: every data set is normalised with the mean that it states.

    Raises:
        UserError: two entries state different standard deviations of a channel.
    """
    common = {name: (mean, std) for name, (mean, std) in config.statistics.items()}
    offsets: list[dict[str, float]] = []
    for entry in config.mix:
        moved = {}
        for name, (mean, std) in entry.statistics.items():
            first, width = common.setdefault(name, (mean, std))
            if std != width:
                raise UserError(
                    f"data.mix: the standard deviation of {name!r} is stated as {width} and, for {entry.file}, as "
                    f"{std}; a channel of a mixture has one"
                )
            if mean != first:
                moved[name] = mean - first
        offsets.append(moved)
    return common, offsets


def _common_time_scale(config: DataConfig) -> float | None:
    """The time scale that the entries of ``data.mix`` state; a steady one needs none.

    Raises:
        UserError: they state different ones.
    """
    stated = {entry.file: entry.time_scale for entry in config.mix if entry.time_scale is not None}
    if len(set(stated.values())) > 1:
        listed = ", ".join(f"{scale:g} for {file}" for file, scale in stated.items())
        raise UserError(f"data.mix: a model has one time scale, but it is stated as {listed}; state data.time_scale")
    return next(iter(stated.values()), None)


def _from_first_frame(held_out: HeldOut) -> HeldOut:
    """Of pairs: those whose input is the first frame, without the one of that frame with itself, if there are any."""
    places = held_out.dataset.places(held_out.windows)
    later = places.targets > places.starts
    chosen = later & (places.starts == held_out.dataset.window.first)
    if not chosen.any():
        # None of the allowed distances begins there.
        chosen = later if later.any() else np.ones_like(later)
    return replace(held_out, windows=held_out.windows[chosen])


def direct_window(pairs: Pairs) -> Window:
    """From the first frame of the pairs to all frames up to the last one that lie ``pairs.every`` apart.

    Raises:
        UserError: there is one frame only.
    """
    if pairs.span == 1:
        raise UserError("data.pairs have one frame, so there is nothing to predict; give them two at least")
    n_out = (pairs.span - 1) // pairs.every
    return Window(n_out=n_out, every=pairs.every, first=pairs.first, stride=WHOLE_TRAJECTORY)


def _check_batch(windows: int, batch_size: int, name: str) -> None:
    if batch_size > windows:
        raise UserError(
            f"train.batch_size is {batch_size}, but the training part of {name} has {windows} windows; "
            f"make the batch smaller or data.split.train larger"
        )


def open_dataset(
    path: str | Path | Sequence[str],
    config: DataConfig,
    exclude: Sequence[int] = (),
    offset: Mapping[str, float] | None = None,
) -> FieldSource:
    """The files of a path, folder or pattern with the description, window and resampling of the configuration."""
    if config.preset is not None:
        check_preset(config.preset, path, config.axes)
    layouts = describe_all(path, **statement(config))
    named = path if isinstance(path, str | Path) else ", ".join(path)
    if not layouts[0].outputs:
        raise UserError(f"{named} has no output channels to learn; name them in data.outputs")
    if config.time_step is not None and not layouts[0].time_dependent:
        raise UserError(
            f"data.time_step is {config.time_step}, but no channel of {named} has a time axis; leave it out"
        )
    dataset = FieldDataset(
        layouts,
        window=_window(config, layouts, exclude),
        resample=resampling(config.model_dump()),
        exclude=exclude,
        memory=config.memory,
        condition=config.condition,
    )
    return aligned(dataset, config, offset)


def aligned(dataset: FieldDataset, config: DataConfig, offset: Mapping[str, float] | None = None) -> FieldSource:
    """The data set in the channels of the configuration: with filled ones, masks and a lead time, where it has some."""
    if not config.fill and not config.mask and config.lead_time is None and not offset:
        return dataset
    meta = dataset.meta
    given = set(meta.condition)
    own = {
        "inputs": [channel.name for channel in meta.inputs],
        "outputs": [channel.name for channel in meta.outputs],
        "constants": [channel.name for channel in meta.constants if channel.name not in given],
    }
    names = {kind: own[kind] if getattr(config, kind) is None else getattr(config, kind) for kind in own}
    return AlignedDataset(
        dataset, **names, fill=config.fill, mask=config.mask, lead_time=config.lead_time, offset=offset
    )


def _window(config: DataConfig, layouts: Sequence[FileLayout], exclude: Sequence[int]) -> Window | Pairs:
    """The pattern of frames that the configuration asks for."""
    if config.pairs is None:
        return Window(**config.window.model_dump())
    return pairs_of(config.pairs.model_dump(), layouts, exclude)


def pairs_of(wanted: Mapping[str, Any], layouts: Sequence[FileLayout], exclude: Sequence[int] = ()) -> Pairs:
    """The pairs that the keys of ``data.pairs`` mean in files, some samples of which are left out."""
    frames, last, leads = (wanted[key] for key in ("frames", "last", "leads"))
    if frames is None:
        if last is None:
            lengths = np.concatenate([layout.frames for layout in layouts])
            included = lengths[~np.isin(np.arange(len(lengths)), exclude)]
            last = int(included.min()) - 1 if len(included) else 0
        frames = range(wanted["first"], last + 1, wanted["every"])
    return Pairs(tuple(frames), wanted["identity"], None if leads is None else tuple(leads))


def resampling(data: Mapping[str, Any]) -> Resample:
    """The resampling that a ``data`` section, or the header of a model file, asks for."""
    return Resample(data.get("subsample", 1), data.get("subsample_method", "stride"), data.get("crop"))


def _share_out(config: DataConfig, samples: int) -> Split:
    if config.split.preset is not None:
        return preset_split(config.split.preset, samples, config.split.train)
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


def _held_out(
    path: str | Sequence[str], config: DataConfig, train: FieldSource, key: str, offset: Mapping[str, float]
) -> HeldOut:
    dataset = open_dataset(path, config, offset=offset)
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
