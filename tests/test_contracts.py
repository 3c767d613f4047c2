"""One contract, run over everything that is registered.

A layer's contract is the kind it is registered with; EXAMPLES builds a small instance and an input for
each contract. A new layer or model is covered by being registered; a new contract has to be described here.
"""

import copy
import json
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.models import build_model, create_layer
from katops.models.options import allowed_options
from katops.registry import LAYERS, MODELS

EXAMPLES = {
    "activation": lambda name: (create_layer(name, **({"channels": 8} if takes(name, "channels") else {})), tokens()),
    "basis": lambda name: (create_layer(name, in_features=8), tokens()),
    "norm": lambda name: (create_layer(name, channels=4), torch.randn(2, 4, 5, 6)),
    "channel mixer": lambda name: (create_layer(name, in_features=8, out_features=3), tokens()),
    "space mixer": lambda name: (create_layer(name, in_channels=2, out_channels=3), torch.randn(2, 2, 9, 12)),
}
SMALL_IMAGE_MODEL = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 2, "num_classes": 3}
PACKAGES = {"fno": "neuralop", "tfno": "neuralop", "uno": "neuralop", "unet": "monai"}
SMALL_MODEL = {
    "in_channels": 2,
    "out_channels": 3,
    "hidden_channels": 4,
    "n_layers": 2,
    "schedule": [[1, 1], [1, 0]],
    "image_size": None,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 3,
    "mlp_ratio": 2.0,
    "skip_connections": [1, 0],
}
LAYER_NAMES = LAYERS.names()
MODEL_NAMES = MODELS.names()
OPERATOR_NAMES = [record.name for record in MODELS if record.kind == "operator"]
TABLE_NAMES = [record.name for record in MODELS if record.kind == "table"]
IMAGE_NAMES = [record.name for record in MODELS if record.kind == "image"]
EVERYTHING = [*(("layer", name) for name in LAYER_NAMES), *(("model", name) for name in MODEL_NAMES)]

# Entry points that differ in sizes alone are the same net when they are given the same small ones.
FAMILIES = {"kat_tiny": ("kat_",), "mgno": ("mgno_",), "scot": ("scot_", "poseidon_")}
# Their boundaries or steps in time are their own.
OTHER_NETS = ("mgno_helmholtz", "mgno_navier_stokes")
REPEATED = {
    name: first
    for first, beginnings in FAMILIES.items()
    for name in MODEL_NAMES
    if name.startswith(beginnings) and name not in (first, *OTHER_NETS)
}


# What other packages' nets cannot do, with the reason.
WITHOUT_DOUBLE_PRECISION = dict.fromkeys(("fno", "tfno", "uno"), "neuraloperator multiplies spectra in complex64")
WITHOUT_WHOLE_GRAPHS = dict.fromkeys(("fno", "tfno", "uno", "unet"), "the package's own code breaks the graph")


def every_net(reasons):
    """All layers and models, each net once, without those with a reason."""
    return pytest.mark.parametrize(
        ("kind", "name"),
        [
            pytest.param(kind, name, marks=pytest.mark.skip(reason=reasons[name])) if name in reasons else (kind, name)
            for kind, name in EVERYTHING
            if name not in REPEATED
        ],
    )


everything = pytest.mark.parametrize(("kind", "name"), EVERYTHING)


def tokens():
    return torch.randn(2, 5, 8)


def takes(name, option):
    return option in allowed_options(LAYERS[name].factory)


def contract(name):
    return LAYERS[name].kind


def example(kind, name):
    """A small module and an input."""
    if name in PACKAGES:
        pytest.importorskip(PACKAGES[name], reason="the extra 'baselines' is not installed")
    if kind == "layer":
        return EXAMPLES[contract(name)](name)
    if name in IMAGE_NAMES:
        return build_model(name, **SMALL_IMAGE_MODEL), torch.randn(2, 3, 16, 16)
    if name in TABLE_NAMES:
        return build_model(name, in_features=8, out_features=3, hidden=[4], products=[1, 0], linear=True), tokens()
    accepted = allowed_options(MODELS[name].factory)
    options = {key: value for key, value in SMALL_MODEL.items() if key in accepted}
    return build_model(name, **options), torch.randn(2, 2, 9, 12)


def test_something_is_registered():
    assert LAYER_NAMES
    assert sorted(OPERATOR_NAMES + IMAGE_NAMES + TABLE_NAMES) == MODEL_NAMES
    assert OPERATOR_NAMES
    assert TABLE_NAMES
    assert IMAGE_NAMES


@pytest.mark.parametrize(("name", "first"), REPEATED.items())
def test_entry_points_of_a_family_differ_in_sizes_alone(name, first):
    ours, theirs = (example("model", each)[0] for each in (name, first))
    assert repr(ours) == repr(theirs)
    assert [(key, value.shape) for key, value in ours.state_dict().items()] == [
        (key, value.shape) for key, value in theirs.state_dict().items()
    ]


@pytest.mark.parametrize("name", LAYER_NAMES)
def test_every_layer_has_a_known_contract(name):
    assert contract(name) in EXAMPLES


@everything
def test_output_has_the_shape_of_the_contract(kind, name):
    module, x = example(kind, name)
    y = module(x)
    if kind == "layer" and contract(name) == "basis":
        expected = (*x.shape, module.size)
    elif kind == "layer":
        shapes = {"activation": x.shape, "norm": x.shape, "channel mixer": (*x.shape[:-1], 3)}
        expected = shapes.get(contract(name), (x.shape[0], 3, *x.shape[2:]))
    elif name in IMAGE_NAMES:
        expected = (x.shape[0], 3)
    else:
        expected = (*x.shape[:-1], 3) if name in TABLE_NAMES else (x.shape[0], 3, *x.shape[2:])
    assert y.shape == expected
    assert y.isfinite().all()


