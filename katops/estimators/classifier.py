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
        hidden, intervals, degree, basis, linear, scaler, optimiser, epochs, learning_rate, weight_decay, penalty,
        smoothness, refine, validation_fraction, patience, ensemble, device, dtype, random_state, verbose: see
            :class:`KANRegressor`. The held-out rows have each class in its share.

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
        intervals: int = 3,
        degree: int = 3,
        basis: Any = "bspline",
        linear: bool = True,
        scaler: str = "auto",
        optimiser: str = "auto",
        epochs: int = 300,
        learning_rate: float = 1e-2,
        weight_decay: float = 5e-4,
        penalty: float = 0.0,
        smoothness: float = 0.0,
        refine: tuple[int, ...] = (),
        validation_fraction: float = 0.2,
        patience: int = 30,
        class_weight: Any = None,
        ensemble: int = 5,
        device: str = "cpu",
        dtype: str = "auto",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.hidden = hidden
        self.intervals = intervals
        self.degree = degree
        self.basis = basis
        self.linear = linear
        self.scaler = scaler
        self.optimiser = optimiser
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.penalty = penalty
        self.smoothness = smoothness
        self.refine = refine
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.class_weight = class_weight
        self.ensemble = ensemble
        self.device = device
        self.dtype = dtype
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None) -> Self:
        """Fit.

        Args:
            X: see :meth:`KANRegressor.fit`.
            y: labels (rows,), numbers or text.
            sample_weight: (rows,), not negative.
            groups: label of each row; rows of a group are held out together.

        Raises:
            UserError: an argument of the estimator is out of range, there is one class only, or the data do not fit.
        """
        with self._kept_on_failure():
            self._fit_checked(X, y, sample_weight, groups)
        return self

    def _fit_checked(self, X: Any, y: Any, sample_weight: Any, groups: Any) -> None:
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
        loss, outputs = (logistic, 1) if two else (cross_entropy, len(self.classes_))
        self._fit(table, numbers[:, None].astype(np.float64), loss, outputs, weight, groups, classes=True)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (rows, classes); a tensor gives a tensor on its device."""
        return self._like(X, self._predictor().predict(self._table(X)))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        probabilities = self._predictor().predict(self._table(X))
        return self.classes_[probabilities.argmax(axis=1)]

    def calibrate(self, X: Any) -> Self:
        """Keep where the rows of the training, X, lie, for :meth:`assess`; ``save`` then writes their scaled inputs.

        For honest probabilities see :class:`katops.estimators.calibration.TemperatureScaling`.
        """
        self.reliability_ = TableReliability(self._domain(X))
        return self

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
