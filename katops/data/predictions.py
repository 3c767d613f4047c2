"""Writing predicted fields as a file in the katops layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.dataset import FieldDataset
from katops.data.writing import StoredField, create_layout, layout_file
from katops.errors import UserError
from katops.fields import Channel, FieldMeta
from katops.files import atomic_path


def _stored(channel: Channel, shape: tuple[int, ...]) -> StoredField:
    return StoredField("output", channel.unit, shape)


def write_predictions(
    path: Path,
    dataset: FieldDataset,
    meta: FieldMeta,
    predictions: Iterable[tuple[np.ndarray, np.ndarray]],
    attributes: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write predicted windows as they come; the file appears when it is whole.

    Args:
        path: the file.
        dataset: what was predicted from; gives grid, coordinates, names and the number of windows.
        meta: names and units of the outputs.
        predictions: batches of (fields (b, steps_out, channel, \\*space), index (b, 2)), in the order of the windows.
        attributes: provenance, as root attributes.
        progress: called with (windows done, all windows).

    Returns:
        ``path``.
    """
    frames = (meta.steps_out,) if meta.steps_out > 1 else ()
    # A slash in the name of an array is a folder to HDF5.
    fields = {c.name.strip("/").replace("/", "_"): _stored(c, (*frames, *dataset.space)) for c in meta.outputs}
    if len(fields) < len(meta.outputs):
        raise UserError(f"the output channels {[c.name for c in meta.outputs]} cannot be told apart as array names")
    step = dataset.meta.time_step
    # Counted from the last input frame.
    times = (dataset.window.gap + 1 + np.arange(meta.steps_out)) * step if frames and step else None
    with atomic_path(path) as temporary, layout_file(temporary) as file:
        arrays = create_layout(
            file.hdf5,
            name=dataset.meta.name,
            samples=len(dataset),
            fields=fields,
            axes=dataset.meta.axes,
            times=times,
            time_unit=dataset.meta.time_unit,
            attributes=attributes,
        )
        source = file.hdf5.create_group("source", track_order=True)
        origin = [source.create_dataset(name, (len(dataset),), "<i8") for name in ("sample", "first_frame")]
        start = 0
        for values, index in predictions:
            stop = start + len(values)
            for position, channel in enumerate(fields):
                block = values[:, :, position]
                arrays[f"fields/{channel}"][start:stop] = block if frames else block[:, 0]
            for column, numbers in enumerate(origin):
                numbers[start:stop] = index[:, column]
            file.check()
            start = stop
            if progress:
                progress(start, len(dataset))
    return path
