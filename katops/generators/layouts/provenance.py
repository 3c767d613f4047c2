"""The recipe of exported files: the root attributes of katops' own layout, as JSON under one name."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.io import loadmat

from katops.generators.layouts.source import Source

NAME = "katops_provenance"


def provenance_text(source: Source) -> str:
    """The root attributes of a file in katops' own layout."""
    return json.dumps({key: _plain(value) for key, value in source.file.attrs.items()})


def stored_provenance(path: Path) -> dict[str, Any]:
    """What :func:`provenance_text` said when the file was written; empty where it holds none."""
    try:
        with open(path, "rb") as stream:
            is_matlab5 = stream.read(10) == b"MATLAB 5.0"
        if is_matlab5:
            text = str(loadmat(path, variable_names=[NAME])[NAME].item())
        else:
            with h5py.File(path, "r") as file:
                text = file.attrs[NAME]
        return dict(json.loads(text))
    except (OSError, KeyError, ValueError):  # not there, cut off, or of another origin
        return {}


def _plain(value: Any) -> Any:
    """What JSON can keep of a number, a text or a list of them."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
