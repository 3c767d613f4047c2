"""What every kind of run has: strict sections, named components, and the keys shared by all tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from katops.errors import UserError

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
PositiveFloat = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]

READING_TIMEOUT = 50.0
"""Seconds that reading a batch may take where ``data.timeout`` says nothing else."""

Locate = Callable[[tuple[str, ...]], str]
"""Maps a key path to the words that say where it was written."""


class Section(BaseModel):
    """A part of the schema: no unknown keys, no silent conversion, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Component(BaseModel):
    """A registered name with its options; in YAML ``{name: h1, max_wavenumber: 20}`` or just ``h1``.

    The options are checked later, against the signature of what the name stands for.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything except the name."""
        return dict(self.model_extra or {})


def as_component(value: Any) -> Any:
    """A name alone is a component without options."""
    return {"name": value} if isinstance(value, str) else value


NamedComponent = Annotated[Component, BeforeValidator(as_component)]


class Optimisation(Section):
    """The keys of ``train`` that mean the same in every task.

    ``precision`` uses Lightning's names. ``early_stopping`` is the number of epochs without a better validation value
    after which training ends; ``max_steps`` ends it after that many optimiser steps, whatever the epoch.
    ``batch_size`` samples are one forward pass of one process, and ``accumulate`` of them one optimiser step.

    ``strategy`` says how several processes of ``torchrun`` or ``srun`` share the work: "ddp" (and "auto") copies the
    model to each, "fsdp" spreads it over them; a single process trains as ever. ``num_nodes`` is checked against the
    launcher's where it is given. ``activation_checkpointing`` computes activations again in the backward pass instead
    of keeping them. ``checkpoint_minutes`` saves within epochs too. ``non_finite`` says what a loss or gradient that is
    not finite does: "stop" the training, "skip" the step, or "restart" from the last checkpoint without the batch.
    ``trackers`` get what ``log.csv`` gets, too, and the results; see docs/trackers.md.
    """

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 16
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-4
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = 1.0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    early_stopping: PositiveInt | None = None
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_steps: PositiveInt | None = None
    accumulate: PositiveInt = 1
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    num_nodes: PositiveInt | None = None
    activation_checkpointing: bool = False
    checkpoint_minutes: PositiveFloat | None = None
    non_finite: Literal["stop", "skip", "restart"] = "stop"
    trackers: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(default_factory=list)


class ReportConfig(Section):
    """What the report shows."""

    examples: PositiveInt = 3


class BaseRunConfig(Section):
    """One run, as written in one YAML file; the tasks add their ``data``, ``model`` and ``train``."""

    task: str
    name: str
    seed: Seed = 0
    output: str | None = None
    plugins: list[str] = []

    @property
    def directory(self) -> Path:
        """Folder of the run: ``output``, or ``runs/<name>`` below the working directory."""
        return Path(self.output) if self.output else Path("runs") / self.name

    def to_yaml(self) -> str:
        """The resolved configuration, every default spelled out."""
        return yaml.safe_dump(self.spelled_out(), sort_keys=False, allow_unicode=True, width=120)

    def spelled_out(self) -> dict[str, Any]:
        """All keys as plain containers, without what would only repeat another key."""
        return self.model_dump()

    def check_together(self, locate: Locate) -> None:
        """Find the mistakes that need two keys to be seen, or that no type can express.

        Raises:
            UserError: two keys contradict each other.
        """
        if "/" in self.name or self.name.strip() in {"", ".", ".."}:
            raise UserError(f"{locate(('name',))} must be usable as the name of a folder; given: {self.name!r}")
