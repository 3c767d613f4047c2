"""Every configuration of a published experiment trains for two steps on data of its own kind, only fewer of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

import katops
from katops.config import load_config
from katops.data.windows import Window
from katops.generators import create_problem
from katops.models import build_model
from katops.predictors.rollout import rollout_window

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
FEWER = {
    "darcy_smooth_mgno": {"resolution": 65},
    "darcy_rough_mgno": {"resolution": 64},
    "darcy_multiscale_mgno": {"resolution": 32, "native_resolution": 64},
    "navier_stokes_1e-5_mgno": {"resolution": 32, "native_resolution": 32, "final_time": 4},
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


# Of the published scripts: rate, decay, samples of a batch; rise, first and last factor of the schedule; the loss, and
# what the published loss is in units of ours.
TRAINING = {
    "darcy_smooth_mgno": (5e-4, 1e-4, 8, (0.2, 2, 100), {"name": "h1", "max_wavenumber": 20}, 8),
    "darcy_rough_mgno": (5e-4, 1e-4, 8, (0.2, 2, 100), {"name": "h1", "max_wavenumber": 20}, 8),
    "darcy_multiscale_mgno": (5e-4, 1e-4, 8, (0.2, 2, 100), {"name": "h1", "max_wavenumber": 20}, 8),
    "navier_stokes_1e-5_mgno": (1e-3, 1e-5, 500, (0.1, 2, 50), {"name": "relative_l2"}, 500),
    "helmholtz_mgno": (3e-4, 1e-5, 10, (0.2, 2, 100), {"name": "h1"}, 50),
    "pipe_mgno": (3e-4, 1e-4, 4, (0.2, 2, 100), {"name": "relative_l2"}, 4),
}


def values_of(name: str) -> dict:
    return load_config(CONFIGS / f"{name}.yaml").model_dump()


@pytest.mark.usefixtures("undrawn_figures")
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


@pytest.mark.parametrize(("name", "published"), TRAINING.items())
def test_config_trains_as_published(name: str, published: tuple) -> None:
    """A loss that is a multiple of another one has the same steps of Adam with the same multiple of the decay."""
    rate, decay, batch_size, (rise, div_factor, final_div_factor), loss, multiple = published
    train = load_config(CONFIGS / f"{name}.yaml").train
    assert (train.optimizer, train.learning_rate, train.batch_size) == ("adam", rate, batch_size)
    assert train.weight_decay * multiple == pytest.approx(decay)
    assert train.schedule.model_dump() == {
        "name": "one_cycle",
        "rise": rise,
        "div_factor": div_factor,
        "final_div_factor": final_div_factor,
    }
    assert train.loss.model_dump() == loss
    assert train.gradient_clip is None
    assert train.epochs == (100 if name == "helmholtz_mgno" else 500)


def test_navier_stokes_is_learned_from_the_published_pairs() -> None:
    """Times 1 to 11 of each trajectory: ten pairs, and a rollout over the same ten steps."""
    config = load_config(CONFIGS / "navier_stokes_1e-5_mgno.yaml")
    problem = create_problem(config.data.generate.problem, **config.data.generate.options)
    frames = problem.fields["vorticity"].shape[0]
    window, rollout = Window(**config.data.window.model_dump()), config.report.rollout
    assert list(window.starts(frames)) == list(range(1, 11))
    assert list(rollout_window(window, rollout.frames, rollout.start).starts(frames)) == [1]
    assert rollout.start + rollout.frames == frames - 1


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
