"""Smaller networks that are the same function."""

import copy

import numpy as np
import pytest
import torch

import katops
from katops.errors import UserError
from katops.estimators import KANRegressor
from katops.interpret import PruningPath, attribution, compacted, mask_edges, plot_pareto, prune, prune_estimator

ROWS = torch.rand(60, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def model(**options):
    torch.manual_seed(0)
    return katops.create_model("kan", in_features=4, **options).double()


@pytest.mark.parametrize("basis", ["bspline", "radial", "chebyshev", "fourier"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.8])
def test_a_compacted_network_equals_the_masked_one(basis, share):
    net = model(out_features=2, hidden=[4, 3], products=[1, 1, 0], basis_layer=basis, linear=True)
    generator = torch.Generator().manual_seed(int(10 * share))
    kept = [torch.rand(layer.mask.shape, generator=generator) > share for layer in net.layers]
    kept[-1][0, 0] = True
    masked = mask_edges(net, ROWS, kept)
    small = compacted(masked)
    torch.testing.assert_close(small(ROWS), masked(ROWS), rtol=0, atol=1e-12)
    assert sum(p.numel() for p in small.parameters()) <= sum(p.numel() for p in masked.parameters())
    rebuilt = katops.create_model("kan", **small.recipe["arguments"]).double()
    rebuilt.load_state_dict(small.state_dict())
    torch.testing.assert_close(rebuilt(ROWS), small(ROWS), rtol=0, atol=0)


def test_nodes_and_columns_that_nothing_is_left_of_are_gone():
    net = model(hidden=[5])
    with torch.no_grad():
        net.layers[0].mask[:, 2] = 0
        net.layers[1].mask[:, [1, 4]] = 0
    small = compacted(net)
    assert small.used_inputs == [0, 1, 3]
    assert small.recipe["arguments"]["hidden"] == [3]
    assert small.layers[0].coefficients.shape[:2] == (3, 3)
    torch.testing.assert_close(small(ROWS), net(ROWS))
    assert small.in_features == 4


def test_a_learned_base_function_keeps_its_inputs_together():
    net = model(hidden=[3], base_act={"name": "rational", "groups": 1}, init="power")
    with torch.no_grad():
        net.layers[0].mask[:, 1] = 0
        net.layers[1].mask[:, 0] = 0
    small = compacted(net)
    torch.testing.assert_close(small(ROWS), net(ROWS))
    assert small.used_inputs == [0, 1, 2, 3]


def test_pruning_leaves_the_given_network_as_it_was():
    net = model(hidden=[3])
    before = copy.deepcopy(net.state_dict())
    small = prune(net, ROWS, edge_threshold=0.3)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert small is not net


def test_dropped_edges_leave_their_mean():
    net = model(hidden=[])
    keep = torch.tensor([[True, False, True, True]])
    masked = mask_edges(net, ROWS, [keep])
    torch.testing.assert_close(masked(ROWS).mean(), net(ROWS).mean())


def test_without_thresholds_nothing_changes():
    net = model(hidden=[3], out_features=2)
    same = prune(net, ROWS, edge_threshold=0, node_threshold=0, input_threshold=0)
    torch.testing.assert_close(same(ROWS), net(ROWS), rtol=0, atol=1e-12)


def test_edges_of_low_score_are_those_that_go():
    net = model(hidden=[])
    scores = attribution(net, ROWS).edges[0][0, 0]
    weakest = int(scores.argmin())
    small = prune(net, ROWS, edge_threshold=float(np.sort(scores)[:2].mean()))
    assert small.used_inputs == [column for column in range(4) if column != weakest]


def test_thresholds_that_leave_nothing_are_told():
    with pytest.raises(UserError, match="lower them"):
        prune(model(hidden=[3]), ROWS, edge_threshold=100)
    with pytest.raises(UserError, match="at least 0"):
        prune(model(hidden=[3]), ROWS, node_threshold=-1)


def test_an_estimator_is_pruned_as_far_as_cross_validation_lets_it_go(alloys, tmp_path):
    table, strength = (part.head(120) for part in alloys)
    estimator = KANRegressor(hidden=(2,), ensemble=2, epochs=20, random_state=0).fit(table, strength)
    before = estimator.predict(table)
    pruned = prune_estimator(estimator, table, strength, folds=2, share=0.5)
    path = pruned.pruning_path_
    assert path.edges == [8, 4, 2, 1]
    best = path.error.argmin()
    chosen = path.edges.index(path.chosen)
    assert path.error[chosen] <= path.error[best] + path.standard_error[best]
    assert path.error[-1] > 10 * path.error[best]  # one edge cannot tell two columns
    assert all(int(sum(layer.mask.sum() for layer in m.layers)) <= path.chosen for m in pruned.models_)
    assert pruned.score(table, strength) > 0.98
    assert np.array_equal(estimator.predict(table), before)
    pruned.save(tmp_path / "pruned.safetensors")
    loaded = katops.load(tmp_path / "pruned.safetensors")
    np.testing.assert_allclose(loaded.predict(table), pruned.predict(table), rtol=1e-12)
    assert list(path.table().columns) == ["edges", "error", "standard_error"]
    assert plot_pareto(path).get_xlabel() == "edges"


def test_labels_of_a_pruning_path_are_plain_numbers_that_do_not_touch():
    path = PruningPath([14, 13, 8, 5, 3, 2, 1], np.linspace(0.62, 1.03, 7), np.full(7, 0.05), 5)
    ax = plot_pareto(path)
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    labels = [text.get_text() for text in ax.get_yticklabels() if low <= text.get_position()[1] <= high]
    assert labels == ["0.6", "0.7", "0.8", "0.9", "1", "1.1"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "3", "5", "8", "14"]
