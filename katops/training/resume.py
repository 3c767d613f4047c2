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
    check_same_values(load_config(path).model_dump(), config.model_dump(), f"cannot resume {directory}")


def check_same_values(before: dict[str, Any], now: dict[str, Any], refusal: str) -> None:
    """Refuse two configurations that make different runs.

    Args:
        before, now: nested values.
        refusal: the first words of the message.

    Raises:
        UserError: a key differs; the message names it with both values.
    """
    before, now = _flat(before), _flat(now)
    for key in sorted({*before, *now}):
        # An entry of a mixture has the keys of the section.
        general = re.sub(r"^data\.mix\.\d+\.", "data.", key)
        free = any(general == prefix or general.startswith(prefix + ".") for prefix in FREE_ON_RESUME)
        if not free and before.get(key) != now.get(key):
            raise UserError(
                f"{refusal}: {key} was {before.get(key)!r} and is {now.get(key)!r} now; put it back, or choose another "
                f"folder with --output"
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
