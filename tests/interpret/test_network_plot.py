"""The drawing of a network."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import katops
from katops.errors import UserError
from katops.interpret import plot_network
from katops.interpret.style import CURVE


def drawn_curves(ax):
    return [line for line in ax.lines if line.get_color() == CURVE]


def test_every_visible_edge_has_its_function_and_the_opacity_of_its_score():
    torch.manual_seed(0)
    net = katops.create_model("kan", in_features=2, out_features=1, hidden=[]).double()
    rows = torch.rand(50, 2, dtype=torch.float64)
    ax = plot_network(net, rows, input_names=["a", "b"], output_names=["c"])
    curves = drawn_curves(ax)
    from katops.interpret import attribution

    expected = sorted(np.tanh(3 * attribution(net, rows).edges[0][0, 0]))
    assert sorted(curve.get_alpha() for curve in curves) == pytest.approx(expected)
    assert {text.get_text() for text in ax.texts} == {"a", "b", "c"}
    assert not ax.images  # vector artists only


def test_names_are_those_of_the_table(deep, alloys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ax = plot_network(deep, alloys[0], member=1)
    texts = {text.get_text() for text in ax.texts}
    assert {"T [K]", "Ni", "strength [MPa]"} <= texts
    ax.figure.canvas.draw()
    assert list(tmp_path.iterdir()) == []


def test_products_are_marked():
    net = katops.create_model("kan", in_features=2, out_features=1, hidden=[2], products=[1, 0])
    ax = plot_network(net, torch.rand(20, 2))
    assert [text.get_text() for text in ax.texts].count("×") == 1


def test_only_the_strongest_edges_are_drawn_where_there_are_many(deep, alloys):
    assert len(drawn_curves(plot_network(deep, alloys[0], edges=3))) == 3


def test_what_is_not_there_is_told(deep, alloys):
    with pytest.raises(UserError, match="no member 2"):
        plot_network(deep, alloys[0], member=2)
    with pytest.raises(UserError, match="input_names must be 3 names"):
        plot_network(deep, alloys[0], input_names=["a"])


def test_names_of_many_inputs_do_not_touch_in_axes_that_are_low():
    model = katops.create_model("kan", in_features=30, hidden=[]).double()
    axes = plot_network(model, np.random.default_rng(0).normal(size=(20, 30)), ax=Figure(figsize=(4, 4)).add_subplot())
    axes.figure.canvas.draw()
    boxes = sorted((text.get_window_extent() for text in axes.texts[:30]), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 0.5 for below, above in pairwise(boxes))
