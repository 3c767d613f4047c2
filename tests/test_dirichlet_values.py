"""Known values on the Dirichlet sides are in the predictions exactly; elsewhere nothing changes."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import katops
from katops.bundle import load, save
from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.models import build_model
from katops.predictors import FieldPredictor

NODES = ("nodes", 0.0, 1.0)


def description(boundary=(("dirichlet", "dirichlet"), ("dirichlet", "dirichlet")), grid="nodes", **options):
    axes = tuple(Axis(name, grid, 0.0, 1.0, sides) for name, sides in zip("xy", boundary, strict=True))
    return FieldMeta("flow", (Channel("a"), Channel("g")), (Channel("u"), Channel("v")), axes, **options)


def predictor(meta, values):
    model = build_model("mgno", meta=meta, hidden_channels=4, n_layers=1, schedule=[[1, 0]])
    return FieldPredictor(model, Normalizer(meta), meta, values).eval()


def edges(field):
    """Values on the four sides of (..., x, y)."""
    return torch.cat([field[..., 0, :], field[..., -1, :], field[..., 0], field[..., -1]], -1)


def test_an_input_channel_gives_the_values_on_every_side_and_the_interior_is_the_models():
    meta = description()
    enforced = predictor(meta, {"u": "g"})
    free = FieldPredictor(enforced.model, enforced.normalizer, meta)
    x = torch.randn(3, 1, 2, 9, 7)
    y, without = enforced(x), free(x)
    assert torch.equal(edges(y[:, 0, 0]), edges(x[:, 0, 1]))
    assert torch.equal(y[:, 0, 0, 1:-1, 1:-1], without[:, 0, 0, 1:-1, 1:-1])
    assert torch.equal(y[:, 0, 1], without[:, 0, 1])


def test_a_number_holds_on_the_dirichlet_sides_only():
    meta = description((("dirichlet", "neumann"), ("periodic", "periodic")), "nodes")
    meta = FieldMeta(
        meta.name, meta.inputs, meta.outputs, (meta.axes[0], Axis("y", "periodic_nodes", 0, 1, ("periodic",) * 2))
    )
    enforced = predictor(meta, {"u": 1.5, "v": 0})
    free = FieldPredictor(enforced.model, enforced.normalizer, meta)
    x = torch.randn(2, 1, 2, 8, 6)
    y = enforced(x)
    assert (y[:, 0, 0, 0] == 1.5).all()
    assert (y[:, 0, 1, 0] == 0).all()
    assert torch.equal(y[..., 1:, :], free(x)[..., 1:, :])


def test_a_constant_channel_gives_the_values_of_every_frame():
    axes = (Axis("x", "nodes"),)
    meta = FieldMeta(
        "heat", (Channel("u"),), (Channel("u"),), axes, steps_in=2, steps_out=3, constants=(Channel("wall"),)
    )
    enforced = predictor(meta, {"u": "wall"})
    wall = torch.randn(4, 1, 11)
    y = enforced(torch.randn(4, 2, 1, 11), constants=wall)
    for frame in range(3):
        assert torch.equal(y[:, frame, 0, [0, -1]], wall[:, 0, [0, -1]])


def test_gradients_flow_to_the_channel_that_gives_the_values():
    enforced = predictor(description(), {"u": "g"})
    x = torch.randn(1, 1, 2, 6, 6, requires_grad=True)
    edges(enforced(x)[:, 0, 0]).sum().backward()
    assert (x.grad[0, 0, 1, 0, 1:-1] == 1).all()
    assert (x.grad[0, 0, 0] == 0).all()


def test_the_model_file_keeps_the_values(tmp_path):
    meta = description()
    enforced = predictor(meta, {"u": "g", "v": 2.0})
    save(tmp_path, enforced)
    x = torch.randn(1, 1, 2, 6, 6)
    again = load(tmp_path).predictor
    assert again.dirichlet_values == {"u": "g", "v": 2.0}
    assert torch.equal(again(x), enforced(x))


@pytest.mark.parametrize(
    ("values", "meta", "message"),
    [
        ({"w": 0}, description(), r"unknown output 'w'.* Allowed: u, v\."),
        ({"u": "h"}, description(), r"u is to be 'h', which is not an input.* Allowed: a number, a, g\."),
        (
            {"u": 0},
            description(grid="cell_centres"),
            "axis 'x' is cell_centres, whose points do not lie on the boundary",
        ),
        ({"u": 0}, description((("neumann",) * 2,) * 2), "'flow' has no Dirichlet side"),
    ],
)
def test_what_cannot_be_enforced_is_refused_in_a_sentence(values, meta, message):
    with pytest.raises(UserError, match=message):
        FieldPredictor(nn.Identity(), Normalizer(meta), meta, values)


def test_a_run_enforces_inhomogeneous_values_in_evaluation_and_prediction(tmp_path):
    """u = g + x (1 - x) y (1 - y) a, with g linear: the values of g on the sides are given as a channel."""
    generator = np.random.default_rng(0)
    x, y = np.meshgrid(*[np.linspace(0, 1, 13)] * 2, indexing="ij")
    a, slopes = generator.normal(size=(2, 40, 1, 1))
    g = slopes + x - slopes * y
    u = g + x * (1 - x) * y * (1 - y) * a
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["a"], file["g"], file["u"] = a + 0 * u, g, u
    config = {
        "name": "run",
        "output": str(tmp_path / "run"),
        "data": {
            "file": str(tmp_path / "data.h5"),
            "inputs": ["a", "g"],
            "outputs": ["u"],
            "axes": ["sample", "x", "y"],
            "boundary": {"x": "dirichlet", "y": ["dirichlet", "dirichlet"]},
            "grid": "nodes",
            "dirichlet_values": {"u": "g"},
            "split": {"train": 32, "validation": 4, "test": 4},
        },
        "model": {"name": "mgno", "hidden_channels": 4, "n_layers": 1, "schedule": [[1, 0]]},
        "train": {"epochs": 1, "batch_size": 8, "optimizer": "adam", "schedule": {"name": "step", "every": 1}},
    }
    run = katops.train(config).directory
    predicted = katops.load(run).predict({"a": (a + 0 * u)[:2], "g": g[:2]})["u"]
    np.testing.assert_array_equal(edges(torch.tensor(predicted)), edges(torch.tensor(g[:2], dtype=torch.float32)))
    config["data"]["dirichlet_values"] = {"u": "walls"}
    with pytest.raises(UserError, match="'walls', which is not an input"):
        katops.train({**config, "output": str(tmp_path / "other")})
    assert not (tmp_path / "other").exists()
