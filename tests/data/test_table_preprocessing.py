"""From tables to scaled inputs: scaling, missing values, categories, constants."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from katops.data.table_columns import SCALERS, unit_of
from katops.data.table_preprocessing import TablePreprocessor, distinct_rows
from katops.errors import DataWarning, UserError

pandas = pytest.importorskip("pandas")

VALUES = st.floats(-1e6, 1e6, allow_subnormal=False)


def frame() -> "pandas.DataFrame":
    return pandas.DataFrame(
        {
            "T (K)": [300.0, np.nan, 500.0, 400.0],
            "process": ["cast", "wrought", None, "cast"],
            "always": [1.0, 1.0, 1.0, 1.0],
            "annealed": [True, False, True, False],
        }
    )


def test_a_missing_number_stands_at_the_median_beside_an_indicator() -> None:
    fitted = TablePreprocessor.fit(frame(), "minmax")
    names = [column.name for column in fitted.columns]
    scaled = fitted.transform(frame())
    assert scaled[:, names.index("T (K)")].tolist() == [-1.0, 0.0, 1.0, 0.0]
    assert scaled[:, names.index("T (K) missing")].tolist() == [-1.0, 1.0, -1.0, -1.0]
    assert fitted.columns[names.index("T (K)")].unit == "K"


def test_a_category_becomes_a_column_per_level_and_its_absence_one_more() -> None:
    fitted = TablePreprocessor.fit(frame())
    names = [column.name for column in fitted.columns]
    assert names[2:5] == ["process=cast", "process=wrought", "process missing"]
    raw = (fitted.transform(frame())[:, 2:5] + 1) / 2
    assert raw.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]


def test_constant_columns_are_left_out_and_taken_again_from_a_table_that_has_them() -> None:
    fitted = TablePreprocessor.fit(frame())
    assert "always" not in [column.name for column in fitted.columns]
    changed = frame().assign(always=7.0)
    assert np.array_equal(fitted.transform(changed), fitted.transform(frame()))


def test_values_far_beyond_the_rows_count_as_if_they_lay_one_width_of_the_range_beyond() -> None:
    rows, far = np.array([[1.0], [2.0], [4.0]]), np.array([[-1.0], [-2.0], [-99.0], [7.0], [8.0]])
    assert TablePreprocessor.fit(rows, "minmax").transform(far)[:, 0].tolist() == pytest.approx([-7 / 3, -3, -3, 3, 3])
    free, near = (TablePreprocessor.fit(rows, "minmax", reach=reach) for reach in (None, 0.0))
    assert free.transform(far)[2, 0] == pytest.approx((-99 - 2.5) / 1.5)
    assert near.transform(far)[:, 0].tolist() == [-1, -1, -1, 1, 1]
    assert np.array_equal(near.transform(far, bounded=False), free.transform(far))
    assert TablePreprocessor.from_dict(json.loads(json.dumps(near.to_dict()))).columns == near.columns


def test_heavy_tails_are_scaled_down_by_auto_alone() -> None:
    values = np.append(np.linspace(0, 1, 99), 500.0)[:, None]
    assert np.abs(TablePreprocessor.fit(values, "auto").transform(values)).max() == pytest.approx(3)
    assert np.abs(TablePreprocessor.fit(values, "quantile").transform(values)).max() > 1000


def test_a_table_of_constants_keeps_one_input() -> None:
    fitted = TablePreprocessor.fit(np.full((3, 2), 5.0))
    assert fitted.transform(np.full((3, 2), 5.0)).shape == (3, 1)


def test_columns_of_a_frame_are_found_by_name() -> None:
    fitted = TablePreprocessor.fit(frame())
    shuffled = frame()[["annealed", "process", "always", "T (K)"]].assign(other=0)
    assert np.array_equal(fitted.transform(shuffled), fitted.transform(frame()))


def test_a_missing_column_is_named_with_its_nearest() -> None:
    fitted = TablePreprocessor.fit(frame())
    with pytest.raises(UserError, match=r"lacks the column 'process'; did you mean 'proces'\?"):
        fitted.transform(frame().rename(columns={"process": "proces"}))


def test_infinite_values_are_refused_by_name() -> None:
    fitted = TablePreprocessor.fit(frame())
    with pytest.raises(UserError, match=r"'T \(K\)' holds infinite values"):
        fitted.transform(frame().assign(**{"T (K)": np.inf}))


def test_numbers_beside_none_are_numbers() -> None:
    table = pandas.DataFrame(
        {"a": pandas.Series([1.0, None, 3], dtype=object), "b": pandas.array([1, None, 2], "Int64")}
    )
    fitted = TablePreprocessor.fit(table, "minmax")
    assert [column.kind for column in fitted.columns] == ["number", "missing"] * 2
    assert fitted.transform(table)[:, 2].tolist() == [-1.0, 0.0, 1.0]


def test_times_are_refused_by_name() -> None:
    table = pandas.DataFrame({"when": pandas.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(UserError, match="'when' holds times"):
        TablePreprocessor.fit(table)


def test_unknown_levels_are_none_of_the_known_and_are_told() -> None:
    fitted = TablePreprocessor.fit(frame())
    with pytest.warns(DataWarning, match="process holds levels"):
        scaled = fitted.transform(frame().assign(process="forged"))
    assert (scaled[:, 2:5] == -1).all()
    assert fitted.out_of_range(frame().assign(process="forged")).sum(axis=0).tolist() == [0, 4, 0, 0]


def test_values_that_were_never_missing_are_told_when_they_are() -> None:
    fitted = TablePreprocessor.fit(np.array([[1.0], [2.0], [4.0]]), "minmax")
    with pytest.warns(DataWarning, match="values are missing in x0"):
        assert fitted.transform(np.array([[np.nan]])) == pytest.approx((2 - 2.5) / 1.5)


@pytest.mark.parametrize("scaler", SCALERS)
@given(values=arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=VALUES))
@settings(deadline=None, max_examples=25)
def test_every_scaler_is_affine_and_can_be_undone(scaler: str, values: np.ndarray) -> None:
    fitted = TablePreprocessor.fit(values, scaler)
    scaled = fitted.transform(values)
    assert np.isfinite(scaled).all()
    for place, column in enumerate(fitted.columns):
        back = scaled[:, place] * column.scale + column.offset
        np.testing.assert_allclose(back, values[:, column.source], rtol=1e-9, atol=1e-9 * np.abs(values).max())


@given(
    values=arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 2)), elements=st.integers(-3, 3)),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_order_and_repetition_of_rows_do_not_count(values: np.ndarray, seed: int) -> None:
    again = np.random.default_rng(seed).permutation(np.concatenate([values, values[:1]]))
    assert np.array_equal(distinct_rows(values), distinct_rows(again))
    assert TablePreprocessor.fit(values).to_dict() == TablePreprocessor.fit(again).to_dict()


def test_scales_are_what_their_names_say() -> None:
    values = np.arange(101.0)[:, None]
    scales = {name: (c.offset, c.scale) for name in SCALERS for c in TablePreprocessor.fit(values, name).columns}
    assert scales["minmax"] == (50, 50)
    assert scales["quantile"] == scales["auto"] == (50, 45)
    assert scales["robust"] == (50, 25)
    assert scales["standard"] == pytest.approx((50, values.std()))


def test_a_sparse_column_is_scaled_by_its_range() -> None:
    composition = np.array([0.0] * 60 + [2.0, 30.0])
    distinct = np.column_stack([composition, np.arange(62.0)])
    assert TablePreprocessor.fit(distinct, "auto").columns[0].scale == 15


def test_rules_survive_json_to_the_last_bit() -> None:
    fitted = TablePreprocessor.fit(frame())
    again = TablePreprocessor.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert np.array_equal(again.transform(frame()), fitted.transform(frame()))


def test_nothing_is_told_of_a_table_like_that_of_the_training() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TablePreprocessor.fit(frame()).transform(frame())


@pytest.mark.parametrize(("name", "unit"), [("T (K)", "K"), ("dh [eV per f.u.]", "eV per f.u."), ("ys_MPa", "")])
def test_units_are_read_from_brackets(name: str, unit: str) -> None:
    assert unit_of(name) == unit


def test_an_unknown_scaler_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'robust'"):
        TablePreprocessor.fit(np.arange(3.0)[:, None], "robst")
