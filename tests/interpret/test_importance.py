"""Importance of columns."""

import importlib.util

import numpy as np
import pytest

from katops.errors import DataWarning, UserError
from katops.interpret import feature_importance, plot_feature_scores, shap_values


def test_columns_that_matter_are_told_from_noise(additive, alloys):
    table = feature_importance(additive, *alloys, repeats=3)
    assert list(table["column"])[-1] == "noise"
    assert table["importance"].iloc[-1] < 0.02 < 0.1 < table["importance"].iloc[1]
    assert table["share"].sum() == pytest.approx(1)


def test_shuffles_change_neither_the_table_nor_the_global_generator(additive, alloys):
    table, strength = alloys
    before, state = table.copy(), np.random.get_state()[1].copy()  # noqa: NPY002 - it is this one that must not move
    first = feature_importance(additive, table, strength, repeats=2)
    assert first.equals(feature_importance(additive, table, strength, repeats=2))
    assert table.equals(before)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_correlated_columns_are_warned_of_and_shuffled_together(additive, alloys):
    table, strength = alloys
    twins = table.assign(noise=table["Ni"] * 0.1)
    with pytest.warns(DataWarning, match=r"Ni and noise \(1.00\)"):
        feature_importance(additive, twins, strength, repeats=1)
    grouped = feature_importance(additive, twins, strength, repeats=1, groups=[["Ni", "noise"]])
    assert set(grouped["column"]) == {"T [K]", "Ni + noise"}


def test_groups_of_columns_that_are_not_there_are_told(additive, alloys):
    with pytest.raises(UserError, match="no column 'Nii'; did you mean 'Ni'"):
        feature_importance(additive, *alloys, groups=[["Nii"]])
    with pytest.raises(UserError, match="one group only"):
        feature_importance(additive, *alloys, groups=[["Ni"], ["Ni"]])


def test_bars_are_as_long_as_the_importances(additive, alloys):
    table = feature_importance(additive, *alloys, repeats=2)
    ax = plot_feature_scores(table)
    assert [bar.get_width() for bar in ax.patches] == list(table["importance"])[::-1]


@pytest.mark.skipif(importlib.util.find_spec("shap") is not None, reason="shap is installed")
def test_shap_that_is_not_installed_is_told(additive, alloys):
    with pytest.raises(UserError, match="pip install shap"):
        shap_values(additive, alloys[0])
