"""Arguments of estimators as JSON values of a model file, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

LABELLED = ("class_weight", "monotone")
"""Mappings whose keys are labels or columns, which need not be text as keys of JSON are."""


def stored(name: str, value: Any) -> Any:
    """The argument as JSON values; a state of a random generator has no such form and becomes ``None``."""
    if name == "random_state" and isinstance(value, np.random.RandomState):
        return None
    if name in LABELLED and isinstance(value, Mapping):
        return {"labels": [_scalar(label) for label in value], "weights": [_scalar(w) for w in value.values()]}
    return _plain(value)


def restored(value: Any) -> Any:
    """What :func:`stored` was given; sequences come back as tuples."""
    if isinstance(value, dict):
        if set(value) == {"labels", "weights"}:
            return dict(zip(value["labels"], value["weights"], strict=True))
        return {key: restored(entry) for key, entry in value.items()}
    return tuple(restored(entry) for entry in value) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, torch.device) else _scalar(value)


def _scalar(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
