"""What the functions of this package need of a fitted estimator, also of one inside a pipeline or a grid search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.data.table_columns import ScaledColumn
from katops.data.table_preprocessing import TablePreprocessor
from katops.errors import UserError
from katops.models.kan import KAN


@dataclass(frozen=True)
class DerivedInputs:
    """From rows as the user has them to the inputs of a formula, in original units: gaps and levels as 1 and 0.

    Attributes:
        preprocessor: of the estimator.
        before: steps of a pipeline in front of it, or nothing.
    """

    preprocessor: TablePreprocessor
    before: Any = None

    @property
    def meanings(self) -> list[str]:
        """What each input is, in words; empty for a column of numbers without gaps."""
        gaps = {column.source for column in self.preprocessor.columns if column.kind == "missing"}
        return [self._meaning(column, column.source in gaps) for column in self.preprocessor.columns]

    def _meaning(self, column: ScaledColumn, has_gaps: bool) -> str:
        name = self.preprocessor.names[column.source]
        if column.kind == "level":
            return f"1 where {name} is {column.level}, else 0"
        if column.kind == "missing":
            return f"1 where {name} is missing, else 0"
        return f"{column.fill:g} where it is missing" if has_gaps else ""

    def __call__(self, X: Any) -> np.ndarray:
        X = X if self.before is None else self.before.transform(X)
        return self.preprocessor.raw_inputs(X)


@dataclass(frozen=True)
class FittedTable:
    """A fitted estimator, opened.

    Attributes:
        estimator: the one that holds the networks.
        models: the members, which take scaled inputs.
        columns: the inputs of the members: raw = scaled scale + offset.
        outputs: names of the outputs: targets, or classes.
        scale, offset: (J,) of the outputs, raw = output scale + offset; 1 and 0 for classes, whose outputs are logits.
        before: steps of a pipeline in front of the estimator, or nothing.
    """

    estimator: Any
    models: list[KAN]
    columns: list[ScaledColumn]
    outputs: list[str]
    scale: np.ndarray
    offset: np.ndarray
    before: Any = None

    @property
    def is_classifier(self) -> bool:
        """Whether the outputs are logits."""
        return hasattr(self.estimator, "classes_")

    @property
    def additive(self) -> bool:
        """Whether every output is a sum of functions of single inputs."""
        return all(len(model.layers) == 1 and not model.layers[0].products for model in self.models)

    @property
    def names(self) -> list[str]:
        """Names of the inputs."""
        return [column.name for column in self.columns]

    def scaled(self, X: Any) -> np.ndarray:
        """Rows of the table as the members take them, (N, inputs)."""
        X = X if self.before is None else self.before.transform(X)
        return self.estimator.preprocessor_.transform(X)

    def raw(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled inputs in original units."""
        return scaled * np.array([c.scale for c in self.columns]) + np.array([c.offset for c in self.columns])

    def rows(self, model: KAN, scaled: np.ndarray) -> Tensor:
        """Scaled inputs as a tensor for one of the members."""
        return torch.as_tensor(scaled).to(model.layers[0].coefficients)

    def outputs_of(self, model: KAN, scaled: np.ndarray) -> np.ndarray:
        """What a member says, (N, outputs): targets in their units, or logits."""
        with torch.no_grad():
            return model(self.rows(model, scaled)).double().cpu().numpy() * self.scale + self.offset


def opened(estimator: Any) -> FittedTable:
    """A fitted :class:`katops.KANRegressor` or :class:`katops.KANClassifier`, a pipeline that ends in one, or a search
    over one.

    Raises:
        UserError: it is none of these, or not fitted.
    """
    before = None
    estimator = getattr(estimator, "best_estimator_", estimator)
    if hasattr(estimator, "steps"):
        before, estimator = (estimator[:-1] if len(estimator.steps) > 1 else None), estimator.steps[-1][1]
    name = type(estimator).__name__
    if not hasattr(estimator, "preprocessor_"):
        known = hasattr(estimator, "get_params") and name.startswith("KAN")
        fix = (
            "call fit first" if known else "give a fitted KANRegressor or KANClassifier, or a pipeline that ends in one"
        )
        raise UserError(f"{name} has no fitted networks to interpret; {fix}")
    models = list(estimator.models_)
    count = models[0].out_features
    if hasattr(estimator, "classes_"):
        labels = [str(label) for label in estimator.classes_]
        outputs, scale, offset = labels[-count:], np.ones(count), np.zeros(count)
    else:
        outputs = [str(target) for target in estimator.target_names_]
        scale, offset = np.asarray(estimator.target_scale_), np.asarray(estimator.target_offset_)
    return FittedTable(estimator, models, list(estimator.preprocessor_.columns), outputs, scale, offset, before)


def output_number(fitted: FittedTable, output: int | str) -> int:
    """The place of an output given by name or number.

    Raises:
        UserError: there is no such output.
    """
    if isinstance(output, str) and output in fitted.outputs:
        return fitted.outputs.index(output)
    if isinstance(output, (int, np.integer)) and -len(fitted.outputs) <= output < len(fitted.outputs):
        return int(output) % len(fitted.outputs)
    raise UserError(f"there is no output {output!r}; the outputs are: {', '.join(fitted.outputs)}")


def input_numbers(fitted: FittedTable, inputs: Any) -> list[int]:
    """The places of inputs given by names or numbers; all for ``None``.

    Raises:
        UserError: there is no such input.
    """
    from katops.errors import did_you_mean

    if inputs is None:
        return list(range(len(fitted.columns)))
    names, found = fitted.names, []
    for entry in [inputs] if isinstance(inputs, (str, int)) else inputs:
        if isinstance(entry, str):
            if entry not in names:
                raise UserError(f"there is no input {entry!r}{did_you_mean(entry, names)} Inputs: {', '.join(names)}.")
            found.append(names.index(entry))
        elif 0 <= entry < len(names):
            found.append(int(entry))
        else:
            raise UserError(f"there is no input number {entry}; there are {len(names)}, counted from 0")
    return found
