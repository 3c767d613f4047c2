"""How a trial ended, kept in its folder until the study knows it too."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from katops.files import write_text

OUTCOME_FILE = "trial.json"


@dataclass(frozen=True)
class Outcome:
    """The end of a trial.

    Attributes:
        state: whether it ran to its end, was ended early, or cannot be run.
        seconds: wall time of the process that finished it.
        metric: name of the value.
        value: by which trials are compared; ``None`` where it did not run to its end.
        error: one sentence about a failure.
    """

    state: Literal["complete", "pruned", "failed"]
    seconds: float
    metric: str = ""
    value: float | None = None
    error: str = ""

    def write(self, folder: Path) -> None:
        """Keep it."""
        write_text(folder / OUTCOME_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Outcome | None":
        """What was kept; ``None`` where the trial is not finished."""
        path = folder / OUTCOME_FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
