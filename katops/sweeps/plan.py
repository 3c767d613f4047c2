"""A sweep as it was asked for: everything that a process needs to take part in it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from katops.config import BaseRunConfig, parse_config
from katops.errors import UserError
from katops.files import write_text
from katops.sweeps.objective import direction, steps
from katops.sweeps.space import Space
from katops.training.resume import check_same_values

SWEEP_FILE = "sweep.json"
TRIALS, LOCKS = "trials", "locks"
Pruner = Literal["median", "hyperband", "none"]


@dataclass(frozen=True)
class Plan:
    """What is tried, where, and how it is chosen.

    Attributes:
        directory: of the sweep.
        config: the configuration that is varied.
        space: the varied keys.
        trials: how many there are in the end, whoever runs them.
        seed: of the values that are tried.
        pruner: what ends bad trials early.
        storage: address of a database; ``None``: a journal file in the folder.
        allow_plugins: whether the Python files of the configuration may be run.
    """

    directory: Path
    config: BaseRunConfig
    space: Space
    trials: int
    seed: int = 0
    pruner: Pruner = "median"
    storage: str | None = None
    allow_plugins: bool = False

    @property
    def name(self) -> str:
        """Of the study, by which a database tells sweeps apart."""
        return self.directory.resolve().name

    @property
    def direction(self) -> Literal["minimize", "maximize"]:
        """Whether smaller or larger values are better."""
        return direction(self.config)

    @property
    def steps(self) -> int:
        """Of a run of the configuration, see :func:`katops.sweeps.objective.steps`."""
        return steps(self.config)

    def folder(self, number: int) -> Path:
        """Where a trial is trained."""
        return self.directory / TRIALS / f"{number:04d}"

    def lock(self, number: int) -> Path:
        """The file that says whose a trial is."""
        return self.directory / LOCKS / f"{number:04d}.lock"

    def config_of(self, number: int, chosen: dict[str, Any]) -> BaseRunConfig:
        """The configuration of a trial.

        Raises:
            UserError: the values do not go together.
        """
        return self._with(chosen, name=f"{self.config.name}-{number:04d}", output=str(self.folder(number)))

    def config_alone(self, chosen: dict[str, Any], name: str) -> BaseRunConfig:
        """The configuration of a trial as one to be trained elsewhere."""
        return self._with(chosen, name=name, output=None)

    def _with(self, chosen: dict[str, Any], **own: Any) -> BaseRunConfig:
        return parse_config({**self.space.apply(self.config.spelled_out(), chosen), **own})

    def settle(self) -> None:
        """Make the folder of the sweep, or see that it holds this very sweep.

        Raises:
            UserError: it holds something else, or a sweep that began with other values.
        """
        path = self.directory / SWEEP_FILE
        if not path.is_file():
            if self._holds_something_else(path):
                raise UserError(
                    f"{str(self.directory)!r} is not empty and is no sweep; choose another folder (--output)"
                )
            write_text(path, json.dumps(self._identity(), indent=2) + "\n")
        before = json.loads(path.read_text(encoding="utf-8"))
        check_same_values(
            before["config"],
            self._identity()["config"],
            f"cannot continue the sweep in {self.directory}",
        )
        for key, now in self._identity().items():
            if key != "config" and before[key] != now:
                raise UserError(
                    f"cannot continue the sweep in {self.directory}: its {key} was {before[key]} and is {now} now; put "
                    f"it back, or choose another folder (--output)"
                )

    def fingerprint(self) -> str:
        """Of the sweep that the folder holds, by which its study is known in a database."""
        held = json.loads((self.directory / SWEEP_FILE).read_text(encoding="utf-8"))
        return hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()

    def _holds_something_else(self, path: Path) -> bool:
        """Whether the folder is no empty one, and no sweep either that another process is just beginning."""
        if not self.directory.is_dir():
            return self.directory.exists()
        begun = set(self.directory.glob(f".{SWEEP_FILE}.*.partial"))
        # Looked for in this order: everything else of a sweep comes after its file.
        return bool(set(self.directory.iterdir()) - begun) and not path.is_file()

    def _identity(self) -> dict[str, Any]:
        """What makes the trials what they are, as JSON gives it back."""
        held = {
            "config": self.config.spelled_out(),
            "space": self.space.to_dict(),
            "seed": self.seed,
            "pruner": self.pruner,
            "storage": "journal" if self.storage is None else "database",  # its address may hold a password
        }
        return json.loads(json.dumps(held))
