"""What one key of a sweep may be: one of several values, or a number of a range."""

import json
from typing import Any, Protocol

from pydantic import Field

from katops.config.base import Section
from katops.errors import UserError


class Suggester(Protocol):
    """The part of :class:`optuna.trial.Trial` by which a value is drawn."""

    def suggest_categorical(self, name: str, choices: list[Any]) -> Any:
        """One of ``choices``."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number."""


class Domain(Section):
    """``when`` limits the key to trials in which earlier keys have certain values: ``{model.name: [fno, tfno]}``."""

    when: dict[str, Any] = Field(default_factory=dict)

    def applies(self, chosen: dict[str, Any]) -> bool:
        """Whether the key is varied beside the values that were chosen for the keys before it."""
        return all(key in chosen and chosen[key] in _as_list(wanted) for key, wanted in self.when.items())


class Choices(Domain):
    """One of several values; in YAML the list alone, or ``{choices: [...], when: {...}}``."""

    choices: list[Any] = Field(min_length=1)

    @property
    def labels(self) -> list[Any]:
        """The values as a database takes them: lists and sections as text."""
        plain = (bool, int, float, str, type(None))
        return [value if isinstance(value, plain) else json.dumps(value) for value in self.choices]

    @property
    def extremes(self) -> list[Any]:
        """The values that a schema has to allow."""
        return self.choices

    def check(self, where: str) -> None:
        """Find the mistakes of the key itself.

        Raises:
            UserError: a value is listed twice.
        """
        labels = self.labels
        twice = [label for place, label in enumerate(labels) if label in labels[:place]]
        if twice:
            raise UserError(f"{where} lists {twice[0]!r} twice; every value once is enough")

    def suggest(self, trial: Suggester, key: str) -> Any:
        """A value for one trial."""
        return self.value(trial.suggest_categorical(key, self.labels))

    def value(self, label: Any) -> Any:
        """What a label stands for."""
        return self.choices[self.labels.index(label)]


class Range(Domain):
    """A number between ``low`` and ``high``, both included; whole where both are written as whole numbers.

    ``log`` draws its logarithm evenly, ``step`` leaves ``low + k step``.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return all(isinstance(end, int) for end in (self.low, self.high, self.step or 1))

    @property
    def extremes(self) -> list[Any]:
        """The values that a schema has to allow."""
        return [self.low, self.high]

    def of_fractions(self) -> "Range":
        """The same range with the numbers between the whole ones."""
        return self.model_copy(update={"low": float(self.low), "high": float(self.high)})

    def check(self, where: str) -> None:
        """Find the mistakes of the key itself.

        Raises:
            UserError: the ends are not in order, or do not fit ``log`` and ``step``.
        """
        low, high, step = self.low, self.high, self.step
        if not low < high:
            raise UserError(f"{where}: low is {low} and high {high}; low has to be the smaller one")
        if self.log and low <= 0:
            raise UserError(f"{where}: low is {low}, which has no logarithm; give a positive one, or drop log")
        if step is None:
            return
        if self.log:
            raise UserError(f"{where} has step and log, which exclude each other; drop one of them")
        if step <= 0 or abs((high - low) / step - round((high - low) / step)) > 1e-9:
            raise UserError(f"{where}: steps of {step} do not lead from {low} to {high}; change step or high")

    def suggest(self, trial: Suggester, key: str) -> Any:
        """A value for one trial."""
        if self.whole:
            return trial.suggest_int(key, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(key, self.low, self.high, step=self.step, log=self.log)

    def value(self, label: Any) -> Any:
        """The number itself."""
        return label


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
