"""What a fitted regressor is: right on known functions, the same for the same table, whole in files and pickles."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

import katops
from katops import KANRegressor
from katops.errors import DataWarning, UserError
from katops.estimators.older_files import present_arguments

pandas = pytest.importorskip("pandas")

SHORT = {"hidden": (2,), "epochs": 30, "ensemble": 2, "random_state": 0}


@pytest.fixture(scope="module")
def fitted(additive) -> KANRegressor:
    return KANRegressor(epochs=120, ensemble=3, random_state=0).fit(*additive)


def test_a_linear_table_is_learned_exactly_with_the_linear_branch():
    x = np.random.default_rng(0).normal(size=(80, 3))
    y = 5 + x @ [1.0, -2.0, 3.0]
    model = KANRegressor(hidden=(), weight_decay=0, validation_fraction=0, ensemble=1, random_state=0).fit(x, y)
    assert np.abs(model.predict(x) - y).max() < 1e-3 * y.std()


def test_an_additive_function_is_recovered_with_each_of_its_parts(additive):
    x, y = additive
    model = KANRegressor(hidden=(), weight_decay=1e-5, ensemble=1, random_state=0, intervals=6).fit(x, y)
    line = np.linspace(-1.8, 1.8, 50)
    for column, part in ((0, 20 * line), (1, 30 * np.sin(2 * line)), (2, 10 * line**2), (3, 0 * line)):
        probe = np.zeros((50, 4))
        probe[:, column] = line
        curve = model.predict(probe)
        assert np.abs((curve - curve.mean()) - (part - part.mean())).max() < 1.0, column


def test_new_rows_of_a_smooth_function_are_predicted(fitted):
    x = np.random.default_rng(1).uniform(-1.9, 1.9, size=(300, 4))
    y = 100 + 20 * x[:, 0] + 30 * np.sin(2 * x[:, 1]) + 10 * x[:, 2] ** 2
    assert fitted.score(x, y) > 0.98


@pytest.mark.parametrize("optimiser", ["lbfgs", "adamw"])
def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(additive, optimiser):
    first, again, other = (
        KANRegressor(**{**SHORT, "random_state": seed, "epochs": 5}, optimiser=optimiser)
        .fit(*additive)
        .predict(additive[0])
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_fits_in_threads_are_those_in_turn(additive):
    def fit(seed: int) -> np.ndarray:
        return KANRegressor(**{**SHORT, "epochs": 3, "random_state": seed}).fit(*additive).predict(additive[0])

    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(fit, range(4)))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(np.array_equal(one, fit(seed)) for seed, one in enumerate(together))


def test_no_global_random_number_is_drawn_and_no_file_is_written(additive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    KANRegressor(**{**SHORT, "epochs": 3}).fit(*additive).predict(additive[0])
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert (torch.get_num_threads(), torch.get_default_dtype()) == (threads, dtype)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("validation_fraction", [0.0, 0.2])
def test_a_weight_of_two_is_a_row_that_is_there_twice(additive, validation_fraction):
    x, y = additive[0][:60], additive[1][:60]
    weight = np.random.default_rng(0).integers(0, 3, size=60)
    settings = {**SHORT, "validation_fraction": validation_fraction}
    weighted = KANRegressor(**settings).fit(x, y, sample_weight=weight)
    order = np.random.default_rng(1).permutation(weight.sum())
    repeated = KANRegressor(**settings).fit(x.repeat(weight, 0)[order], y.repeat(weight)[order])
    assert np.array_equal(weighted.predict(x), repeated.predict(x))


def test_pickle_model_file_and_restored_estimator_predict_the_same_bits(fitted, additive, tmp_path):
    expected = fitted.predict(additive[0], return_std=True)
    path = fitted.save(tmp_path / "model.safetensors", metrics={"r2": 0.99})
    loaded = katops.load(path)
    restored = KANRegressor.load(path)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict(additive[0]), expected[0])
    assert np.array_equal(loaded.predict(additive[0]), expected[0])
    assert np.array_equal(restored.predict(additive[0], return_std=True), expected)
    assert restored.get_params() == fitted.get_params()
    assert loaded.header["metrics"] == {"r2": 0.99}
    assert loaded.header["kind"] == "table"


def test_a_file_of_a_regressor_is_no_classifier(fitted, tmp_path):
    path = fitted.save(tmp_path)
    with pytest.raises(UserError, match="holds KANRegressor, not a KANClassifier"):
        katops.KANClassifier.load(path)
    with pytest.raises(UserError, match="predicts numbers and has no classes"):
        katops.load(path).labels(np.zeros((1, 4)))


def test_loading_draws_no_global_random_number(fitted, tmp_path):
    path = fitted.save(tmp_path)
    before = torch.get_rng_state()
    katops.load(path)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def mixed() -> tuple["pandas.DataFrame", "pandas.DataFrame"]:
    random = np.random.default_rng(0)
    table = pandas.DataFrame(
        {
            "T (K)": random.uniform(300, 1500, size=90),
            "process": random.choice(["cast", "wrought", "annealed"], size=90),
            "Al": random.uniform(0, 20, size=90),
            "constant": 1.0,
        }
    )
    strength = 500 + 200 * (table["process"] == "wrought") + 20 * table["Al"] - 0.1 * table["T (K)"]
    table.loc[::7, "T (K)"] = np.nan
    table.loc[::11, "process"] = None
    return table, pandas.DataFrame({"YS": strength, "UTS": 1.3 * strength})


@pytest.fixture(scope="module")
def strength(mixed) -> KANRegressor:
    return KANRegressor(hidden=(3,), epochs=60, ensemble=2, random_state=0).fit(*mixed)


def test_frames_with_categories_and_missing_values_and_several_targets_are_learned(strength, mixed):
    table, targets = mixed
    assert strength.predict(table).shape == (90, 2)
    assert strength.score(table, targets) > 0.9
    assert strength.target_names_ == ["YS", "UTS"]
    assert list(strength.feature_names_in_) == list(table.columns)
    kinds = {column.kind for column in strength.columns_ if table.columns[column.source] == "process"}
    assert kinds == {"level", "missing"}


def test_columns_in_another_order_are_refused_by_the_estimator_and_sorted_by_the_model_file(strength, mixed, tmp_path):
    table = mixed[0]
    shuffled = table[["Al", "constant", "process", "T (K)"]]
    with pytest.raises(ValueError, match="same order"):
        strength.predict(shuffled)
    loaded = katops.load(strength.save(tmp_path))
    assert np.array_equal(loaded.predict(shuffled), strength.predict(table))
    with pytest.raises(UserError, match="lacks the column 'Al'"):
        loaded.predict(table.drop(columns="Al"))


def test_levels_that_were_not_there_are_counted_out_of_range(strength, mixed):
    odd = mixed[0].assign(process="forged", Al=50.0)
    assert strength.out_of_range(odd).tolist() == [0, 90, 90, 0]
    with pytest.warns(DataWarning, match="levels"):
        assert np.isfinite(strength.predict(odd)).all()


def test_tensors_give_tensors(fitted, additive):
    given = torch.from_numpy(additive[0])
    predicted, spread = fitted.predict(given, return_std=True)
    assert torch.equal(predicted, torch.from_numpy(fitted.predict(additive[0])))
    assert spread.shape == (200,)


def test_members_agree_least_where_there_are_no_rows(fitted):
    inside, outside = np.zeros((1, 4)), np.full((1, 4), 6.0)
    assert fitted.predict(outside, return_std=True)[1] > 3 * fitted.predict(inside, return_std=True)[1]


def test_rows_of_a_group_are_held_out_together_and_the_best_epoch_is_kept(additive):
    x, y = additive
    model = KANRegressor(
        hidden=(8,), weight_decay=0, optimiser={"name": "lbfgs", "patience": 5}, ensemble=1, random_state=0
    ).fit(x[:60], y[:60] + 30 * np.random.default_rng(0).normal(size=60), groups=np.arange(60) // 3)
    watched = [record["validation"] for record in model.history_]
    assert len(watched) < 300
    assert min(watched[-6:]) > min(watched)


def test_refinement_goes_on_from_the_best_on_a_coarser_grid(additive):
    model = KANRegressor(epochs=40, ensemble=2, intervals=(3, 6, 12), random_state=0).fit(*additive)
    assert [record["intervals"] for record in model.history_][-1] == 12
    finest = {layer.basis.intervals for member in model.models_ for layer in member.layers}
    assert finest <= {3, 6, 12}
    ends = [
        [record["loss"] for record in model.history_ if record["intervals"] == intervals][-1]
        for intervals in (3, 6, 12)
    ]
    assert ends[2] < ends[1] < ends[0]


@pytest.mark.parametrize("basis", ["radial", {"name": "chebyshev", "degree": 4}])
def test_other_bases_can_be_fitted(additive, basis):
    assert (
        KANRegressor(network={"basis": basis}, epochs=60, ensemble=1, random_state=0).fit(*additive).score(*additive)
        > 0.9
    )


def test_a_quantile_lies_below_its_share_of_the_rows():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, size=(600, 1))
    y = x[:, 0] + (0.2 + 0.2 * (x[:, 0] > 0)) * random.normal(size=600)
    model = KANRegressor(quantile=0.9, hidden=(2,), epochs=100, ensemble=2, random_state=0).fit(x, y)
    assert np.mean(y < model.predict(x)) == pytest.approx(0.9, abs=0.03)


def test_penalties_make_edges_sparse_and_curves_smooth(additive):
    x, y = additive[0], additive[1] + 10 * np.random.default_rng(0).normal(size=200)
    plain, sparse, smooth = (
        KANRegressor(hidden=(), ensemble=1, validation_fraction=0, epochs=80, random_state=0, **options).fit(x, y)
        for options in ({}, {"penalty": 0.05}, {"penalty": {"smoothness": 1.0}})
    )
    inputs = torch.from_numpy(plain.preprocessor_.transform(x))
    useless = [model.models_[0].edges(inputs)[0][:, 0, 3].std() for model in (plain, sparse)]
    assert useless[1] < useless[0] / 2
    bends = [model.models_[0].layers[0].coefficients.diff(n=2).square().sum() for model in (plain, smooth)]
    assert bends[1] < bends[0] / 2


def test_pipelines_grids_and_cross_validation_work(additive):
    x, y = additive[0][:60], additive[1][:60]
    pipeline = make_pipeline(PolynomialFeatures(1, include_bias=False), KANRegressor(**{**SHORT, "epochs": 5}))
    search = GridSearchCV(pipeline, {"kanregressor__intervals": [2, 3]}, cv=2).fit(x, y)
    assert search.best_params_["kanregressor__intervals"] in (2, 3)
    scores = cross_validate(KANRegressor(**{**SHORT, "epochs": 5}), x, y, cv=2, params={"sample_weight": np.ones(60)})
    assert np.isfinite(scores["test_score"]).all()
    logarithm = TransformedTargetRegressor(KANRegressor(**{**SHORT, "epochs": 5}), func=np.log, inverse_func=np.exp)
    assert (logarithm.fit(x, y).predict(x) > 0).all()


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"hidden": (0,)}, r"hidden=\(0,\) must be whole numbers above zero"),
        ({"scaler": "minmx"}, "scaler='minmx' is not known; did you mean 'minmax'"),
        ({"optimiser": "adam"}, "did you mean 'adamw'"),
        ({"validation_fraction": 0.9}, "validation_fraction=0.9 must be a number from 0 to 0.5"),
        ({"intervals": (3, 2)}, r"intervals=\(3, 2\) must rise"),
        ({"intervals": (3, 6), "network": {"basis": "radial"}}, "needs the basis 'bspline'"),
        ({"network": {"degre": 2}}, "network has no option 'degre'; did you mean 'degree'"),
        ({"network": {"products": 1}}, "products=1 must be whole numbers, one for each layer"),
        ({"network": {"products": (1,)}}, "products must have a number for each of the 2 layers"),
        ({"penalty": {"edge": 1.0}}, "did you mean 'edges'"),
        ({"penalty": -1.0}, "penalty=-1.0 must be a number of at least 0"),
        ({"scaler": {"reach": -1.0}}, "scaler reach=-1.0 must be a number of at least 0"),
        ({"monotone": {"x9": 1}}, "there is no column 'x9'"),
        ({"monotone": (1, 0)}, "one entry for each of 4 columns"),
        ({"monotone": {0: 2}}, "the entry of 'x0' must be 1, -1 or 0"),
        ({"monotone": {0: 1}, "network": {"basis": "radial"}}, "monotone needs the basis 'bspline'"),
        ({"device": "gpu"}, "device='gpu' is none that torch knows"),
        ({"quantile": 5}, "quantile=5 must lie between 0 and 1"),
        ({"epochs": 2.5}, "epochs=2.5 must be a whole number of at least 1"),
        ({"network": {"basis": "bsplin"}}, "did you mean 'bspline'"),
    ],
)
def test_wrong_arguments_are_told_in_one_sentence(additive, argument, sentence):
    with pytest.raises(UserError, match=sentence):
        KANRegressor(**argument).fit(*additive)


def test_a_loss_that_is_no_number_is_told_in_one_sentence(additive):
    with pytest.raises(UserError, match="the loss became"):
        KANRegressor(optimiser={"name": "adamw", "learning_rate": 1e30}, **SHORT).fit(*additive)


def test_calibrated_intervals_hold_what_they_state_and_are_in_the_file_with_the_domain(tmp_path):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, size=(1300, 2))
    y = 7 + x[:, 0] + 0.3 * random.normal(size=1300)
    model = KANRegressor(hidden=(), epochs=20, ensemble=1, random_state=0).fit(x[:300], y[:300])
    with pytest.raises(UserError, match="call calibrate"):
        model.interval(x)
    lower, upper = model.calibrate(x[:300], y[:300]).interval(x[300:])
    assert np.mean((lower <= y[300:]) & (y[300:] <= upper)) == pytest.approx(0.9, abs=0.04)
    loaded = katops.load(model.save(tmp_path)).predictor
    assert np.array_equal(loaded.interval(x[300:]), (lower, upper))
    far = np.array([[0.0, 0.0], [5.0, 0.0]])
    assert loaded.assess(far).inside.tolist() == model.assess(far).inside.tolist() == [True, False]
    with pytest.raises(UserError, match=r"level 0.99 was measured; there are: 0.5, 0.8, 0.9, 0.95"):
        loaded.interval(x, level=0.99)
    assert not hasattr(model.fit(x, y), "reliability_")


def test_a_progress_bar_is_shown_on_request_only(additive, capfd):
    settings = {**SHORT, "epochs": 3}
    KANRegressor(**settings).fit(*additive)
    assert capfd.readouterr() == ("", "")
    KANRegressor(verbose=True, **settings).fit(*additive)
    assert "fitting" in capfd.readouterr().err


@pytest.mark.parametrize(("linear", "bends"), [(True, "clamp"), (False, "linear")])
def test_edges_go_on_straight_outside_of_the_rows_and_splines_do_not_run_away(additive, linear, bends):
    model = KANRegressor(network={"linear": linear}, hidden=(), epochs=30, ensemble=1, random_state=0).fit(*additive)
    assert {layer.basis.extrapolation for layer in model.models_[0].layers} == {bends}
    # The rows reach from -2 to 2: straight up to 6, and what lies further out counts as if it lay there.
    far = np.zeros((5, 4))
    far[:, 0] = [5.0, 5.4, 5.8, 7.0, 80.0]
    first, second, third, *beyond = model.predict(far)
    assert third - second == pytest.approx(second - first, rel=0.02)
    assert abs(third - second) > 0.1
    assert beyond[0] == pytest.approx(beyond[1], rel=1e-12)
    assert model.out_of_range(far)[0] == 5


def test_an_element_that_was_a_trace_in_training_does_not_explode_where_an_alloy_is_made_of_it():
    random = np.random.default_rng(0)
    X = random.uniform(0, 30, (150, 2))
    trace = np.where(np.arange(150) % 30 == 0, random.uniform(0, 0.2, 150), 0.0)
    y = 500 + 10 * X[:, 0] + 200 * trace + random.normal(0, 5, 150)
    fitted = KANRegressor((2,), ensemble=2, epochs=60, random_state=0).fit(np.column_stack([X, trace]), y)
    alloy = fitted.predict(np.array([[15.0, 15.0, 25.0]]))
    assert y.min() - np.ptp(y) < alloy[0] < y.max() + np.ptp(y)


def test_targets_around_a_large_mean_are_predicted_in_double_precision():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (200, 2))
    y = 1e8 + X[:, 0]
    fitted = KANRegressor((), optimiser={"dtype": "float32"}, ensemble=1, epochs=20, random_state=0).fit(X, y)
    assert fitted.score(X, y) > 0.99


def test_a_failed_fit_leaves_the_earlier_one_as_it_was():
    random = np.random.default_rng(0)
    X = random.uniform(-1, 1, (60, 2))
    fitted = KANRegressor((), ensemble=1, epochs=5, random_state=0).fit(X, X[:, 0])
    before = fitted.predict(X)
    fitted.set_params(intervals=0)
    with pytest.raises(UserError, match="intervals=0"):
        fitted.fit(100 + 50 * X, 1e4 * X[:, 1])
    np.testing.assert_array_equal(fitted.predict(X), before)


def test_a_penalty_does_not_break_on_a_last_batch_of_one_row():
    X = np.random.default_rng(0).uniform(-1, 1, (257, 2))
    fitted = KANRegressor(
        (2,), optimiser="adamw", penalty=1e-3, ensemble=1, epochs=2, validation_fraction=0.0, random_state=0
    ).fit(X, X[:, 0])
    assert np.isfinite(fitted.predict(X)).all()


def test_reliability_is_measured_of_a_fitted_estimator_only():
    with pytest.raises(NotFittedError):
        KANRegressor().calibrate(np.zeros((9, 2)), np.zeros(9))


def test_other_values_of_a_column_that_never_changed_are_out_of_range(tmp_path):
    random = np.random.default_rng(0)
    X = np.column_stack([random.uniform(-1, 1, 50), np.full(50, 300.0)])
    fitted = KANRegressor((), ensemble=1, epochs=5, random_state=0).fit(X, X[:, 0]).calibrate(X, X[:, 0], folds=2)
    new = np.array([[0.0, 300.0], [0.0, 301.0]])
    loaded = KANRegressor.load(fitted.save(tmp_path))
    for model in (fitted, loaded):
        assert model.out_of_range(new).tolist() == [0, 1]
        assert model.assess(new).inside.tolist() == [True, False]


def test_calibration_holds_the_rows_of_a_group_out_together_within_every_fold(monkeypatch):
    seen = []
    fit = KANRegressor.fit

    def noted(self, X, y, sample_weight=None, groups=None):
        seen.append(groups)
        return fit(self, X, y, sample_weight, groups)

    random = np.random.default_rng(0)
    X, groups = random.uniform(-1, 1, (60, 2)), np.arange(60) // 3
    fitted = KANRegressor((), ensemble=1, epochs=3, random_state=0).fit(X, X[:, 0])
    monkeypatch.setattr(KANRegressor, "fit", noted)
    fitted.calibrate(X, X[:, 0], groups=groups, folds=3)
    assert len(seen) == 3
    assert sorted(np.concatenate(seen)) == sorted(np.repeat(groups, 2))


def test_intervals_of_a_tensor_are_tensors():
    X = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    fitted = KANRegressor((), ensemble=1, epochs=3, random_state=0).fit(X, X[:, 0]).calibrate(X, X[:, 0], folds=2)
    lower, upper = fitted.interval(X, 0.8)
    assert isinstance(lower, torch.Tensor)
    assert (lower < upper).all()


@pytest.mark.parametrize("basis", [{"intervals": 4}, 3, None])
def test_a_basis_without_a_name_is_told(basis):
    with pytest.raises(UserError, match=r"basis=.* must be a name"):
        KANRegressor(network={"basis": basis}).fit(np.zeros((9, 1)), np.arange(9.0))


def test_arguments_of_every_kind_survive_the_file(additive, tmp_path):
    arguments = {
        "intervals": (2, 4),
        "network": {"products": (1, 0), "init": "power"},
        "scaler": {"name": "minmax", "reach": None},
        "optimiser": {"name": "lbfgs", "patience": 3},
        "penalty": {"inputs": 1e-3, "smoothness": 1e-4},
    }
    model = KANRegressor(**{**SHORT, "epochs": 4}, **arguments).fit(*additive)
    restored = KANRegressor.load(model.save(tmp_path))
    assert restored.get_params() == model.get_params()
    assert np.array_equal(restored.predict(additive[0]), model.predict(additive[0]))


def test_an_estimator_of_an_older_file_has_its_arguments_under_their_present_names(repository):
    model = KANRegressor.load(repository / "tests/golden/table_v1.safetensors")
    assert (model.hidden, model.epochs, model.weight_decay) == ((2,), 10, 0.001)
    assert (
        model.get_params() == KANRegressor((2,), epochs=10, ensemble=2, weight_decay=1e-3, random_state=0).get_params()
    )


def test_older_arguments_are_gathered():
    old = {"intervals": 3, "refine": (6,), "degree": 2, "linear": False, "basis": {"name": "bspline", "intervals": 4}}
    old |= {"optimiser": "adamw", "learning_rate": 0.1, "patience": 30, "penalty": 0.5, "smoothness": 0.2}
    assert present_arguments(old) == {
        "intervals": 4,
        "network": {"degree": 2, "linear": False, "basis": "bspline"},
        "optimiser": {"name": "adamw", "learning_rate": 0.1},
        "penalty": {"edges": 0.5, "smoothness": 0.2},
    }


def test_a_fit_of_few_rows_leaves_the_threads_of_torch_as_they_were():
    before = torch.get_num_threads()
    x = np.random.default_rng(0).normal(size=(40, 2))
    KANRegressor(hidden=(), epochs=2, ensemble=1).fit(x, x[:, 0])
    assert torch.get_num_threads() == before
