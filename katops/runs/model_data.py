"""A file, read the way the training files of a model were read."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from katops.bundle import Bundle
from katops.data.adjustment import Adjustment
from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.fingerprints import fingerprint
from katops.data.layout import FileLayout
from katops.data.pairs import Pairs
from katops.data.sources import describe_all
from katops.data.splits import Split, preset_split, split
from katops.data.windows import Window
from katops.errors import UserError
from katops.fields import Channel, FieldMeta
from katops.predictors.training_sets import name_of, reading_like, readings_of, same_units
from katops.runs.result import SPLITS
from katops.training.data import pairs_of, resampling
from katops.training.run_data import FieldSource, direct_window


@dataclass(frozen=True)
class ModelData:
    """A file for a model.

    Attributes:
        dataset: its windows.
        reading: what the model file says about the training files that this one was read like.
        own: whether it is this training file.
        doubt: a sentence where other training files would fit as well and have other levels or times.
    """

    dataset: FieldSource
    reading: Mapping[str, Any]
    own: bool
    doubt: str | None = None

    @property
    def adjustment(self) -> Adjustment:
        """From the units of the file to those that the model has learned."""
        return Adjustment.from_header(self.reading)


WindowOf = Callable[[Window, float | None], Window]
"""(frames that the calls of the training were apart, time between the frames of the file) -> windows to read."""


def open_for_model(
    bundle: Bundle,
    file: str | Path,
    *,
    outputs: bool = True,
    window: WindowOf | None = None,
    like: str | None = None,
) -> ModelData:
    """A file, read the way the training file of the model was read.

    A model that was trained on several data sets reads a file like the one among them that it is, or else like the
    one that reads the most of its channels.

    Args:
        bundle: the model.
        file: the fields.
        outputs: whether there are answers to read.
        window: in place of the windows of the training; of pairs of frames, those from the first one to all later ones
            by default.
        like: the training data set, among several, that the file is like.

    Raises:
        UserError: the file lacks a channel, or its axes or boundary conditions are not those of the model; there is no
            training data set of that name, or the file is another one of them.
    """
    readings = readings_of(bundle.header) if like is None else [reading_like(bundle.header, like)]
    layouts, reading, doubt = _described(bundle.meta, file, outputs, readings)
    meta = bundle.meta
    _check_boundary(bundle, file, layouts[0], reading)
    found = fingerprint(layouts)
    own = reading.get("fingerprint") == found
    if not own:
        _check_like(file, [other for other in readings_of(bundle.header) if other.get("fingerprint") == found])
    exclude = reading.get("exclude", ()) if own else ()
    dataset = FieldDataset(
        layouts,
        window=_window(reading, layouts, exclude)
        if window is None
        else window(_of_calls(reading, meta), _time_step(layouts)),
        resample=resampling(reading),
        exclude=exclude,
        condition=meta.condition,
    )
    aligned = _aligned(dataset, reading, meta, outputs)
    _check_channels(bundle, file, aligned, outputs)
    return ModelData(aligned, reading, own, doubt)


def part_windows(data: ModelData, part: str) -> tuple[np.ndarray, str]:
    """Windows of a part of the file, and its name; "auto" is the test part of the training file, and else everything.

    Raises:
        UserError: there is no such part, or it is asked of another file.
    """
    dataset = data.dataset
    if part not in SPLITS:
        raise UserError(f"unknown split {part!r}; allowed: {', '.join(SPLITS)}")
    if part == "auto" and data.own and not data.reading["split"]["test"]:
        raise UserError(
            f"{dataset.layout.path} is the training file and no part of it was kept for testing; give other data, or "
            f"say --split train, validation or all to measure on samples that the training has seen"
        )
    if part == "auto":
        part = "test" if data.own else "all"
    if part == "all":
        return np.arange(len(dataset)), part
    if not data.own:
        raise UserError(f"split {part!r} is a part of the training file, which {dataset.layout.path} is not; use 'all'")
    samples = getattr(_split_as_trained(data.reading["split"], dataset.n_samples), part)
    return dataset.of_samples(samples), part


def learned_outputs(data: ModelData, meta: FieldMeta) -> list[int]:
    """Positions of the output channels that the model has learned from data of this kind."""
    mask = data.reading.get("mask", {})
    return [place for place, channel in enumerate(meta.outputs) if mask.get(channel.name, "") is not None]


def _split_as_trained(stated: dict[str, Any], n_samples: int) -> Split:
    if stated.get("preset") is not None:
        return preset_split(stated["preset"], n_samples, stated["train"])
    return split(n_samples, **{key: value for key, value in stated.items() if key != "preset"})


def _described(
    meta: FieldMeta, file: str | Path, outputs: bool, readings: Sequence[Mapping[str, Any]]
) -> tuple[list[FileLayout], Mapping[str, Any], str | None]:
    """The files, the training files that they are read like, and what is doubtful about that."""
    fitting: list[tuple[list[FileLayout], Mapping[str, Any]]] = []
    refusals = []
    for reading in readings:
        try:
            layouts = describe_all(file, **_statement(meta, reading, outputs))
        except UserError as error:
            if len(readings) == 1:
                raise
            refusals.append(error)
            continue
        if reading.get("fingerprint") == fingerprint(layouts):
            return layouts, reading, None
        fitting.append((layouts, reading))
    if not fitting:
        raise UserError(f"{file} can be read like none of the {len(readings)} training files; the first: {refusals[0]}")
    # A file with a density of its own is not like one whose density was filled in.
    fewest = min(len(reading.get("fill", {})) for _, reading in fitting)
    best = [(layouts, reading) for layouts, reading in fitting if len(reading.get("fill", {})) == fewest]
    return *best[0], _doubt(file, [reading for _, reading in best])


def _check_like(file: str | Path, trained_on: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to take a training file for one like another: its training samples would be measured, too."""
    if trained_on:
        raise UserError(f"{file} is {name_of(trained_on[0])}, one of the training files; leave --like out")


