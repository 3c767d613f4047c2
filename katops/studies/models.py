"""The models of a study by name, each as a scikit-learn estimator that takes the design table as it is.

Every factory is called with the :class:`Setting`; a plugin adds one with ``ESTIMATORS.register``.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LassoCV, LogisticRegression, MultiTaskLassoCV, RidgeCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.utils.validation import has_fit_parameter

from katops.config.base import Component
from katops.config.tables import LABEL, TUNE
from katops.errors import DataWarning, UserError, did_you_mean
from katops.registry import Registry
from katops.studies.seeds import MeanOfSeeds

ESTIMATORS = Registry("table model")
REGRESSION, CLASSIFICATION = "regression", "classification"
SET_HERE = ("random_state", "verbose")
"""Parameters that come from the study."""
MEMBERS = ("ensemble", "members")
"""Options that say of how many copies a model is the mean."""


@dataclass(frozen=True)
class Setting:
    """What a factory has to know of the study.

    Attributes:
        problem: "regression" or "classification".
        inputs: columns of the design table.
        outputs: targets of a regression, or logits of a classification (1 for two classes).
        seed: of everything random.
        kan_parameters: of one member of the study's KAN, once it is known.
    """

    problem: str
    inputs: int
    outputs: int
    seed: int
    kan_parameters: int | None = None

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.problem == REGRESSION

    @property
    def several(self) -> bool:
        """Whether several numbers are predicted together."""
        return self.regression and self.outputs > 1


@dataclass(frozen=True)
class Candidate:
    """A model of the study.

    Attributes:
        name: registered name.
        label: how the report calls it.
        options: of the estimator.
        tune: lists of values, from which the best are chosen within the training rows.
    """

    name: str
    label: str
    options: dict[str, Any]
    tune: dict[str, list[Any]]

    def build(self, setting: Setting) -> BaseEstimator:
        """The estimator, unfitted.

        Raises:
            UserError: an option does not exist or is not for this problem.
        """
        estimator = ESTIMATORS[self.name].factory(setting)
        names = sorted(_paths(estimator))
        for option in (*self.options, *self.tune):
            if option not in names:
                raise UserError(
                    f"{self.name} has no option {option!r}{did_you_mean(option, names)} Allowed: {', '.join(names)}."
                )
        options = {_path(estimator, key): _plain(value) for key, value in self.options.items()}
        return estimator.set_params(**options)

    def grid(self, estimator: BaseEstimator) -> dict[str, list[Any]]:
        """``tune`` with the names that the estimator has for them."""
        return {_path(estimator, key): [_plain(value) for value in values] for key, values in self.tune.items()}

    def single(self, estimator: BaseEstimator) -> BaseEstimator:
        """The estimator with one member where it is the mean of several; unchanged where that number is tuned."""
        paths = _paths(estimator)
        copies = [paths[key] for key in MEMBERS if key in paths and key not in self.tune]
        return clone(estimator).set_params(**dict.fromkeys(copies, 1))


def candidates(model: Component, compare: list[Component]) -> list[Candidate]:
    """The models of a study, the KAN first; models of one name get numbers.

    Raises:
        UserError: a name is not registered, or two models have one label.
    """
    found: list[Candidate] = []
    for component in (model, *compare):
        options = component.options
        tune, label = options.pop(TUNE, {}), options.pop(LABEL, None)
        ESTIMATORS[component.name]
        if label is None:
            same = sum(other.name == component.name for other in found)
            label = component.name if not same else f"{component.name}-{same + 1}"
        if label in [other.label for other in found]:
            raise UserError(f"compare: two models have the label {label!r}; give them different ones")
        found.append(Candidate(component.name, label, options, tune))
    return found


def fit(estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, groups: np.ndarray | None) -> BaseEstimator:
    """Fit a clone; only a KAN is told the groups, for its own validation rows."""
    fresh = clone(estimator)
    with quietly():
        if groups is not None and has_fit_parameter(fresh, "groups"):
            return fresh.fit(rows, target, groups=groups)
        return fresh.fit(rows, target)


@contextmanager
def quietly() -> Iterator[None]:
    """Without what is no news in a cross-validation: slow convergence, and folds that lack a level or a gap."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", DataWarning)
        yield


def _path(estimator: BaseEstimator, key: str) -> str:
    return _paths(estimator)[key]


def _paths(estimator: BaseEstimator) -> dict[str, str]:
    """The options of a model inside of its preparation and wrappers, and the parameter that each of them is."""
    paths: dict[str, str] = {}
    prefix = ""
    while True:
        if isinstance(estimator, Pipeline):
            name, estimator = estimator.steps[-1]
        elif isinstance(estimator, TransformedTargetRegressor):
            name, estimator = "regressor", estimator.regressor
        elif isinstance(estimator, MultiOutputRegressor | CalibratedClassifierCV):
            name, estimator = "estimator", estimator.estimator
        elif isinstance(estimator, MeanOfSeeds):
            paths["members"] = f"{prefix}members"
            name, estimator = "estimator", estimator.estimator
        else:
            own = {key: f"{prefix}{key}" for key in estimator.get_params(deep=False) if key not in SET_HERE}
            return {**own, **paths}
        prefix += f"{name}__"


