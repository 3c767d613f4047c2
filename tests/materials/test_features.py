"""Inputs of models: one matrix with units, and a transformer from formulas."""

import pickle

import numpy as np
import pytest

from katops.errors import UserError
from katops.materials import CompositionFeatures, composition_table, descriptor_table, design_table, load_materials

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def tensile(shared):
    return load_materials("hea_tensile_process_569", shared / "data/materials")


def test_every_column_has_a_unit_and_no_number_is_missing(tensile):
    design = design_table(tensile, descriptors="strength")
    assert list(design.attrs["units"]) == design.columns.tolist()
    assert design.attrs["units"]["density"] == "g/cm³"
    assert design.attrs["tables"]["elements"] == "katops-elements-1"
    assert design.dtypes.eq(float).all()
    assert design.notna().all().all()
    assert design.index.equals(tensile.frame.index)


def test_an_absent_step_is_an_indicator_and_never_zero_kelvin(tensile):
    design = design_table(tensile, fractions=False)
    applied = (tensile.frame["annealing_temperature"] > 0).to_numpy()
    assert (design["annealing_applied"] == applied).all()
    assert design["annealing_temperature"].min() > 500
    median = tensile.frame["annealing_temperature"][applied].median()
    assert set(design["annealing_temperature"][~applied]) == {median} == {design.attrs["fill"]["annealing_temperature"]}
    assert (design["annealing_temperature"][applied] == tensile.frame["annealing_temperature"][applied]).all()
    assert (design["cold_rolling_reduction"] == tensile.frame["cold_rolling_reduction"]).all()
    assert np.allclose(np.expm1(design["log1p_annealing_time"]), tensile.frame["annealing_time"])
    assert design.attrs["units"]["log1p_annealing_time"] == "ln(1 + h)"


def test_new_rows_get_the_constants_of_the_training_rows(tensile):
    early = tensile.select(np.arange(len(tensile)) < 100)
    fill = {"annealing_temperature": 1000.0, "homogenisation_temperature": 1111.0}
    design = design_table(early, fill=fill)
    assert design.attrs["fill"] == {**fill, "cold_rolling_reduction": 0.0, "annealing_time": 0.0}
    assert (design["homogenisation_temperature"][design["homogenisation_applied"] == 0] == 1111).all()


def test_classes_become_indicators_and_unknown_numbers_stay_unknown(shared):
    table = load_materials("mpea_borg2020", shared / "data/materials")
    design = design_table(table, fractions=False)
    assert (design["processing=cast"].sum(), design["test_type=tension"].sum()) == (
        (table.frame["processing"] == "cast").sum(),
        (table.frame["test_type"] == "tension").sum(),
    )
    unknown = table.frame["processing"].isna()
    assert design.filter(like="processing=")[unknown].to_numpy().sum() == 0
    assert design["test_temperature"].isna().sum() == 181


def test_features_of_the_source_are_taken_by_name(shared):
    table = load_materials("hecc_phase_zhang2022", shared / "data/materials")
    assert design_table(table, fractions=False, features=True).shape == (53, 14)
    design = design_table(table, fractions=False, features=["mixing_enthalpy"])
    assert design.attrs["units"] == {"mixing_enthalpy": "eV/formula unit"}
    with pytest.raises(UserError, match="did you mean 'mixing_enthalpy'"):
        design_table(table, features=["mixing_entalpy"])
    with pytest.raises(UserError, match="mixing_enthalpy would be there twice"):
        design_table(table, features=["mixing_enthalpy"], descriptors=["mixing_enthalpy"])
    with pytest.raises(UserError, match="would be empty"):
        design_table(table, fractions=False)


FORMULAS = ["CoCrFeMnNi", "Al0.3CoCrFeNi", "AlNi"]


@pytest.mark.parametrize(
    "given",
    [
        FORMULAS,
        np.array(FORMULAS, dtype=object),
        np.array(FORMULAS)[:, None],
        pandas.Series(FORMULAS),
        pandas.DataFrame({"formula": FORMULAS}),
    ],
    ids=["list", "array", "column", "series", "frame"],
)
def test_formulas_in_any_shape_become_fractions_and_descriptors(given):
    features = CompositionFeatures(descriptors=["size_mismatch", "radius_mean"])
    values = features.fit_transform(given)
    expected = composition_table(FORMULAS).join(descriptor_table(FORMULAS, ["size_mismatch", "radius_mean"]))
    assert np.array_equal(values, expected.to_numpy())
    assert features.get_feature_names_out().tolist() == expected.columns.tolist()
    assert features.units_["size_mismatch"] == "%"


def test_the_transformer_is_a_step_of_a_pipeline_that_can_be_pickled():
    from sklearn.base import clone
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    rows = pandas.DataFrame({"formula": FORMULAS, "temperature": [300.0, 400.0, 500.0]})
    columns = make_column_transformer((CompositionFeatures(descriptors="phase"), ["formula"]), remainder="passthrough")
    model = make_pipeline(columns, Ridge()).fit(rows, [1.0, 2.0, 3.0])
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(rows), model.predict(rows))
    assert model[0].get_feature_names_out()[-1] == "remainder__temperature"
    assert clone(model)[0].transformers[0][1].descriptors == "phase"


def test_the_transformer_gives_frames_where_scikit_learn_is_asked_for_them():
    frame = CompositionFeatures().set_output(transform="pandas").fit_transform(FORMULAS)
    assert frame.columns.tolist() == ["Al", "Co", "Cr", "Fe", "Mn", "Ni"]


def test_elements_that_training_has_not_seen_are_refused_unless_they_are_named_before():
    features = CompositionFeatures().fit(FORMULAS)
    with pytest.raises(UserError, match="formula 'CoW' holds W, which is not among the elements"):
        features.transform(["CoW"])
    assert CompositionFeatures(elements=["Co", "W"]).fit(["Co"]).transform(["CoW"]).tolist() == [[0.5, 0.5]]
    assert CompositionFeatures(fractions=False, descriptors=["radius_mean"]).fit(["Co"]).transform(["W"]) == [[141]]


def test_bad_settings_and_shapes_are_told():
    with pytest.raises(UserError, match="computes nothing"):
        CompositionFeatures(fractions=False).fit(FORMULAS)
    with pytest.raises(UserError, match="formulas must be one column"):
        CompositionFeatures().fit([FORMULAS])
    with pytest.raises(UserError, match="did you mean 'size_mismatch'"):
        CompositionFeatures(descriptors=["size_mismach"]).fit(FORMULAS)
