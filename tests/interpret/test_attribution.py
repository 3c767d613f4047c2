"""Scores of edges, nodes and inputs."""

import numpy as np
import pytest
import torch

import katops
from katops.errors import UserError
from katops.interpret import attribution
from katops.interpret.kan_fit import fit_least_squares


def model(**options):
    torch.manual_seed(0)
    return katops.create_model("kan", **{"in_features": 3, **options}).double()


ROWS = torch.rand(120, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_stronger_inputs_have_higher_scores():
    net = model(hidden=[2])
    y = ROWS[:, :1] ** 2 + 0.3 * ROWS[:, 1:2] ** 2
    fit_least_squares(net, ROWS, (y - y.mean()) / y.std(), sparsity=1e-4)
    first, second, third = attribution(net, ROWS).inputs[0]
    assert first > second > 20 * third


def test_scores_of_one_layer_are_ratios_of_standard_deviations():
    net = model(hidden=[], out_features=2)
    found = attribution(net, ROWS)
    edges, nodes = net.layers[0].edges(ROWS).std(0, correction=0), net(ROWS).std(0, correction=0)
    expected = (edges / (nodes.unsqueeze(1) + 1e-4)).detach().numpy()
    np.testing.assert_allclose(found.inputs, expected, rtol=1e-10)
    np.testing.assert_allclose(np.diagonal(found.edges[0], axis1=0, axis2=1).T, expected, rtol=1e-10)
    np.testing.assert_allclose(found.normalised.sum(axis=1), 1)


def test_outputs_keep_their_own_scores():
    net = model(hidden=[], out_features=2)
    with torch.no_grad():
        net.layers[0].mask[0, 1:] = 0  # the first output sees the first column only
        net.layers[0].mask[1, 0] = 0
    inputs = attribution(net, ROWS).inputs
    assert inputs[0, 0] > 0.9
    assert inputs[0, 1:].tolist() == [0, 0]
    assert inputs[1, 0] == 0


def test_a_product_passes_its_score_to_every_factor():
    net = model(hidden=[], products=[1])
    with torch.no_grad():
        net.layers[0].mask[0, 1:] = 0
        net.layers[0].mask[1, [0, 2]] = 0
    found = attribution(net, ROWS)
    np.testing.assert_allclose(found.inputs[0], [1, 1, 0], atol=1e-3)


def test_columns_that_a_network_does_not_see_have_no_score():
    net = model(hidden=[], in_features=3, used_inputs=[0, 2])
    assert attribution(net, ROWS).inputs[0, 1] == 0


@pytest.mark.parametrize("rows", [ROWS[:1], ROWS[:, :2]])
def test_rows_that_do_not_fit_are_refused(rows):
    with pytest.raises(UserError, match="at least two rows of 3 columns"):
        attribution(model(), rows)
