"""Reading data: layouts (:mod:`.formats`), windows, the lazy reader, normalisation, loaders.

The names below are loaded when they are first used: describing and inspecting a file needs no torch.
"""

import importlib
from typing import Any

_WHERE = {
    "FileLayout": "katops.data.layout",
    "describe": "katops.data.formats",
    "Window": "katops.data.windows",
    "FieldFile": "katops.data.hdf5",
    "FieldDataset": "katops.data.dataset",
    "Split": "katops.data.loader",
    "split": "katops.data.loader",
    "batch_loader": "katops.data.loader",
    "fingerprint": "katops.data.fingerprints",
    "Normalizer": "katops.data.normalize",
    "fit_normalizer": "katops.data.normalize",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
