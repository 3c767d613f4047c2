"""Reading data: layouts (:mod:`katops.data.formats`), windows, the lazy reader, normalisation, loaders.

The names below are loaded when they are first used: describing and inspecting a file needs no torch.
"""

import importlib
from typing import Any

_WHERE = {
    "FileLayout": "katops.data.layout",
    "describe": "katops.data.formats",
    "describe_all": "katops.data.sources",
    "Window": "katops.data.windows",
    "FieldReader": "katops.data.reading.reader",
    "FieldDataset": "katops.data.dataset",
    "open_dataset": "katops.data.opened",
    "Resample": "katops.data.resample",
    "Split": "katops.data.splits",
    "split": "katops.data.splits",
    "preset_split": "katops.data.splits",
    "batch_loader": "katops.data.loader",
    "fingerprint": "katops.data.fingerprints",
    "Normalizer": "katops.data.normalize",
    "fit_normalizer": "katops.data.normalize",
    "convert_file": "katops.data.convert_file",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
