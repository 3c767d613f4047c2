"""What the estimators for numbers and for classes share: reading tables, fitting an ensemble, saving it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from katops import bundle
from katops.data.table_preprocessing import TablePreprocessor
from katops.data.table_reading import has_categories, is_frame
from katops.errors import UserError
from katops.estimators.fit_rows import as_array
from katops.estimators.fitting import Problem, fit_members
from katops.estimators.losses import Loss
from katops.estimators.monotone import directions
from katops.estimators.older_files import present_arguments
from katops.estimators.parameters import restored, stored
from katops.estimators.rows import Rows, distinct, held_out, joined
from katops.estimators.settings import Settings
from katops.predictors.applicability import Applicability, ApplicabilityDomain
from katops.predictors.tables import TablePredictor, TableTargets


class KANEstimator(BaseEstimator):
    """The common part of :class:`KANRegressor` and :class:`KANClassifier`."""

    def out_of_range(self, X: Any) -> np.ndarray:
        """How many rows of each column lie outside the range of the training rows, (n_features_in_,).

        There only the straight and base parts of the learned functions go on. A level that the training did not have
        counts, too.
        """
        return self._predictor().preprocessor.out_of_range(self._table(X)).sum(axis=0)

    def assess(self, X: Any) -> Applicability:
        """Whether rows resemble those of the training, (rows,) each; :meth:`calibrate` must have been called.

        Raises:
            UserError: it was not.
        """
        return self._predictor().assess(self._table(X))

    def _domain(self, X: Any) -> ApplicabilityDomain:
        check_is_fitted(self)
        return ApplicabilityDomain(self.preprocessor_).fit(self._table(X))

    @property
    def predictor(self) -> TablePredictor:
        """The fitted models with their preprocessing and the meaning of their outputs."""
        return self._predictor()

    @property
    def columns_(self) -> list:
        """The inputs of the models, see :class:`katops.data.table_columns.ScaledColumn`."""
        check_is_fitted(self)
        return self.preprocessor_.columns

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of the table; ``x0``, ``x1``, ... where it had none."""
        check_is_fitted(self)
        return list(self.preprocessor_.names)

    def save(self, path: str | Path, **header: Any) -> Path:
        """Write the fitted estimator to a model file, atomically; ``katops.load(path).predict(X)`` needs no more.

        Args:
            path: a file that ends in ``.safetensors``, or a folder to hold ``model.safetensors``.
            header: further entries that JSON can hold, such as ``metrics`` or ``data``.

        Raises:
            UserError: the models use a layer that is not registered.
        """
        check_is_fitted(self)
        parameters = {name: stored(name, value) for name, value in self.get_params(deep=False).items()}
        state = {
            "name": type(self).__name__,
            "parameters": parameters,
            "named": hasattr(self, "feature_names_in_"),
            "history": self.history_,
        }
        return bundle.save(path, self._predictor(), **{"estimator": state, **header})

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> Self:
        """The fitted estimator that :meth:`save` wrote, with the same predictions.

        Raises:
            UserError: the file holds no such estimator.
        """
        loaded = bundle.load(path, device)
        state = loaded.header.get("estimator", {})
        if state.get("name") != cls.__name__:
            raise UserError(
                f"{str(path)!r} holds {state.get('name') or 'a model without estimator'}, not a {cls.__name__}; use "
                f"katops.load to predict with it"
            )
        parameters = {name: restored(value) for name, value in state["parameters"].items()}
        estimator = cls(**present_arguments(parameters))
        return estimator._restore(loaded.predictor, state)

    def _restore(self, predictor: TablePredictor, state: dict[str, Any]) -> Self:
        self.models_ = list(predictor.model)
        self.preprocessor_ = predictor.preprocessor
        self.history_ = state["history"]
        self.n_features_in_ = len(self.preprocessor_.names)
        if state["named"]:
            self.feature_names_in_ = np.array(self.preprocessor_.names, dtype=object)
        if predictor.reliability is not None:
            self.reliability_ = predictor.reliability
        self._take_targets(predictor.targets)
        return self

    @contextmanager
    def _kept_on_failure(self) -> Iterator[None]:
        """What an earlier fit has left stays as it is where this one fails."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(
        self,
        table: Any,
        targets: np.ndarray,
        loss: Loss,
        outputs: int,
        weight: np.ndarray,
        groups: Any,
        evaluated: tuple[Any, np.ndarray] | None,
        classes: bool = False,
    ) -> None:
        """Fit the preprocessing and the members to targets (N, J), in raw units or numbers of classes.

        ``evaluated`` are a table and targets to validate on in place of held-out rows.
        """
        settings = Settings.checked(self.get_params(deep=False))
        random = check_random_state(self.random_state)
        seeds = random.randint(2**31 - 1, size=settings.ensemble + 2)
        names = getattr(self, "feature_names_in_", None)
        names = None if names is None else [str(name) for name in names]
        self.preprocessor_ = TablePreprocessor.fit(table, settings.scaler, names, weight, settings.reach)
        wanted = directions(self.monotone, self.preprocessor_.names, self.preprocessor_.columns)
        groups = None if groups is None else _checked_groups(groups, len(targets))
        rows = distinct(self.preprocessor_.transform(table), targets, weight, groups)
        self._measure_outputs(rows)
        rows = self._on_the_scale_of_outputs(rows)
        if evaluated is None:
            generator = np.random.default_rng(seeds[-1])
            strata = rows.targets[:, 0] if classes else None
            kept = held_out(rows, settings.ensemble, settings.validation_fraction, generator, strata)
        else:
            inputs, truth = self.preprocessor_.transform(evaluated[0]), evaluated[1]
            others = self._on_the_scale_of_outputs(distinct(inputs, truth, np.ones(len(truth)), None))
            rows, kept = joined(rows, others, settings.ensemble)
        problem = Problem(rows, kept, loss, outputs, wanted)
        if hasattr(self, "reliability_"):
            del self.reliability_  # it was that of the models before
        self.models_, self.history_ = fit_members(problem, settings, seeds[:-1].tolist(), bool(self.verbose))
        self.n_outputs_ = outputs

    def _given(self, y: Any) -> Any:
        """The targets, those of a tensor on the CPU.

        Raises:
            UserError: there are none.
        """
        if y is None:
            raise UserError(f"{type(self).__name__} requires y to be passed, but the target y is None")
        return as_array(y)

    def _table(self, X: Any, reset: bool = False) -> Any:
        """The table as the preprocessing takes it, checked as scikit-learn asks."""
        if not reset:
            check_is_fitted(self)
        X = as_array(X)
        if has_categories(X) or (not reset and is_frame(X) and self.preprocessor_.levels):
            checked = validate_data(self, X, reset=reset, skip_check_array=True)
            if len(checked) < 1:
                raise UserError("Found array with 0 sample(s) while a minimum of 1 is required.")
            return checked
        return validate_data(self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan")

    @staticmethod
    def _like(X: Any, predicted: Any) -> Any:
        """The predictions as tensors where X was one."""
        if not isinstance(X, torch.Tensor):
            return predicted
        if isinstance(predicted, tuple):
            return tuple(torch.from_numpy(part).to(X.device) for part in predicted)
        return torch.from_numpy(predicted).to(X.device)

    def _weight(self, sample_weight: Any, X: Any) -> np.ndarray:
        weight = _check_sample_weight(as_array(sample_weight), X, dtype=np.float64, ensure_non_negative=True)
        if not weight.sum() > 0:
            raise UserError("all entries of sample_weight are zero; at least one row must count")
        return weight

    def _predictor(self) -> TablePredictor:
        check_is_fitted(self)
        return TablePredictor(self.models_, self.preprocessor_, self._targets(), getattr(self, "reliability_", None))

    def _evaluated(self, eval_set: Any) -> tuple[Any, Any] | None:
        """Table and targets of ``eval_set``, checked but for what the targets are.

        Raises:
            UserError: it is no pair, or the two do not fit.
        """
        if eval_set is None:
            return None
        if not isinstance(eval_set, tuple | list) or len(eval_set) != 2:
            raise UserError("eval_set must be a pair (X, y) of rows to validate on")
        # The names of columns have been noted, but nothing is fitted yet.
        X = as_array(eval_set[0])
        if not (has_categories(X) or is_frame(X)):
            X = validate_data(self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan")
        y = self._given(eval_set[1])
        if len(X) != len(y) or not len(X):
            raise UserError(f"eval_set: X has {len(X)} rows, y has {len(y)}; both must have the same, at least one")
        return X, y

    def _measure_outputs(self, rows: Rows) -> None:
        """Note what the scale of the outputs is, from the training rows."""

    def _on_the_scale_of_outputs(self, rows: Rows) -> Rows:
        return rows

    def _targets(self) -> TableTargets:
        raise NotImplementedError

    def _take_targets(self, targets: TableTargets) -> None:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _checked_groups(groups: Any, rows: int) -> np.ndarray:
    labels = np.asarray(as_array(groups))
    if labels.shape != (rows,):
        raise UserError(f"groups must hold one label for each of {rows} rows, got shape {labels.shape}")
    return labels
