"""Table model files of past versions are read, and predict what they did."""

import numpy as np
import pytest

import katops

pandas = pytest.importorskip("pandas")


def test_a_table_file_of_format_1_predicts_what_it_did_when_it_was_written(repository):
    loaded = katops.load(repository / "tests/golden/table_v1.safetensors")
    assert loaded.header["format_version"] == 1
    rows = pandas.DataFrame(loaded.header["data"]["rows"])
    expected = loaded.header["metrics"]
    assert loaded.predict(rows).tolist() == pytest.approx(expected["expected"], rel=1e-9)
    assert loaded.predictor.interval(rows, 0.8)[0].tolist() == pytest.approx(expected["lower"], rel=1e-9)
    assert loaded.predictor.assess(rows).inside.tolist() == expected["inside"]


def test_a_table_file_says_what_it_needs(repository):
    loaded = katops.load(repository / "tests/golden/table_v1.safetensors")
    with pytest.raises(katops.UserError, match=r"lacks the column 'Al \(at.%\)'"):
        loaded.predict(pandas.DataFrame({"process": ["cast"]}))
    with pytest.raises(katops.UserError, match="works on tables, which have no time"):
        loaded.predict(pandas.DataFrame(), time=1.0)
    with pytest.raises(katops.UserError, match="works on tables and has no fields"):
        _ = loaded.meta


def test_an_array_is_refused_where_the_training_had_categories(repository):
    loaded = katops.load(repository / "tests/golden/table_v1.safetensors")
    with pytest.raises(katops.UserError, match="categories in process; give a data frame"):
        loaded.predict(np.zeros((1, 2)))
