"""The recipe of exported files: the root attributes of katops' own layout and what else its readers need, as JSON."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat

from katops.data.formats.provenance import NAME, grid_times_and_roles
from katops.generators.layouts.source import Source


def provenance_text(source: Source) -> str:
    """The root attributes of a file in katops' own layout, and grid, times and roles."""
    recipe = {key: _plain(value) for key, value in source.file.attrs.items()}
    return json.dumps({**recipe, **grid_times_and_roles(source.problem.meta, source.problem.times)})


def provenance_bytes(source: Source) -> np.ndarray:
    """:func:`provenance_text` as the variable of a MATLAB 5 file, (1, n) uint8; ``char`` of it is the text."""
    return np.frombuffer(provenance_text(source).encode(), dtype=np.uint8)[None]


def stored_provenance(path: Path) -> dict[str, Any]:
    """What :func:`provenance_text` said when the file was written; empty where it holds none."""
    try:
        with open(path, "rb") as stream:
            is_matlab5 = stream.read(10) == b"MATLAB 5.0"
        if is_matlab5:
            text = loadmat(path, variable_names=[NAME])[NAME].tobytes()
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs[NAME]
        return dict(json.loads(text))
    except (OSError, KeyError, ValueError):  # not there, cut off, or of another origin
        return {}


def _plain(value: Any) -> Any:
    """What JSON can keep of a number, a text or a list of them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
