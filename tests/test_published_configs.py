"""Every configuration of a published experiment trains for two steps on data of its own kind, only fewer of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import katops
from katops.config import load_config
from katops.generators import create_problem
from katops.models import build_model

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FEWER = {
    "darcy_smooth_mgno": {"resolution": 65},
    "darcy_rough_mgno": {"resolution": 64},
    "darcy_multiscale_mgno": {"resolution": 32, "native_resolution": 64},
    "navier_stokes_1e-5_mgno": {"resolution": 32, "native_resolution": 32, "final_time": 3},
    "helmholtz_mgno": {"resolution": 33},
    "pipe_mgno": None,
}
# Width and number of layers.
SIZES = {
    "darcy_smooth_mgno": (24, 5),
    "darcy_rough_mgno": (24, 4),
    "darcy_multiscale_mgno": (24, 4),
    "navier_stokes_1e-5_mgno": (32, 5),
    "helmholtz_mgno": (20, 4),
    "pipe_mgno": (24, 5),
}


def values_of(name: str) -> dict:
    return load_config(CONFIGS / f"{name}.yaml").model_dump()


@pytest.mark.parametrize("name", list(FEWER))
def test_config_trains_evaluates_and_predicts_on_a_few_samples(name: str, tmp_path: Path) -> None:
    values = values_of(name)
    data, train = values["data"], values["train"]
    file = tmp_path / Path(data["file"]).name
    data["file"], values["output"] = str(file), str(tmp_path / "run")
    data["split"] |= {"preset": None, "train": 8, "validation": 2, "test": 2}
    train |= {"epochs": 1, "max_steps": 2, "batch_size": 2}
    if values["report"]["rollout"]:
        values["report"]["rollout"] = {"frames": 2, "start": 0}
    if FEWER[name] is None:
        x, y, velocity = np.random.default_rng(0).normal(size=(3, 12, 129, 129)).astype(np.float32)
        np.savez(file, x=x, y=y, velocity=velocity)
    else:
        data["generate"] |= {"samples": 12, **FEWER[name]}
    result = katops.train(values)
    assert all(np.isfinite(found.metrics["model"]["relative_l2"]) for found in result.evaluations.values())
    assert len(result.evaluations) == (2 if values["report"]["rollout"] else 1)
    assert katops.predict(result.directory, file, tmp_path / "predictions.h5").is_file()


@pytest.mark.parametrize("name", list(FEWER))
def test_config_asks_for_the_published_widths(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    model = build_model(config.model.name, **config.model.options)
    widths = {parameter.shape[0] for parameter in model.parameters() if parameter.ndim == 4}
    width, layers = SIZES[name]
    assert width in widths
    assert len(model.mixers) == layers


@pytest.mark.parametrize("name", [name for name, fewer in FEWER.items() if fewer])
def test_generated_data_have_the_published_sizes(name: str) -> None:
    generate = load_config(CONFIGS / f"{name}.yaml").data.generate
    problem = create_problem(generate.problem, **generate.options)
    sizes = {shape.shape[-2:] for shape in problem.fields.values()}
    subsample = load_config(CONFIGS / f"{name}.yaml").data.subsample
    (space,) = {tuple(len(torch.arange(size)[::subsample]) for size in shape) for shape in sizes}
    published = {
        "darcy_smooth": 211,
        "darcy_rough": 256,
        "darcy_multiscale": 256,
        "navier_stokes": 64,
        "helmholtz": 101,
    }
    assert space == (next(points for key, points in published.items() if name.startswith(key)),) * 2
