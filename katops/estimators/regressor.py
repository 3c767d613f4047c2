"""Regression by an ensemble of Kolmogorov-Arnold networks."""

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin, clone
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from katops.errors import UserError
from katops.estimators.base import KANEstimator
from katops.estimators.fit_rows import FitRows, as_array
from katops.estimators.losses import pinball, squared_error
from katops.estimators.rows import Rows
from katops.predictors.table_reliability import TableReliability, conformal_half_widths
from katops.predictors.tables import TableTargets

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Of the intervals that :meth:`KANRegressor.calibrate` measures."""


class KANRegressor(RegressorMixin, KANEstimator):
    """Regression with learned functions on the edges of a small network (Liu et al. 2024, arXiv 2404.19756).

    Every member of the ensemble is y_j = sum_i phi_ji(z_i), z_i = sum_k phi_ik(x_k), ..., with
    phi(x) = w_b SiLU(x) + w_l x + sum_m c_m B_m(x), B_m the B-splines on a grid that follows the data, and x, y
    scaled. It is trained until the loss on the rows that it holds out is least, and the members hold out different
    rows; the prediction is their mean. A fit depends neither on the order of the rows nor, ``sample_weight`` counting
    repetitions, on how they are repeated, and changes no global random numbers.

    Args:
        hidden: numbers of hidden nodes, layer by layer; ``()`` is a sum of functions of single columns.
        intervals: of each grid; several rising numbers, such as ``(3, 6, 12)``, are finer grids on which the fit goes
            on, for up to ``epochs`` each.
        network: further options of the networks, any of: ``linear`` (True: every edge has a straight line besides);
            ``degree`` of the splines (3); ``extrapolation`` of the splines, "clamp" (as it is beside straight lines),
            "linear" (without them) or "zero"; ``basis``, in place of "bspline" another registered basis, by name or as
            ``{"name": ..., options}``; ``products``, how many nodes of each layer, the output included, are products of
            ``arity`` (2) sums, such as ``(1, 0)``; ``base_act`` ("silu") and ``init`` ("glorot"), see
            :class:`katops.models.kan.KAN`.
        scaler: of the columns, all of them affine. "quantile": 5 and 95 % to -1 and 1; "robust": median and quartiles;
            "standard": mean and standard deviation; "minmax": smallest and largest to -1 and 1; "auto": "minmax" for
            columns with half of their rows at one value, "quantile" for others, at most 3 from 0 with heavy tails.
            ``{"name": "auto", "reach": 1.0}``: numbers count as they are up to one width of the range of the training
            rows beyond it, and further out as they would there; ``None`` for no such bound.
        optimiser: "lbfgs": quasi-Newton on all rows, an epoch being one iteration; "adamw": batches of 256
            rows or 1/64 of them; "auto": "lbfgs" up to 2000 distinct rows. ``{"name": "adamw", "learning_rate": 1e-2,
            "patience": 30, "dtype": "auto"}``: the first learning rate of AdamW, which falls to zero as a cosine; the
            epochs without gain on the held-out rows after which a fit ends; "float32", "float64", or "auto": float64
            with L-BFGS, float32 with AdamW.
        epochs: largest number, of each grid.
        weight_decay: L-BFGS: w / 2 times the sum of squared parameters is added to the loss; AdamW: decoupled.
        penalty: weight of the sparsity of edges, 1 for the L1 norm of their activations and 2 for their entropy
            relative to it (Liu et al. 2024, section 2.5.1); or weights of several penalties, ``{"edges": ...,
            "inputs": ..., "smoothness": ...}``: ``inputs`` is a group lasso, the sum over inputs of the norm of all
            their weights (Yuan and Lin 2006), which turns inputs off altogether; ``smoothness`` is of the squared bends
            of the splines, the second differences of P-splines (Eilers and Marx 1996); straight lines are free.
        monotone: columns along which predictions may only rise (1) or fall (-1), whatever the other columns are:
            ``{"Mo": 1}`` by name or place, or one entry per column. The edges behind them only rise, which leaves less
            room for interactions; needs splines without products.
        validation_fraction: share of the rows that each member holds out, at most 0.5; 0 trains on all rows for all
            epochs. Equal rows, and rows of one of ``groups``, are never divided. Below 10 groups none are held out.
        ensemble: number of members.
        quantile: fit this quantile, such as 0.05, instead of the mean.
        device: "cpu", "cuda", "cuda:1", ...
        random_state: seed, ``numpy.random.RandomState`` or ``None``.
        verbose: show a progress bar.

    Attributes:
        models_: the members, :class:`katops.models.kan.KAN` on scaled inputs.
        preprocessor_: from a table to scaled inputs; missing values stand at the median, with a column that says so.
        columns_: the scaled inputs, one record each.
        target_offset_, target_scale_: (targets,), raw = output scale + offset.
        target_names_: of a data frame or series of targets, else ``y`` or ``y0``, ``y1``, ...
        history_: a record per epoch: ``intervals``, ``epoch``, mean ``loss`` and ``validation`` loss of the members.
        n_features_in_, feature_names_in_, n_outputs_: as in scikit-learn.

    Raises:
        UserError: (from ``fit``) an argument is out of its range; a ``ValueError``, as those of scikit-learn's checks.
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
        ensemble: int = 5,
        quantile: float | None = None,
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
        self.ensemble = ensemble
        self.quantile = quantile
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None, eval_set: Any = None) -> Self:
        """Fit.

        Args:
            X: data frame, array or tensor (rows, columns). In data frames, columns that are not numbers are categories;
                missing values are allowed everywhere.
            y: (rows,) or (rows, targets), in any unit.
            sample_weight: (rows,), not negative.
            groups: label of each row; rows of a group are held out together.
            eval_set: a pair (X, y) on which all members are validated in place of rows of their own; they then train on
                all rows of X.

        Raises:
            UserError: an argument of the estimator is out of range, or the data do not fit.
        """
        with self._kept_on_failure():
            self._fit_checked(X, y, sample_weight, groups, eval_set)
        return self

    def _fit_checked(self, X: Any, y: Any, sample_weight: Any, groups: Any, eval_set: Any) -> None:
        loss = squared_error if self.quantile is None else pinball(self.quantile)
        table = self._table(X, reset=True)
        names = _target_names(y)
        y = check_array(self._given(y), ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(table, y)
        self._single = y.ndim == 1
        targets = y[:, None] if self._single else y
        weight = self._weight(sample_weight, table)
        self.target_names_ = names or (["y"] if self._single else [f"y{place}" for place in range(targets.shape[1])])
        evaluated = self._evaluated(eval_set)
        if evaluated is not None:
            truth = check_array(evaluated[1], ensure_2d=False, dtype=np.float64, input_name="y of eval_set")
            truth = truth[:, None] if truth.ndim == 1 else truth
            if truth.shape[1] != targets.shape[1]:
                raise UserError(f"eval_set: y has {truth.shape[1]} targets, that of the training {targets.shape[1]}")
            evaluated = evaluated[0], truth
        self._fit(table, targets, loss, targets.shape[1], weight, groups, evaluated)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predictions in the unit of the targets, (rows,) or (rows, targets).

        Args:
            X: as in ``fit``; a tensor gives a tensor on its device.
            return_std: also return the standard deviation over the members. It says how far they agree, which grows
                away from the data; it is no interval of stated coverage, see :mod:`katops.estimators.conformal`.
        """
        predicted = self._predictor().predict(self._table(X), return_std=return_std)
        return self._like(X, predicted)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2, the mean over the targets; tensors may be on any device."""
        return super().score(as_array(X), as_array(y), as_array(sample_weight))

    def calibrate(self, X: Any, y: Any, groups: Any = None, folds: int = 5, sample_weight: Any = None) -> Self:
        """Measure the width of intervals and keep where the rows of the training lie; ``save`` then writes both.

        Copies of the estimator are fitted in folds. The half width of level q is the ceil((n + 1) q)-th smallest of the
        |errors| of all rows, each predicted by the copy that had not seen it, and is the same everywhere; levels 0.5,
        0.8, 0.9 and 0.95. For intervals with a proof, or of varying width, see :mod:`katops.estimators.conformal`.

        Args:
            X, y: the rows of the training. Their scaled inputs become a part of the model file.
            groups: label of each row; rows of a group are in one fold, and held out together within it.
            folds: their number.
            sample_weight: (rows,), of the fits; errors count alike, rows without weight not at all.
        """
        check_is_fitted(self)
        rows = FitRows.of(X, np.asarray(self._given(y), dtype=np.float64), groups, sample_weight)
        folded = KFold(folds, shuffle=True, random_state=0) if groups is None else GroupKFold(folds)
        known = {"groups": rows.groups, "sample_weight": rows.sample_weight}
        unseen = cross_val_predict(clone(self), rows.X, rows.y, groups=rows.groups, cv=folded, params=known)
        residuals = (rows.y - unseen).reshape(len(rows.y), -1)
        self.reliability_ = TableReliability(self._domain(rows.X), conformal_half_widths(residuals, LEVELS))
        return self

    def interval(self, X: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of intervals around the predictions, in their shape; after :meth:`calibrate`.

        Raises:
            UserError: nothing was measured, or not for this level.
        """
        return self._like(X, self._predictor().interval(self._table(X), level))

    def _measure_outputs(self, rows: Rows) -> None:
        # From the distinct rows: sums in another order would differ in the last digit, and with them the fit.
        self.target_offset_, self.target_scale_ = _moments(rows.targets, rows.weight)

    def _on_the_scale_of_outputs(self, rows: Rows) -> Rows:
        return replace(rows, targets=(rows.targets - self.target_offset_) / self.target_scale_)

    def _targets(self) -> TableTargets:
        return TableTargets(
            offset=tuple(self.target_offset_.tolist()),
            scale=tuple(self.target_scale_.tolist()),
            names=tuple(self.target_names_),
            single=self._single,
        )

    def _take_targets(self, targets: TableTargets) -> None:
        self.target_offset_, self.target_scale_ = np.array(targets.offset), np.array(targets.scale)
        self.target_names_, self._single = list(targets.names), targets.single
        self.n_outputs_ = len(targets.offset)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def _target_names(y: Any) -> list[str] | None:
    if hasattr(y, "columns"):
        return [str(name) for name in y.columns]
    name = getattr(y, "name", None)
    return [str(name)] if isinstance(name, str) else None


def _moments(targets: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean and standard deviation of each target; 1 where it is constant."""
    offset = np.average(targets, axis=0, weights=weight)
    scale = np.sqrt(np.average((targets - offset) ** 2, axis=0, weights=weight))
    constant = scale <= 1e-12 * np.abs(targets).max(axis=0)
    return offset, np.where(constant, 1.0, scale)
