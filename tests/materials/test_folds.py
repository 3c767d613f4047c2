"""Folds: nothing leaks, nothing is lost, and they are the same everywhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.materials.folds import grouped_folds, load_folds, make_folds

pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def tensile(shared):
    from katops.materials import load_materials

    return load_materials("hea_tensile_process_569", shared / "data/materials")


rows = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.integers(0, 2)), min_size=40, max_size=80)


@settings(max_examples=25, deadline=None)
@given(rows, st.integers(0, 100))
def test_every_row_is_tested_once_and_no_key_or_group_is_on_both_sides(table, seed):
    keys = [f"{group} {key}" for key, group, _ in table]
    groups = [group for _, group, _ in table]
    assume(len(set(groups)) >= 3)
    folds = grouped_folds(keys, groups, 3, seed=seed, labels=[label for _, _, label in table])
    tested = np.zeros(len(table), dtype=int)
    for train, test in folds.split(table):
        tested[test] += 1
        assert sorted([*train, *test]) == list(range(len(table)))
        assert not {keys[row] for row in train} & {keys[row] for row in test}
        assert not {groups[row] for row in train} & {groups[row] for row in test}
    assert (tested == 1).all()


def test_groups_that_share_a_key_are_one_group():
    keys = ["a", "a", "b", "c", "d", "e"]
    groups = [1, 2, 2, 3, 4, 5]  # "a" ties the groups 1 and 2, and thereby "b", together
    for _, test in grouped_folds(keys, groups, 3).split():
        assert len({0, 1, 2} & set(test.tolist())) in (0, 3)


def test_classes_are_spread_evenly():
    labels = ["rare"] * 20 + ["common"] * 80
    folds = grouped_folds([f"{number}" for number in range(100)], folds=5, labels=labels, repeats=3)
    assert folds.get_n_splits() == 15
    for _, test in folds.split():
        assert sum(labels[row] == "rare" for row in test) == 4
        assert len(test) == 20


def test_large_groups_are_spread_evenly():
    sizes = [40, 30, 20, *[1] * 60]
    groups = [group for group, size in enumerate(sizes) for _ in range(size)]
    keys = [str(number) for number in range(len(groups))]
    assert [len(test) for _, test in grouped_folds(keys, groups, 3).split()] == [50, 50, 50]


def test_seeds_and_repeats_give_other_folds():
    keys = [str(number) for number in range(60)]
    folds = grouped_folds(keys, folds=3, repeats=2, seed=0)
    assert folds.splits[0].test != folds.splits[3].test
    assert folds.digest != grouped_folds(keys, folds=3, repeats=2, seed=1).digest


def test_digests_are_the_same_on_every_machine():
    folds = grouped_folds([f"Co0.{number}" for number in range(10)], folds=2, seed=3, labels=[0, 1] * 5)
    assert folds.digest == "bf7c9986edc43fb402f9b8f4c54ad6b598866f95d622bdc77ddae932bd4098fd"


def test_the_order_of_the_rows_does_not_matter(tensile):
    order = np.random.default_rng(0).permutation(len(tensile))
    shuffled = replace(tensile, frame=tensile.frame.iloc[order])
    for kind in ("random", "composition", "system", "reference", "element"):
        first, second = make_folds(tensile, kind, seed=1), make_folds(shuffled, kind, seed=1)
        assert first.digest == second.digest
        (_, test), (_, again) = next(first.split()), next(second.split())
        assert set(tensile.frame.index[test]) == set(shuffled.frame.index[again])


@pytest.mark.parametrize("kind", ["random", "composition", "system", "reference"])
def test_what_belongs_together_is_on_one_side(tensile, kind):
    groups = tensile.keys("inputs" if kind == "random" else kind)
    for train, test in make_folds(tensile, kind).split(tensile.frame):
        assert not {groups[row] for row in train} & {groups[row] for row in test}
        assert len(test) == pytest.approx(len(tensile) / 5, abs=15)


def test_leaving_an_element_out_trains_without_it(tensile):
    folds = make_folds(tensile, "element")
    assert "without Al" in [part.name for part in folds.splits]
    assert "without B" not in [part.name for part in folds.splits]  # 2 rows
    for part, (train, test) in zip(folds.splits, folds.split(), strict=True):
        values = tensile.frame[part.name.removeprefix("without ")].to_numpy()
        assert (values[train] == 0).all()
        assert (values[test] > 0).all()


def test_a_classification_is_stratified_by_its_target(shared):
    from katops.materials import load_materials

    table = load_materials("hecc_phase_zhang2022", shared / "data/materials")
    single = (table.frame["phase"] == "single").to_numpy()
    for _, test in make_folds(table, "random", repeats=2).split():
        assert single[test].sum() in (6, 7)


def test_saved_folds_come_back_for_the_same_rows_only(tensile, tmp_path):
    folds = make_folds(tensile, "composition", seed=4)
    path = tmp_path / "folds.json"
    folds.save(path)
    loaded = load_folds(path, tensile)
    assert loaded == folds
    loaded.check(folds.digest)
    with pytest.raises(UserError, match="are of other rows: 0 here are not among theirs"):
        load_folds(path, tensile.select(tensile.frame["Al"] > 0))
    content = json.loads(path.read_text())
    content["seed"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="scores cannot be compared"):
        load_folds(path, tensile)
    path.write_text("{}")
    with pytest.raises(UserError, match="cannot be read as folds"):
        load_folds(path, tensile)


def test_folds_are_what_scikit_learn_calls_cv(tensile):
    from sklearn.dummy import DummyRegressor
    from sklearn.model_selection import cross_val_score

    table = tensile.with_target("yield_strength")
    folds = make_folds(table, "reference", folds=4)
    scores = cross_val_score(DummyRegressor(), table.fractions, table.frame["yield_strength"], cv=folds)
    assert len(scores) == 4
    assert (scores <= 0).all()


def test_bad_requests_are_told(tensile):
    with pytest.raises(UserError, match="unknown kind of folds 'group'; allowed: random"):
        make_folds(tensile, "group")
    with pytest.raises(UserError, match="2 groups"):
        grouped_folds(["a", "b"], folds=3)
    with pytest.raises(UserError, match="at least 2"):
        grouped_folds(["a", "b"], folds=1)
    with pytest.raises(UserError, match="2 keys but 1 groups"):
        grouped_folds(["a", "b"], ["x"], folds=2)
    with pytest.raises(UserError, match="no column 'colour' to stratify"):
        make_folds(tensile, stratify="colour")
    folds = grouped_folds(["a", "b"], folds=2)
    with pytest.raises(UserError, match="folds are of 2 rows, X has 3"):
        next(folds.split([1, 2, 3]))
