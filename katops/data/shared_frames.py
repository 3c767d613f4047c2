"""Frames that several requests of a batch have in common, read once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from katops.data.reading.reader import FieldReader, Request


def read_shared(reader: FieldReader, requests: Sequence[Request], *, same: bool) -> list[Request]:
    """Fill ``out`` of requests of one frame each; a frame that occurs several times is read once and copied.

    Args:
        reader: where to read.
        requests: of one frame (``steps`` = 1) for each window of a batch.
        same: whether inputs and outputs are the same channels, so that a frame read for one serves the other.

    Returns:
        what was read: frame by frame, each once.
    """
    groups: dict[str, list[Request]] = {}
    for request in requests:
        kind = "inputs" if same and request.kind == "outputs" else request.kind
        groups.setdefault(kind, []).append(request)
    distinct, places = [], []
    for kind, group in groups.items():
        keys = [np.stack([request.files, request.samples, request.starts]) for request in group]
        frames, inverse = np.unique(np.concatenate(keys, axis=1), axis=1, return_inverse=True)
        files, samples, starts = (np.ascontiguousarray(row) for row in frames)
        out = np.empty((len(files), *group[0].out.shape[1:]), dtype=group[0].out.dtype)
        distinct.append(Request(kind, files, samples, starts, out=out))
        places.append(np.split(inverse.ravel(), len(group)))
    reader.read(*distinct)
    for group, read, rows in zip(groups.values(), distinct, places, strict=True):
        for request, row in zip(group, rows, strict=True):
            np.take(read.out, row, axis=0, out=request.out)
    return distinct
