"""Intervals and sets hold what they state, measured on rows that nothing was fitted to."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from katops import KANClassifier, KANRegressor
from katops.errors import UserError

pytest.importorskip("mapie")

from katops.estimators.conformal import (
    ConformalClassifier,
    ConformalRegressor,
    Intervals,
    coverage_report,
    set_coverage_report,
)

pandas = pytest.importorskip("pandas")

NEW = 4000


def noisy(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.uniform(-1, 1, size=(rows, 2))
    return x, 10 + x[:, 0] + (0.1 + 0.4 * (x[:, 1] > 0)) * random.normal(size=rows)


@pytest.mark.parametrize(("method", "folds", "rows"), [("cv+", 5, 600), ("jackknife+", 5, 150), ("split", 5, 3000)])
def test_intervals_of_level_90_hold_90_percent(method, folds, rows):
    model = ConformalRegressor(LinearRegression(), method=method, folds=folds).fit(*noisy(rows, 0))
    x, y = noisy(NEW, 1)
    report = coverage_report(model.intervals(x), y)
    assert report.measured == pytest.approx(0.9, abs=0.03)
    assert report.low < report.measured < report.high
    assert report.rows == NEW


def test_intervals_of_a_kan_hold_what_they_state_and_lie_around_its_predictions():
    kan = KANRegressor(hidden=(), epochs=25, ensemble=2, random_state=0)
    model = ConformalRegressor(kan, method="cv+").fit(*noisy(400, 0))
    x, y = noisy(NEW, 1)
    found = model.intervals(x)
    assert coverage_report(found, y).measured == pytest.approx(0.9, abs=0.03)
    assert ((found.lower < found.prediction) & (found.prediction < found.upper)).all()


def test_intervals_from_quantiles_are_wider_where_the_noise_is_and_hold_there_too():
    kan = KANRegressor(hidden=(), epochs=60, ensemble=1, random_state=0)
    model = ConformalRegressor(kan, method="quantile").fit(*noisy(1600, 0))
    x, y = noisy(NEW, 1)
    found = model.intervals(x)
    calm, loud = (found.upper - found.lower)[x[:, 1] < -0.2].mean(), (found.upper - found.lower)[x[:, 1] > 0.2].mean()
    assert loud > 2 * calm
    assert coverage_report(found, y).measured == pytest.approx(0.9, abs=0.04)


def test_intervals_of_bootstrap_samples_hold_at_least_what_they_state():
    model = ConformalRegressor(LinearRegression(), method="jackknife+ab", folds=20).fit(*noisy(300, 0))
    x, y = noisy(NEW, 1)
    assert coverage_report(model.intervals(x), y).measured > 0.87


def test_groups_that_stay_together_give_honest_intervals_where_rows_of_a_group_are_alike():
    random = np.random.default_rng(0)
    group = np.repeat(np.arange(60), 10)
    x = random.normal(size=(60, 3))[group]
    y = random.normal(size=60)[group] + 0.01 * random.normal(size=600)
    from sklearn.neighbors import KNeighborsRegressor

    widths = [
        np.ptp(np.stack([(found := model.intervals(x[:1])).lower, found.upper]))
        for model in (
            ConformalRegressor(KNeighborsRegressor(1)).fit(x, y),
            ConformalRegressor(KNeighborsRegressor(1)).fit(x, y, groups=group),
        )
    ]
    assert widths[1] > 10 * widths[0]


def frame(rows: int) -> "pandas.DataFrame":
    random = np.random.default_rng(0)
    return pandas.DataFrame({"x": random.uniform(-1, 1, rows), "process": random.choice(["cast", "rolled"], rows)})


@pytest.mark.parametrize("method", ["cv+", "split", "quantile"])
@pytest.mark.parametrize("piped", [False, True])
def test_groups_and_weights_reach_every_fit(monkeypatch, method, piped):
    seen = []
    fit = KANRegressor.fit

    def noted(self, X, y, sample_weight=None, groups=None):
        assert list(getattr(X, "columns", ["x", "process"])) == ["x", "process"]
        seen.append((len(y), len(np.unique(groups)), set(sample_weight)))
        return fit(self, X, y, sample_weight, groups)

    table, groups, weight = frame(150), np.arange(150) // 3, np.tile([0.0, 1.0, 2.0], 50)
    kan = KANRegressor((), ensemble=1, epochs=3, random_state=0)
    estimator = make_pipeline(FunctionTransformer(), kan) if piped else kan
    monkeypatch.setattr(KANRegressor, "fit", noted)
    model = ConformalRegressor(estimator, method=method, folds=4)
    model.fit(table, table["x"].to_numpy(), groups=groups, sample_weight=weight)
    found = model.intervals(table)
    assert (found.lower <= found.upper).all()
    assert len(seen) >= {"cv+": 4, "split": 1, "quantile": 3}[method]
    for rows, together, weights in seen:
        assert rows == 2 * together  # of the three rows of a group one has no weight
        assert weights == {1.0, 2.0}


def test_tensors_that_do_not_lie_in_the_memory_of_arrays_are_taken():
    # NumPy refuses tensors with gradients as it refuses those of a GPU; both have to be fetched first.
    X, y = (torch.from_numpy(part).requires_grad_() for part in noisy(60, 0))
    weight, groups = torch.ones(60, requires_grad=True), torch.arange(60) // 2
    options = {"ensemble": 1, "epochs": 3, "random_state": 0}
    regressor = KANRegressor((), **options).fit(X, y, sample_weight=weight, groups=groups)
    assert regressor.score(X, y, sample_weight=weight) > 0
    lower, upper = regressor.calibrate(X, y, groups=groups, sample_weight=weight, folds=2).interval(X, 0.8)
    assert isinstance(upper, torch.Tensor)
    assert (lower < upper).all()
    assert regressor.assess(X).inside.any()
    found = ConformalRegressor(KANRegressor((), **options), folds=2).fit(X, y, groups, weight).intervals(X)
    assert coverage_report(found, y).measured > 0.5
    labels = y > 10
    classifier = KANClassifier((), **options).fit(X, labels, weight, groups)
    assert classifier.score(X, labels, sample_weight=weight) > 0.5
    sets = ConformalClassifier(KANClassifier((), **options), folds=2).fit(X, labels, groups, weight)
    assert set_coverage_report(sets, X, labels).measured > 0.5


def test_weights_are_refused_where_the_estimator_takes_none():
    from sklearn.neighbors import KNeighborsRegressor

    with pytest.raises(UserError, match="KNeighborsRegressor takes no sample_weight"):
        ConformalRegressor(KNeighborsRegressor(1)).fit(*noisy(20, 0), sample_weight=np.ones(20))


@pytest.mark.parametrize("method", ["cv", "split"])
def test_sets_of_classes_hold_the_true_one_as_often_as_stated(method):
    def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.default_rng(seed)
        x = random.normal(size=(count, 2))
        return x, np.array(["a", "b", "c"])[np.digitize(x[:, 0] + 0.7 * random.normal(size=count), [-0.5, 0.5])]

    model = ConformalClassifier(LogisticRegression(), method=method).fit(*rows(1500, 0))
    report = set_coverage_report(model, *rows(NEW, 1))
    assert report.measured == pytest.approx(0.9, abs=0.03)
    assert 1 < report.size < 3
    assert set(model.predict(np.zeros((1, 2)))) == {"b"}


def test_a_report_counts_by_hand():
    found = Intervals(np.zeros(4), np.full(4, -1.0), np.full(4, 1.0), 0.9)
    report = coverage_report(found, [0.0, 1.0, 1.5, -3.0])
    assert (report.measured, report.size, report.rows) == (0.5, 2.0, 4)
    assert str(report).startswith("50.0% of 4 rows inside")


@pytest.mark.parametrize(
    ("options", "fit", "sentence"),
    [
        ({"method": "jacknife+"}, {}, r"did you mean 'jackknife\+'"),
        ({"level": 90}, {}, "level=90 must lie between 0 and 1"),
        ({"method": "jackknife+"}, {"groups": np.zeros(20)}, "leaves out single rows"),
    ],
)
def test_what_cannot_be_is_told_in_one_sentence(options, fit, sentence):
    with pytest.raises(UserError, match=sentence):
        ConformalRegressor(LinearRegression(), **options).fit(*noisy(20, 0), **fit)


def test_several_targets_are_refused():
    with pytest.raises(UserError, match="one target at a time"):
        ConformalRegressor(LinearRegression()).fit(np.zeros((5, 1)), np.zeros((5, 2)))


def test_quantiles_are_asked_of_the_step_that_has_them():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (80, 1))
    pipeline = make_pipeline(StandardScaler(), KANRegressor((), ensemble=1, epochs=5, random_state=0))
    bounds = ConformalRegressor(pipeline, method="quantile").fit(X, X[:, 0]).intervals(X)
    assert (bounds.lower <= bounds.upper).all()
    with pytest.raises(UserError, match="needs an estimator with the argument quantile, not Ridge"):
        ConformalRegressor(Ridge(), method="quantile").fit(X, X[:, 0])
