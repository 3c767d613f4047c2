"""Writing predicted fields as a file in the katops layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.writing import StoredField, array_names, create_layout, layout_file
from katops.fields import FieldMeta
from katops.files import atomic_path


def write_predictions(
    path: Path,
    dataset: FieldDataset | AlignedDataset,
    meta: FieldMeta,
    predictions: Iterable[tuple[np.ndarray, np.ndarray]],
    attributes: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
    *,
    times: Sequence[float] | None = None,
) -> Path:
    """Write predicted windows as they come; the file appears when it is whole.

    Args:
        path: the file.
        dataset: what was predicted from; gives grid, coordinates, names and the number of windows.
        meta: names and units of the outputs.
        predictions: batches of (fields (b, steps_out, channel, \\*space), index (b, 4)), in the order of the windows;
            the index is that of :class:`katops.fields.FieldSample`.
        attributes: provenance, as root attributes.
        progress: called with (windows done, all windows).
        times: lead times of the predicted frames, where they are not those of the windows.

    Returns:
        ``path``.
    """
    frames = (meta.steps_out,) if meta.steps_out > 1 or times is not None else ()
    names = array_names(meta.outputs)
    shape = (*frames, *dataset.space)
    unit = dataset.meta.time_unit
    if times is not None:
        times = np.asarray(times, dtype=np.float64)
    elif frames:
        times, unit = _lead_times(dataset, meta.steps_out)
    with atomic_path(path) as temporary, layout_file(temporary) as file:
        arrays = create_layout(
            file.hdf5,
            name=_name(dataset.meta, meta),
            samples=len(dataset),
            fields={
                name: StoredField.of(channel, "output", shape)
                for name, channel in zip(names, meta.outputs, strict=True)
            },
            axes=dataset.meta.axes,
            times=times,
            time_unit=unit if frames else "",
            coordinates=dataset.meta.coordinates,
            licence=dataset.meta.licence,
            citation=dataset.meta.citation,
            attributes=attributes,
        )
        source = file.hdf5.create_group("source", track_order=True)
        origin = [source.create_dataset(name, (len(dataset),), "<i8") for name in ("file", "sample", "first_frame")]
        start = 0
        for values, index in predictions:
            stop = start + len(values)
            for position, name in enumerate(names):
                block = values[:, :, position]
                arrays[f"fields/{name}"][start:stop] = block if frames else block[:, 0]
            for column, numbers in enumerate(origin):
                numbers[start:stop] = index[:, column]
            file.check()
            start = stop
            if progress:
                progress(start, len(dataset))
    return path


def _name(given: FieldMeta, predicted: FieldMeta) -> str:
    """Of the data set; files of inputs alone could not know what is predicted from them."""
    if given.outputs or given.name != ", ".join(channel.name for channel in given.inputs):
        return given.name
    return f"{given.name} -> {', '.join(channel.name for channel in predicted.outputs)}"


def _lead_times(dataset: FieldDataset, steps: int) -> tuple[np.ndarray, str]:
    """Times of the predicted frames from the last input frame on, (steps,) or (windows, steps), and their unit.

    Frames are counted where nobody knows their time: uneven times end with the file.
    """
    window, step = dataset.window, dataset.meta.time_step
    ahead = window.gap + 1 + np.arange(steps)
    if step is not None:
        return ahead * step, dataset.meta.time_unit
    files, samples, starts, _ = dataset.places(np.arange(len(dataset)))
    last = starts + window.input_span - 1
    times = np.empty((len(dataset), steps))
    for number, layout in enumerate(dataset.layouts):
        rows = np.flatnonzero(files == number)
        needed = last[rows, None] + window.every * ahead
        if layout.times is None or (needed >= layout.frames[samples[rows], None]).any():
            return ahead.astype(np.float64), "frames"
        of_sample = layout.times if layout.times.ndim == 1 else layout.times[samples[rows]]
        of_frames, of_last = (
            of_sample[frame] if of_sample.ndim == 1 else np.take_along_axis(of_sample, frame, axis=1)
            for frame in (needed, last[rows, None])
        )
        times[rows] = of_frames - of_last
    return (times[0] if (times == times[0]).all() else times), dataset.meta.time_unit
