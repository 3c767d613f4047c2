"""Rows of a table to predictions in raw units, by an ensemble of models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.data.table_preprocessing import TablePreprocessor
from katops.errors import UserError
from katops.models.build import build_model
from katops.predictors.applicability import Applicability
from katops.predictors.table_reliability import TableReliability
from katops.predictors.tensors import part

BATCH_ROWS = 8192
"""Rows per forward pass; a table that fits in memory need not fit there with all its bases."""


@dataclass(frozen=True)
class TableTargets:
    """What the outputs of the members mean.

    Attributes:
        offset, scale: of regression, one per target: raw = output scale + offset.
        classes: of classification, labels in the order of the probabilities; empty for regression.
        names: of the targets.
        single: whether predictions have one axis, (rows,), as the targets of the training had.
    """

    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    classes: tuple[Any, ...] = ()
    names: tuple[str, ...] = ()
    single: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "offset": list(self.offset),
            "scale": list(self.scale),
            "classes": [label.item() if isinstance(label, np.generic) else label for label in self.classes],
            "names": list(self.names),
            "single": self.single,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TableTargets":
        """What :meth:`to_dict` wrote."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class Members(nn.ModuleList):
    """Models that answer the same question; their recipes are kept with them.

    Args:
        models: each maps scaled inputs (rows, I) to outputs (rows, J) and carries a ``recipe``.
    """

    @property
    def recipe(self) -> dict[str, Any] | None:
        """How the first member is built; ``None`` where one of them cannot say it."""
        recipes = [getattr(model, "recipe", None) for model in self]
        return None if None in recipes else recipes[0]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of every member, (members, rows, J)."""
        return torch.stack([model(x) for model in self])


class TablePredictor(nn.Module):
    """An ensemble with the preprocessing of its table and the meaning of its outputs.

    Regression: y = mean over members of (output scale + offset). Classification: p = mean over members of
    softmax(output), or of the logistic function of the one output that two classes have.

    Args:
        models: the members, see :class:`Members`.
        preprocessor: from the table to the inputs of the members.
        targets: what their outputs mean.
        reliability: how far they can be trusted, where that was measured.
    """

    KIND = "table"

    def __init__(
        self,
        models: Sequence[nn.Module],
        preprocessor: TablePreprocessor,
        targets: TableTargets,
        reliability: TableReliability | None = None,
    ) -> None:
        super().__init__()
        self.model = Members(models)
        self.preprocessor = preprocessor
        self.targets = targets
        self.reliability = reliability

    @property
    def classes(self) -> tuple[Any, ...]:
        """Labels in the order of the probabilities; empty for regression."""
        return self.targets.classes

    def forward(self, inputs: Tensor) -> Tensor:
        """Predictions of every member for scaled inputs (rows, I): values in raw units or probabilities."""
        return self.meaning(self.model(inputs))

    def meaning(self, outputs: Tensor) -> Tensor:
        """Outputs of the members as values in raw units or probabilities, in the precision of the outputs."""
        if not self.classes:
            return outputs * outputs.new_tensor(self.targets.scale) + outputs.new_tensor(self.targets.offset)
        if len(self.classes) == 2:
            second = outputs.sigmoid()
            return torch.cat([1 - second, second], dim=-1)
        return outputs.softmax(dim=-1)

    def members(self, table: Any) -> np.ndarray:
        """Predictions of every member, (members, rows, targets or classes), float64, without gradients."""
        inputs = self.preprocessor.transform(table)
        reference = next(self.model.parameters())
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            parts = [self.model(batch.to(reference)).cpu().double() for batch in _batches(torch.from_numpy(inputs))]
        self.train(was_training)
        # Raw units in double precision: targets may vary little around a large mean.
        return self.meaning(torch.cat(parts, dim=1)).numpy()

    def predict(self, table: Any, *, return_std: bool = False) -> Any:
        """Predict for the rows of a table.

        Args:
            table: data frame with the columns of the training, in any order, array or tensor (rows, C).
            return_std: also return how far the members differ.

        Returns:
            Regression: values in raw units, (rows,) or (rows, targets). Classification: probabilities (rows, classes).
            With ``return_std`` a pair with the standard deviation over the members, of the same shape. A tensor on the
            device of ``table`` where that is a tensor, otherwise an array.

        Raises:
            UserError: the table has not the columns of the training.
        """
        each = self.members(table)
        results = [each.mean(axis=0), each.std(axis=0)] if return_std else [each.mean(axis=0)]
        if self.targets.single and not self.classes:
            results = [result[:, 0] for result in results]
        if isinstance(table, Tensor):
            results = [torch.from_numpy(result).to(table.device) for result in results]
        return tuple(results) if return_std else results[0]

    def interval(self, table: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of intervals of a measured level around the predictions, each of their shape.

        Raises:
            UserError: nothing was measured, or not for this level.
        """
        half = self._measured().half_width(level)
        middle = self.members(table).mean(axis=0)
        lower, upper = middle - half, middle + half
        return (lower[:, 0], upper[:, 0]) if self.targets.single else (lower, upper)

    def assess(self, table: Any) -> Applicability:
        """Whether rows resemble those of the training, see :class:`katops.predictors.applicability.Applicability`.

        Raises:
            UserError: the training rows were not kept.
        """
        return self._measured().domain.assess(table)

    def _measured(self) -> TableReliability:
        if self.reliability is None:
            raise UserError("the model says nothing of its reliability; call calibrate(X, y) before save()")
        return self.reliability

    def labels(self, table: Any) -> list[Any]:
        """The most probable class of each row.

        Raises:
            UserError: the model predicts numbers.
        """
        if not self.classes:
            raise UserError("the model predicts numbers and has no classes; see predict()")
        return [self.classes[place] for place in self.members(table).mean(axis=0).argmax(axis=1)]

    def description(self) -> dict[str, Any]:
        """The JSON part of a model file that is its own."""
        return {
            "members": [model.recipe for model in self.model],
            "preprocessing": self.preprocessor.to_dict(),
            "targets": self.targets.to_dict(),
            **({} if self.reliability is None else {"reliability": self.reliability.to_dict()}),
        }

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a model file."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return tensors if self.reliability is None else tensors | self.reliability.tensors()

    @classmethod
    def from_file(cls, header: dict[str, Any], tensors: Mapping[str, Tensor]) -> "TablePredictor":
        """The predictor that a model file describes.

        Raises:
            UserError: the file names a model or an option that does not exist.
        """
        with torch.random.fork_rng(devices=[]):  # initial values that are replaced at once
            models = [build_model(recipe["name"], **recipe["arguments"]) for recipe in header["members"]]
        preprocessor = TablePreprocessor.from_dict(header["preprocessing"])
        measured = header.get("reliability")
        reliability = None if measured is None else TableReliability.from_file(measured, tensors, preprocessor)
        predictor = cls(models, preprocessor, TableTargets.from_dict(header["targets"]), reliability)
        predictor.model.load_state_dict(part(tensors, "model."), assign=True)
        return predictor


def _batches(inputs: Tensor) -> Iterator[Tensor]:
    yield from inputs.split(BATCH_ROWS)
