"""The configurations of Poseidon's training and fine-tuning, on files in the published layouts, only smaller."""

from pathlib import Path

import pytest
import timm
import yaml

import katops
from katops.models.scot import to_published

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
SMALL = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 2, "image_size": 8}
SPACE = (8, 8)


def values_of(name: str, tmp_path: Path) -> dict:
    values = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    values["output"] = str(tmp_path / "run")
    values["model"] = {**values["model"], **SMALL}
    values["train"] |= {"max_steps": 2, "epochs": 1, "batch_size": 16, "schedule": "cosine"}
    values["report"] = {"examples": 1}
    return values


@pytest.fixture(autouse=True)
def _without_reports(monkeypatch):
    """A report for each data set takes its time, and reports are tested elsewhere."""
    monkeypatch.setattr("katops.runs.fields.write_report", lambda *arguments, **options: None)


def test_the_published_pretraining_mixes_six_data_sets_with_one_normalisation(write_set, tmp_path):
    values = values_of("poseidon_pretrain", tmp_path)
    for entry in values["data"]["mix"]:
        path, _ = write_set(entry["preset"], space=SPACE)
        moved = path.rename(path.with_name(f"{entry['preset']}.nc"))
        entry |= {"file": str(moved), "split": {"train": 1, "validation": 1, "test": 1}}
    bundle = katops.train(values).bundle
    normalizer = bundle.predictor.normalizer
    known = normalizer.known()
    # The pressure of the first set, which is filled with 0 and masked, is 0 for the model, as published.
    assert known["pressure"] == pytest.approx((0.0, 0.185))
    assert known["density"] == pytest.approx((0.80, 0.31))
    assert known["velocity_x"] == pytest.approx((0.0, 0.391))
    offsets = {Path(part["file"]).name: part["offset"] for part in bundle.header["data"]["mix"]}
    assert offsets["NS-Sines.nc"] == offsets["NS-Gauss.nc"] == {}
    published = {"CE-RP": 0.215, "CE-CRP": 0.553, "CE-KH": 1.0, "CE-Gauss": 2.513}
    assert {name: offsets[f"{name}.nc"]["pressure"] for name in published} == pytest.approx(published)
    assert float(normalizer.time_scale) == pytest.approx(1.0)
    assert len(bundle.header["training"]["steps"]) == 4


@pytest.mark.parametrize(("task", "channels"), [("NS-PwC", 4), ("NS-Tracer-PwC", 5), ("Wave-Layer", 1)])
def test_published_weights_are_fine_tuned_on_tasks_with_the_same_and_with_other_channels(
    task, channels, write_set, tmp_path
):
    published = timm.create_model("poseidon_tiny", **SMALL)
    to_published(published, tmp_path / "weights")
    path, _ = write_set(task, space=SPACE)
    values = values_of("poseidon_finetune", tmp_path)
    values["data"] = {"preset": task, "file": str(path), "split": {"train": 1, "validation": 1, "test": 1}}
    values["train"]["initial"] = str(tmp_path / "weights")
    bundle = katops.train(values).bundle
    assert bundle.model.out_channels == channels
    said = bundle.header["training"]["initial"]
    assert ("in part" in said or "not taken" in said) == (channels != 4)
