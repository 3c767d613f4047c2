"""Classification by an ensemble of Kolmogorov-Arnold networks."""

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_y, check_consistent_length

from katops.errors import UserError
from katops.estimators.base import KANEstimator
from katops.estimators.fit_rows import as_array
from katops.estimators.losses import cross_entropy, logistic
from katops.predictors.table_reliability import TableReliability
from katops.predictors.tables import TableTargets


class KANClassifier(ClassifierMixin, KANEstimator):
    """Classification with learned functions on the edges of a small network (Liu et al. 2024, arXiv 2404.19756).

    As :class:`KANRegressor`, with the outputs of a member as logits: p = softmax(outputs); of two classes the one
    output is the log odds of the second class. The probabilities are the mean over the members.

    Args:
        class_weight: "balanced" for weights n / (classes n_class), n counting ``sample_weight``, a mapping from labels
            to weights, or ``None``; they multiply ``sample_weight``.
        hidden, intervals, network, scaler, optimiser, epochs, weight_decay, penalty, monotone, validation_fraction,
        ensemble, device, random_state, verbose: see :class:`KANRegressor`. The held-out rows have each class in its
            share; ``monotone`` is for two classes, and of the probability of the second.

    Attributes:
        classes_: the labels, in the order of the probabilities.
        models_, preprocessor_, columns_, history_, n_features_in_, feature_names_in_: see :class:`KANRegressor`.
        n_outputs_: width of the models' output, 1 for two classes.

    Raises:
        UserError: (from ``fit``) an argument is out of its range, or there is only one class.
    """

    def __init__(
        self,
        hidden: int | tuple[int, ...] = (5,),
        *,
        intervals: int | tuple[int, ...] = 3,
        network: dict[str, Any] | None = None,
        scaler: str | dict[str, Any] = "auto",
        optimiser: str | dict[str, Any] = "auto",
        epochs: int = 300,
        weight_decay: float = 5e-4,
        penalty: float | dict[str, float] = 0.0,
        monotone: Any = None,
        validation_fraction: float = 0.2,
        class_weight: Any = None,
        ensemble: int = 5,
        device: str = "cpu",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.intervals = intervals
        self.network = network
        self.scaler = scaler
        self.optimiser = optimiser
        self.epochs = epochs
        self.weight_decay = weight_decay
        self.penalty = penalty
        self.monotone = monotone
        self.validation_fraction = validation_fraction
        self.class_weight = class_weight
        self.ensemble = ensemble
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, eval_set: Any = None) -> Self:
        """Fit.

        Args:
            X: see :meth:`KANRegressor.fit`.
            y: labels (rows,), numbers or text.
            sample_weight: (rows,), not negative.
            groups: label of each row; rows of a group are held out together.
            eval_set: see :meth:`KANRegressor.fit`.

        Raises:
            UserError: an argument of the estimator is out of range, there is one class only, or the data do not fit.
        """
        with self._kept_on_failure():
            self._fit_checked(X, y, sample_weight, groups, eval_set)
        return self

    def _fit_checked(self, X: Any, y: Any, sample_weight: Any, groups: Any, eval_set: Any) -> None:
        table = self._table(X, reset=True)
        y = column_or_1d(_check_y(self._given(y), estimator=self), warn=True)
        check_classification_targets(y)
        check_consistent_length(table, y)
        weight = self._weight(sample_weight, table)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        present = np.unique(numbers[weight > 0])
        if len(present) < 2:
            raise UserError(
                f"KANClassifier needs at least 2 classes, the rows that count have one class, "
                f"{self.classes_[present].tolist()[0]!r}"
            )
        weight = weight * self._class_weights(y, numbers, weight)[numbers]
        two = len(self.classes_) == 2
        if self.monotone is not None and not two:
            raise UserError(f"monotone is for two classes; there are {len(self.classes_)}")
        loss, outputs = (logistic, 1) if two else (cross_entropy, len(self.classes_))
        evaluated = self._evaluated(eval_set)
        if evaluated is not None:
            evaluated = evaluated[0], self._numbers_of(column_or_1d(evaluated[1], warn=True))
        self._fit(table, numbers[:, None].astype(np.float64), loss, outputs, weight, groups, evaluated, classes=True)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (rows, classes); a tensor gives a tensor on its device."""
        return self._like(X, self._predictor().predict(self._table(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        probabilities = self._predictor().predict(self._table(X))
        return self.classes_[probabilities.argmax(axis=1)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of the rows whose class is found; tensors may be on any device."""
        return super().score(as_array(X), as_array(y), as_array(sample_weight))

    def calibrate(self, X: Any) -> Self:
        """Keep where the rows of the training, X, lie, for :meth:`assess`; ``save`` then writes their scaled inputs.

        For honest probabilities see :class:`katops.estimators.calibration.TemperatureScaling`.
        """
        self.reliability_ = TableReliability(self._domain(X))
        return self

    def _numbers_of(self, labels: np.ndarray) -> np.ndarray:
        """Places of the labels among the classes, (rows, 1)."""
        unknown = np.setdiff1d(labels, self.classes_)
        if len(unknown):
            raise UserError(f"eval_set holds the class {unknown.tolist()[0]!r}, which the training rows do not have")
        return np.searchsorted(self.classes_, labels)[:, None].astype(np.float64)

    def _class_weights(self, y: np.ndarray, numbers: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """A weight for each class; "balanced" counts rows by their weights, as it would repeated rows."""
        if not isinstance(self.class_weight, str):
            return compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        if self.class_weight != "balanced":
            raise UserError(f"class_weight={self.class_weight!r} must be 'balanced', a mapping or None")
        totals = np.bincount(numbers, weights=weight)
        return np.divide(weight.sum() / len(totals), totals, out=np.zeros_like(totals), where=totals > 0)

    def _targets(self) -> TableTargets:
        return TableTargets(classes=tuple(self.classes_.tolist()))

    def _take_targets(self, targets: TableTargets) -> None:
        self.classes_ = np.array(targets.classes)
        self.n_outputs_ = 1 if len(targets.classes) == 2 else len(targets.classes)
