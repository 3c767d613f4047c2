"""The public surface, and that its parts stand alone."""

import importlib
import pkgutil
import subprocess
import sys

import pytest
from torch import nn

import katops


@pytest.mark.parametrize("name", [name for name in katops.__all__ if name != "__version__"])
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    assert callable(getattr(katops, name))
    assert getattr(katops, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        katops.trian  # noqa: B018 - looking it up is the test


def test_training_machinery_does_not_hide_the_functions_of_the_same_purpose() -> None:
    importlib.import_module("katops.training.fit")
    importlib.import_module("katops.generators.darcy")
    assert callable(katops.train)
    assert callable(katops.generate)


def test_kernels_layers_and_models_run_where_the_rest_is_not_installed() -> None:
    script = """
import sys
for name in "lightning omegaconf pydantic typer rich h5py scipy jinja2 cupy wandb pandas".split():
    sys.modules[name] = None
import timm, torch, katops
model = timm.create_model("mgno_tiny", boundary="periodic")
model(torch.randn(1, 1, 16, 16)).sum().backward()
print(katops.create_layer("gelu"))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "GELU(approximate='none')", done.stderr


def modules() -> list[str]:
    skip = {"katops.__main__"}
    return [m.name for m in pkgutil.walk_packages(katops.__path__, "katops.") if m.name not in skip]


NEED_AN_EXTRA = (
    "katops.estimators",
    "katops.materials.composition_features",
    "katops.report.study",
    "katops.runs.table",
    "katops.studies",
    "katops.sweeps",
)


def test_every_module_but_those_of_an_extra_imports_without_optional_packages() -> None:
    names = [name for name in modules() if not name.startswith(NEED_AN_EXTRA)]
    script = f"""
import importlib, sys
for optional in "cupy wandb mlflow tensorboard neuralop pandas sklearn onnx onnxruntime optuna ray".split():
    sys.modules[optional] = None
for name in {names!r}:
    importlib.import_module(name)
print("all")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "all", done.stderr


@pytest.mark.parametrize("name", modules())
def test_no_module_of_ours_shadows_a_method_of_nn_module(name: str) -> None:
    reserved = {"train", "eval", "to", "float", "apply", "parameters", "state_dict", "load_state_dict", "zero_grad"}
    for value in vars(importlib.import_module(name)).values():
        if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == name:
            assert not reserved & set(vars(value)), value
