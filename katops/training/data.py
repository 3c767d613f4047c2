"""From the ``data`` section of a configuration to data sets, splits and statistics, checked before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.config import DataConfig
from katops.data.adjustment import NOT_ADJUSTED, Adjustment
from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.layout import FileLayout
from katops.data.mixture import MixedDataset
from katops.data.pairs import Pairs
from katops.data.preset_check import check_preset
from katops.data.resample import Resample
from katops.data.sources import describe_all
from katops.data.splits import Split, preset_split, split
from katops.data.windows import Window
from katops.distributed import current
from katops.errors import UserError
from katops.generators import create_problem
from katops.generators.writer import write
from katops.training.run_data import CheckProgress, FieldSource, HeldOut, RunData
from katops.training.stated import stated_by


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


def open_run_data(config: DataConfig, batch_size: int, adjustment: Adjustment = NOT_ADJUSTED) -> RunData:
    """Open the files and share the samples out.

    Raises:
        UserError: a file is missing or does not hold what is asked for; the parts do not fit the samples; the batch is
            larger than the training part; a test file has other channels or axes than the training file.
    """
    if config.mix:
        return _open_mixture(config, batch_size)
    dataset = open_dataset(config.file, config, exclude=config.exclude, adjustment=adjustment)
    parts = _share_out(config, dataset.n_samples)
    _check_batch(len(dataset.of_samples(parts.train)), batch_size, config.name)
    tests = _named_apart([_held_out(path, config, dataset, "test_files", adjustment) for path in config.test_files])
    own = Path(config.name)
    if not tests and len(parts.test):
        tests = (HeldOut(own.name, dataset, dataset.of_samples(parts.test), own),)
    if not tests:
        raise UserError(
            "data.split.test is 0 and data.test_files is empty; give test samples to measure the result with"
        )
    validation = None
    if config.validation_files:
        validation = _held_out(config.validation_files, config, dataset, "validation_files", adjustment)
    elif len(parts.validation):
        validation = HeldOut(own.name, dataset, dataset.of_samples(parts.validation), own)
    if isinstance(dataset.window, Pairs):
        validation = None if validation is None else _from_first_frame(validation)
        tests = tuple(test.direct_from_first() for test in tests)
    together = config.pairs.together if config.pairs is not None else 1
    return RunData(
        dataset,
        parts,
        validation,
        tests,
        fingerprint(dataset.layouts),
        together=together,
        stated=stated_by(config),
    )


def generate_missing(config: DataConfig, progress: CheckProgress | None = None) -> None:
    """Generate the files that the configuration says how to generate, where they are not there yet.

    Raises:
        UserError: the parts do not fit the samples; a file is there that holds something else.
    """
    for section in config.mix or [config]:
        wanted = section.generate
        if wanted:
            problem = create_problem(wanted.problem, **wanted.options)
            _share_out(section, wanted.samples)
            write(problem, wanted.samples, wanted.seed, section.file, progress=progress)


def _open_mixture(config: DataConfig, batch_size: int) -> RunData:
    """The data sets of ``data.mix`` as one."""
    stated = stated_by(config)
    entries = zip(config.mix, stated.adjustments, strict=True)
    parts = tuple(open_run_data(entry, 1, adjustment) for entry, adjustment in entries)
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
        _named_apart([test.in_units_of_the_files() for part in parts for test in part.tests]),
        fingerprint(dataset.layouts),
        parts,
        tuple(entry.weight for entry in config.mix),
        together,
        stated,
    )
    _check_batch(len(data.train_windows), batch_size, config.name)
    return data


def _from_first_frame(held_out: HeldOut) -> HeldOut:
    """Of pairs: those whose input is the first frame, without the one of that frame with itself, if there are any."""
    places = held_out.dataset.places(held_out.windows)
    later = places.targets > places.starts
    chosen = later & (places.starts == held_out.dataset.window.first)
    if not chosen.any():
        # None of the allowed distances begins there.
        chosen = later if later.any() else np.ones_like(later)
    return replace(held_out, windows=held_out.windows[chosen])


def _check_batch(windows: int, batch_size: int, name: str) -> None:
    processes = current().size
    if batch_size * processes > windows:
        each = "" if processes == 1 else f" in each of the {processes} processes"
        raise UserError(
            f"train.batch_size is {batch_size}{each}, but the training part of {name} has {windows} windows; "
            f"make the batch smaller or data.split.train larger"
        )


def open_dataset(
    path: str | Path | Sequence[str],
    config: DataConfig,
    exclude: Sequence[int] = (),
    adjustment: Adjustment = NOT_ADJUSTED,
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
    return aligned(dataset, config, adjustment)


def aligned(dataset: FieldDataset, config: DataConfig, adjustment: Adjustment = NOT_ADJUSTED) -> FieldSource:
    """The data set in the channels of the configuration: with filled ones, masks and a lead time, where it has some."""
    if not config.fill and not config.mask and config.lead_time is None and not adjustment:
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
        dataset, **names, fill=config.fill, mask=config.mask, lead_time=config.lead_time, adjustment=adjustment
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
    path: str | Sequence[str], config: DataConfig, train: FieldSource, key: str, adjustment: Adjustment
) -> HeldOut:
    dataset = open_dataset(path, config, adjustment=adjustment)
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
