"""katops: Kolmogorov-Arnold networks and operator learning in one PyTorch library.

``import katops`` registers every katops model with timm and changes nothing else. The other public names are loaded
when they are first used, so that kernels and models run where the parts for training are not installed.
"""

import importlib
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "create_model": "katops.models",
    "create_layer": "katops.models",
    "list_models": "katops.models",
    "list_layers": "katops.models",
    "convert": "katops.conversion",
    "load": "katops.bundle",
    "save": "katops.bundle",
    "train": "katops.api",
    "sweep": "katops.sweeps.command",
    "evaluate": "katops.api",
    "predict": "katops.api",
    "export": "katops.exporters",
    "generate": "katops.generators",
    "prepare": "katops.ops.rational",
    "use_backend": "katops.ops.dispatch",
    "load_config": "katops.config",
    "KANRegressor": "katops.estimators",
    "KANClassifier": "katops.estimators",
    "FieldMeta": "katops.fields",
    "UserError": "katops.errors",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'katops' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})


def _is_command() -> bool:
    """Whether this process is the ``katops`` command, which imports torch only for the commands that need it."""
    if sys.argv[:1] == ["-m"]:  # Python looks for a module, and has not put its place there yet
        return ("-m", "katops") in pairwise(sys.orig_argv)
    return Path(sys.argv[0]).stem == "katops" if sys.argv and sys.argv[0] else False


if not _is_command():
    importlib.import_module("katops.models")
