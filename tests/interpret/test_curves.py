"""Effects of inputs in original units, and their pictures."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from katops.errors import UserError
from katops.interpret import edge_curve, effect_curves, plot_curves


def test_curves_of_an_additive_model_sum_to_its_predictions(additive, alloys):
    table, _ = alloys
    curves = effect_curves(additive, table, beyond=0)
    predicted = additive.predict(table)
    total = sum(np.interp(curve.rows, curve.x, curve.mean) for curve in curves)
    assert all(curve.exact for curve in curves)
    np.testing.assert_allclose(total - total.mean(), predicted - predicted.mean(), atol=0.01 * predicted.std())


def test_effects_are_in_the_unit_of_the_target_over_the_range_of_the_column(additive, alloys):
    table, _ = alloys
    (curve,) = effect_curves(additive, table, inputs=["T [K]"])
    assert (curve.low, curve.high) == (table["T [K]"].min(), table["T [K]"].max())
    assert curve.x[0] == pytest.approx(curve.low - 0.1 * (curve.high - curve.low))
    slope = np.polyfit(curve.x, curve.mean, 1)[0]
    assert slope == pytest.approx(-0.4, rel=0.03)  # MPa per K, as the data were made
    assert abs(np.interp(curve.rows, curve.x, curve.mean).mean()) < 3  # of 400


def test_deeper_models_have_mean_effects(deep, alloys):
    table, _ = alloys
    curves = {curve.name: curve for curve in effect_curves(deep, table)}
    assert not curves["T [K]"].exact
    assert np.ptp(curves["T [K]"].mean) > 10 * np.ptp(np.interp([-1, 1], curves["noise"].x, curves["noise"].mean))
    assert curves["Ni"].members.shape == (2, len(curves["Ni"].x))


def test_classes_have_effects_on_the_log_odds(classifier, alloys):
    figure = plot_curves(classifier, alloys[0], output="soft")
    assert "log-odds of soft" in figure.get_supylabel()


def test_the_picture_has_a_panel_per_input_the_strongest_first(additive, alloys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figure = plot_curves(additive, alloys[0])
    names = [ax.get_xlabel() for ax in figure.axes if ax.lines]
    assert names[-1] == "noise"
    assert "strength [MPa]" in figure.get_supylabel()
    assert isinstance(figure, Figure)
    figure.canvas.draw()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_seen_as_ticks_below_the_curves(additive, alloys):
    panel = plot_curves(additive, alloys[0].iloc[:40], inputs=["Ni"]).axes[0]
    (rug,) = [line for line in panel.lines if line.get_marker() == "|"]
    np.testing.assert_allclose(np.sort(rug.get_xdata()), np.sort(alloys[0]["Ni"].iloc[:40]))
    assert rug.get_alpha() > 0.5
    assert rug.get_markersize() >= 8


def test_given_axes_are_drawn_on(additive, alloys):
    axes = Figure().subplots(1, 2)
    assert plot_curves(additive, alloys[0], inputs=["Ni", "noise"], ax=axes) is axes[0].figure
    assert [ax.get_xlabel() for ax in axes] == ["Ni", "noise"]
    with pytest.raises(UserError, match="as many axes"):
        plot_curves(additive, alloys[0], ax=axes)


def test_pipelines_are_opened(additive, alloys):
    pipeline = make_pipeline(FunctionTransformer(), additive)
    np.testing.assert_array_equal(
        effect_curves(pipeline, alloys[0])[0].mean, effect_curves(additive, alloys[0])[0].mean
    )


def test_an_edge_is_the_function_of_its_layer(additive):
    model = additive.models_[0]
    values = np.linspace(-1, 1, 5)
    rows = np.zeros((5, 3))
    rows[:, 1] = values
    phi = model.edges(model.layers[0].coefficients.new_tensor(rows))[0][:, 0, 1].detach().numpy()
    np.testing.assert_allclose(edge_curve(model, 0, 0, 1, values), phi, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": ["Nickel"]}, "no input 'Nickel'"),
        ({"inputs": [3]}, "no input number 3"),
        ({"output": "hardness"}, "no output 'hardness'"),
    ],
)
def test_what_is_not_there_is_told(additive, alloys, options, message):
    with pytest.raises(UserError, match=message):
        effect_curves(additive, alloys[0], **options)


def test_an_estimator_that_is_not_fitted_is_told(alloys):
    from sklearn.linear_model import Ridge

    from katops.estimators import KANRegressor

    with pytest.raises(UserError, match="call fit first"):
        plot_curves(KANRegressor(), alloys[0])
    with pytest.raises(UserError, match="give a fitted KANRegressor"):
        plot_curves(Ridge(), alloys[0])
