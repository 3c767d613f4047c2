"""What may differ between a run and its continuation."""

import re
from pathlib import Path
from typing import Any

from katops.config import BaseRunConfig, load_config
from katops.errors import UserError
from katops.training.directory import CONFIG_FILE

FREE_ON_RESUME = (
    "name",
    "output",
    "report",
    "plugins",
    "repeats",
    "train.device",
    "train.num_nodes",
    "train.activation_checkpointing",
    "train.checkpoint_minutes",
    "train.non_finite",
    "train.trackers",
    "data.memory",
    "data.workers",
    "data.timeout",
)
"""Keys that may differ between a run and its continuation; everything else would make it another run."""


def check_same_run(config: BaseRunConfig, directory: Path) -> None:
    """Refuse to continue a run under a configuration that would have made another run.

    Raises:
        UserError: a key differs from the ``config.yaml`` of the folder; the message names it with both values.
    """
    path = directory / CONFIG_FILE
    if not path.is_file():
        return
    before, now = _flat(load_config(path).model_dump()), _flat(config.model_dump())
    for key in sorted({*before, *now}):
        # An entry of a mixture has the keys of the section.
        general = re.sub(r"^data\.mix\.\d+\.", "data.", key)
        free = any(general == prefix or general.startswith(prefix + ".") for prefix in FREE_ON_RESUME)
        if not free and before.get(key) != now.get(key):
            raise UserError(
                f"cannot resume {directory}: {key} was {before.get(key)!r} and is {now.get(key)!r} now; "
                f"put it back, or train into another folder with --output"
            )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(values, list) and any(isinstance(value, dict) for value in values):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        key: value
        for name, child in values.items()
        for key, value in _flat(child, f"{prefix}.{name}" if prefix else str(name)).items()
    }