def _plain(value: Any) -> Any:
    """Lists of sizes as tuples, which scikit-learn wants."""
    return tuple(value) if isinstance(value, list) else value


def _prepared(estimator: BaseEstimator, *, scaled_target: bool = False) -> Pipeline:
    """After the same preparation for all: the median for what is missing and an indicator of it, z-scores, one-hot."""
    numbers = Pipeline(
        [
            ("fill", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include=["number", "bool"])),
            ("classes", OneHotEncoder(handle_unknown="ignore", sparse_output=False), _is_text),
        ]
    )
    if scaled_target:
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    return Pipeline([("columns", columns), ("varying", VarianceThreshold()), ("model", estimator)])


_is_text = make_column_selector(dtype_exclude=["number", "bool"])


def _register(name: str, summary: str) -> Callable:
    return ESTIMATORS.register(name, summary=summary)


@_register("dummy", "the mean of the training rows, or the shares of their classes")
def _dummy(setting: Setting) -> BaseEstimator:
    return DummyRegressor() if setting.regression else DummyClassifier(strategy="prior")


@_register("linear", "ridge regression with its penalty chosen by cross-validation, or logistic regression")
def _linear(setting: Setting) -> BaseEstimator:
    return _prepared(
        RidgeCV(alphas=np.logspace(-4, 4, 17)) if setting.regression else LogisticRegression(max_iter=5000)
    )


@_register("lasso", "linear regression with an L1 penalty chosen by cross-validation")
def _lasso(setting: Setting) -> BaseEstimator:
    if not setting.regression:
        raise UserError("compare: lasso is for regression; for classes use 'linear' (logistic regression)")
    options = {"max_iter": 20_000, "random_state": setting.seed}
    return _prepared(MultiTaskLassoCV(**options) if setting.several else LassoCV(**options))


@_register("support_vectors", "support vector machine with radial kernel")
def _support_vectors(setting: Setting) -> BaseEstimator:
    if not setting.regression:
        return _prepared(CalibratedClassifierCV(SVC(), ensemble=False))
    return _prepared(MultiOutputRegressor(SVR()) if setting.several else SVR(), scaled_target=True)


@_register("nearest_neighbours", "mean, or vote, of the nearest training rows")
def _nearest_neighbours(setting: Setting) -> BaseEstimator:
    return _prepared(KNeighborsRegressor() if setting.regression else KNeighborsClassifier())


@_register("random_forest", "mean of trees on resampled rows")
def _random_forest(setting: Setting) -> BaseEstimator:
    kind = RandomForestRegressor if setting.regression else RandomForestClassifier
    return _prepared(kind(n_estimators=200, random_state=setting.seed))


@_register("gradient_boosting", "sum of small trees, each fitted to what the others leave")
def _gradient_boosting(setting: Setting) -> BaseEstimator:
    kind = GradientBoostingRegressor if setting.regression else GradientBoostingClassifier
    return _prepared(_each(kind(random_state=setting.seed), setting))


@_register("hist_gradient_boosting", "gradient boosting on binned columns, for more than about 5,000 rows")
def _hist_gradient_boosting(setting: Setting) -> BaseEstimator:
    kind = HistGradientBoostingRegressor if setting.regression else HistGradientBoostingClassifier
    return _prepared(_each(kind(random_state=setting.seed), setting))


@_register("mlp", "multilayer perceptron, 2 x 64 ReLU, Adam with weight decay; members: mean of several seeds")
def _mlp(setting: Setting) -> BaseEstimator:
    return _perceptron(setting, hidden=(64, 64), activation="relu", solver="adam", alpha=1e-2, max_iter=500)


@_register("mlp_equal_size", "multilayer perceptron with one tanh layer and as many parameters as the study's KAN")
def _mlp_equal_size(setting: Setting) -> BaseEstimator:
    width = equal_width(setting.kan_parameters or 0, setting.inputs, setting.outputs)
    return _perceptron(setting, hidden=(width,), activation="tanh", solver="lbfgs", alpha=1e-1, max_iter=500)


@_register("kan", "B-spline KAN: katops.estimators.KANRegressor and KANClassifier")
def _kan(setting: Setting) -> BaseEstimator:
    from katops.estimators import KANClassifier, KANRegressor

    return (KANRegressor if setting.regression else KANClassifier)(random_state=setting.seed)


def equal_width(parameters: int, inputs: int, outputs: int) -> int:
    """Width w of one hidden layer, at least 1, for which w (inputs + 1 + outputs) + outputs is nearest to a number."""
    return max(1, round((parameters - outputs) / (inputs + 1 + outputs)))


def _perceptron(setting: Setting, *, hidden: tuple[int, ...], **options: Any) -> Pipeline:
    kind = MLPRegressor if setting.regression else MLPClassifier
    model = MeanOfSeeds.of(kind(hidden_layer_sizes=hidden, **options), setting.seed)
    return _prepared(model, scaled_target=setting.regression)


def _each(estimator: BaseEstimator, setting: Setting) -> BaseEstimator:
    """One copy per target for what predicts a single number."""
    return MultiOutputRegressor(estimator) if setting.several else estimator