@everything
def test_input_and_every_parameter_get_a_gradient(kind, name):
    module, x = example(kind, name)
    y = module(x.requires_grad_())
    (y * torch.randn_like(y)).sum().backward()
    assert x.grad.abs().sum() > 0
    without = [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


@everything
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
def test_copy_computes_the_same(kind, name, way):
    module, x = example(kind, name)
    if way == "state_dict":
        clone, _ = example(kind, name)
        clone.load_state_dict(module.state_dict())
    else:
        clone = copy.deepcopy(module) if way == "deepcopy" else pickle.loads(pickle.dumps(module))
    torch.testing.assert_close(clone(x), module(x), rtol=0, atol=0)


@every_net(WITHOUT_DOUBLE_PRECISION)
def test_gradients_are_right_in_float64(kind, name):
    module, x = example(kind, name)
    module, x = module.double(), x[:1].double().requires_grad_()
    with torch.no_grad():
        for parameter in module.parameters():
            # away from zero, where the |b| of rational functions has a corner
            parameter.add_(0.1 * torch.rand_like(parameter))
    names = [key for key, _ in module.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(module, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *module.parameters()), fast_mode=True)


@everything
def test_bfloat16_autocast_stays_near_float32(kind, name):
    module, x = example(kind, name)
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = module(x)
    assert (y.float() - expected).norm() < 0.05 * expected.norm()


@every_net(WITHOUT_WHOLE_GRAPHS)
def test_whole_graph_compiles(kind, name):
    module, x = example(kind, name)
    x.requires_grad_()
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    y, expected = compiled(x), module(x)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(output.square().sum(), x)[0] for output in (y, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    torch._dynamo.reset()


def test_inductor_compiles_mgno_tiny():
    """Inference of one layer on two grids: every kind of operation, at a fraction of the compile time."""
    module = build_model("mgno_tiny", hidden_channels=4, n_layers=1, schedule=[[1, 0], [1, 0]]).eval()
    x = torch.randn(1, 1, 9, 12)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


def test_inductor_compiles_a_kat():
    module = build_model("kat_tiny", **SMALL_IMAGE_MODEL).eval()
    x = torch.randn(1, 3, 16, 16)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(module, fullgraph=True)(x), module(x), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_operator_model_owns_its_widths_and_boundary_and_takes_time(name):
    model, x = example("model", name)
    assert (model.in_channels, model.out_channels) == (2, 3)
    assert model.boundary == (("dirichlet", "dirichlet"),) * 2
    assert model(x, time=torch.ones(2)).shape == (2, 3, 9, 12)
    assert model.recipe["name"] == name


@pytest.mark.parametrize(
    ("kind", "name"),
    [pair for pair in EVERYTHING if pair[0] == "model" or contract(pair[1]) == "space mixer"],
)
def test_wrong_shape_is_told_by_naming_the_axes(kind, name):
    module, x = example(kind, name)
    if name in TABLE_NAMES:
        axes, wrongs = "..., input=8", (x[..., :1], x[..., None])
    else:
        axes = "batch, channel=3, height, width" if name in IMAGE_NAMES else "batch, channel=2, x, y"
        wrongs = (x[:, :1], x[0], x[..., None])
    for wrong in wrongs:
        with pytest.raises(UserError, match=rf"expected \({axes}\), got .*\("):
            module(wrong)


@pytest.mark.parametrize("name", [*IMAGE_NAMES, *TABLE_NAMES])
def test_model_has_a_recipe_that_builds_it_again(name):
    module, x = example("model", name)
    recipe = json.loads(json.dumps(module.recipe))
    again = build_model(recipe["name"], **recipe["arguments"])
    again.load_state_dict(module.state_dict())
    torch.testing.assert_close(again(x), module(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", [*(name for name in IMAGE_NAMES if name not in REPEATED), *TABLE_NAMES])
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_onnx_export_agrees_with_torch_for_another_batch_size(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    module, x = example("model", name)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(module.eval(), (x,), dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x = torch.randn(5, *x.shape[1:])
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-4)


@everything
def test_construction_has_no_side_effect_but_drawing_initial_weights(kind, name, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_default_dtype(), torch.get_num_threads())  # noqa: NPY002
    example(kind, name)
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_default_dtype(), torch.get_num_threads())  # noqa: NPY002
    assert after == before
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def test_import_registers_with_timm_has_no_side_effect_and_needs_nothing_heavy(tmp_path, repository):
    program = """
import random, sys
import numpy, torch
import timm
state = lambda: (random.getstate(), str(numpy.random.get_state()), str(numpy.get_printoptions()),
                 torch.get_rng_state().tolist(), torch.get_default_dtype(), torch.get_num_threads(),
                 torch.nn.init.calculate_gain)
before, loaded = state(), set(sys.modules)
import katops.models, katops.layers, katops.ops
assert state() == before, "a generator, a default or the number of threads changed"
assert "mgno_tiny" in timm.list_models("mgno*")
heavy = {"cupy", "lightning", "pytorch_lightning", "h5py", "omegaconf", "pydantic", "matplotlib", "typer", "neuralop",
         "monai", "rich", "scipy"}
assert not heavy & (set(sys.modules) - loaded), heavy & (set(sys.modules) - loaded)
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "PYTHONPATH": str(repository),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