def _doubt(file: str | Path, readings: Sequence[Mapping[str, Any]]) -> str | None:
    others = [reading for reading in readings[1:] if not same_units(reading, readings[0])]
    if not others:
        return None
    names = ", ".join(name_of(reading) for reading in others)
    return (
        f"{file} is read like {name_of(readings[0])}; {names} would fit as well, with other levels or another "
        f"time scale; say which it is like: --like {name_of(others[0])}"
    )


def _statement(meta: FieldMeta, reading: Mapping[str, Any], outputs: bool) -> dict[str, Any]:
    fill = reading.get("fill", {})
    given = {*meta.condition, *fill}
    names = {
        "inputs": meta.inputs,
        "outputs": meta.outputs if outputs else (),
        "constants": meta.constants,
    }
    stored = {kind: [c.name for c in channels if c.name not in given] for kind, channels in names.items()}
    return {**reading.get("statement", {}), **stored}


def _of_calls(reading: Mapping[str, Any], meta: FieldMeta) -> Window:
    """The frames that calls of the model were apart in its training, for rollouts."""
    pairs = reading.get("pairs")
    if pairs is not None:
        every = pairs["every"] if pairs["frames"] is None else Pairs(tuple(pairs["frames"])).every
        # As for the report of the training, see direct_window.
        leads = [lead for lead in pairs["leads"] or () if lead]
        return Window(every=gcd(*leads) if leads else every)
    return Window(**reading["window"]) if "window" in reading else Window(meta.steps_in, meta.steps_out)


def _time_step(layouts: Sequence[FileLayout]) -> float | None:
    steps = {layout.meta.time_step for layout in layouts}
    return steps.pop() if len(steps) == 1 else None


def _window(reading: Mapping[str, Any], layouts: Sequence[FileLayout], exclude: Sequence[int]) -> Window | None:
    if reading.get("pairs") is not None:
        if min(layout.frames.min() for layout in layouts) == 1:
            raise UserError(
                f"{layouts[0].path} has states of one time only; say at which lead times to predict: --at 0.1,0.2 "
                f"(in Python: times=[0.1, 0.2])"
            )
        return direct_window(pairs_of(reading["pairs"], layouts, exclude))
    return Window(**reading["window"]) if "window" in reading else None


def _aligned(dataset: FieldDataset, reading: Mapping[str, Any], meta: FieldMeta, outputs: bool) -> FieldSource:
    mask, lead_time = reading.get("mask", {}), reading.get("lead_time")
    named = {
        channel.name
        for kind in ("inputs", "constants", *(["outputs"] if outputs else []))
        for channel in getattr(meta, kind)
    }
    fill = {name: value for name, value in reading.get("fill", {}).items() if name in named}
    if not fill and not mask and lead_time is None:
        return dataset
    given = set(meta.condition)
    return AlignedDataset(
        dataset,
        inputs=[channel.name for channel in meta.inputs],
        outputs=[channel.name for channel in meta.outputs] if outputs else [],
        constants=[channel.name for channel in meta.constants if channel.name not in given],
        fill=fill,
        mask=mask if outputs else {},
        lead_time=lead_time,
    )


def _check_boundary(bundle: Bundle, file: str | Path, layout: FileLayout, reading: Mapping[str, Any]) -> None:
    meta = bundle.meta
    axes = resampling(reading).axes(layout.meta.axes, layout.space)
    boundary = tuple(axis.boundary for axis in axes)
    mixed = len(readings_of(bundle.header)) > 1
    # Where the training files differ in their boundary, the model has none.
    if boundary != meta.boundary and not (mixed and all(sides == ("none", "none") for sides in meta.boundary)):
        raise UserError(f"the boundary conditions of {file} are {boundary}, the model was trained with {meta.boundary}")


def _check_channels(bundle: Bundle, file: str | Path, dataset: FieldSource, outputs: bool) -> None:
    meta = bundle.meta
    plain = isinstance(dataset, FieldDataset) and len(readings_of(bundle.header)) == 1
    for kind in ("inputs", "constants", "outputs") if outputs else ("inputs", "constants"):
        ours, theirs = getattr(meta, kind), getattr(dataset.meta, kind)
        same = ours == theirs if plain else [c.name for c in ours] == [c.name for c in theirs]
        if not same:
            raise UserError(
                f"the {kind} of {file} are {_listed(theirs)}, those of the model {_listed(ours)}; convert the units"
            )


def mesh_warning(bundle: Bundle, dataset: FieldSource) -> str | None:
    """A sentence where the grid is finer or coarser than in training, which the model may not survive."""
    space = bundle.header.get("data", {}).get("space")
    if space is None:
        # The model was put into a file without saying what it was trained on.
        return None
    ours = _spacing(bundle.meta, space)
    theirs = _spacing(dataset.meta, dataset.space)
    if np.allclose(ours, theirs, rtol=1e-3):
        return None
    return (
        f"the distance of the grid points is {', '.join(f'{h:.3g}' for h in theirs)}; the model was trained with "
        f"{', '.join(f'{h:.3g}' for h in ours)}, and models whose stencils are tied to the mesh fail on another one"
    )


def _spacing(meta: FieldMeta, space: Sequence[int]) -> list[float]:
    points = [axis.coordinates(size)[:2] for axis, size in zip(meta.axes, space, strict=True)]
    return [float(np.ptp(pair)) for pair in points]


def _listed(channels: Sequence[Channel]) -> str:
    return ", ".join(f"{channel.name} [{channel.unit}]" if channel.unit else channel.name for channel in channels)
