"""The model file: self-contained, safe, whole, readable for ever."""

import json
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import katops
from katops import api
from katops.bundle import METADATA_KEY, load, save
from katops.data.normalize import Normalizer
from katops.data.preprocessing import Preprocessing
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.models.build import build_model
from katops.predictors import FieldPredictor, ImagePredictor

META = FieldMeta(
    name="flow",
    inputs=(Channel("density", "kg/m^3"), Channel("pressure", "Pa")),
    outputs=(Channel("pressure", "Pa"),),
    axes=(Axis("x", boundary=("periodic", "periodic")), Axis("y")),
    steps_in=2,
    steps_out=3,
    time_step=0.1,
)
STEADY = FieldMeta("steady", (Channel("a"), Channel("f")), (Channel("u"),), (Axis("x"), Axis("y")))


def make(meta: FieldMeta) -> FieldPredictor:
    model = build_model("mgno", meta=meta, hidden_channels=4, n_layers=2, schedule=[[1, 0], [1, 0]])
    normalizer = Normalizer(meta)
    normalizer.input_mean += torch.arange(len(meta.inputs)) + 1.0
    normalizer.input_std *= 2.0
    normalizer.output_mean += 1e5
    normalizer.output_std *= 300.0
    return FieldPredictor(model, normalizer, meta).eval()


def test_prediction_is_normalise_model_denormalise(tmp_path: Path) -> None:
    predictor = make(META)
    raw = torch.randn(5, 2, 2, 8, 12)
    mean, std = torch.tensor([1.0, 2.0]).view(2, 1, 1), 2.0
    encoded = ((raw - mean) / std).flatten(1, 2)
    with torch.no_grad():
        expected = predictor.model(encoded).unflatten(1, (3, 1)) * 300.0 + 1e5
    path = save(tmp_path, predictor)
    torch.testing.assert_close(load(path).predict(raw), expected)


def test_constants_follow_the_frames_into_the_model(tmp_path: Path) -> None:
    meta = replace(META, constants=(Channel("force"),))
    predictor = make(meta)
    predictor.normalizer.constant_mean += 3.0
    predictor.normalizer.constant_std *= 4.0
    raw, force = torch.randn(5, 2, 2, 8, 12), torch.randn(5, 1, 8, 12)
    encoded = ((raw - torch.tensor([1.0, 2.0]).view(2, 1, 1)) / 2.0).flatten(1, 2)
    with torch.no_grad():
        output = predictor.model(torch.cat([encoded, (force - 3.0) / 4.0], 1))
    expected = output.unflatten(1, (3, 1)) * 300.0 + 1e5
    loaded = load(save(tmp_path, predictor))
    torch.testing.assert_close(loaded.predict(raw, None, force), expected)
    named = {"density": raw[:, :, 0], "pressure": raw[:, :, 1], "force": force[:, 0]}
    torch.testing.assert_close(loaded.predict(named)["pressure"], expected[:, :, 0])
    wanted = r"expected constants of shape \(batch=5, channel=1 \[force\], 8, 12\); given: None"
    with pytest.raises(UserError, match=wanted):
        loaded.predict(raw)
    with pytest.raises(UserError, match="the model takes no constants"):
        make(META).predict(raw, None, force)


def test_a_fresh_process_predicts_from_the_file_alone(tmp_path: Path) -> None:
    predictor = make(STEADY)
    raw = np.random.default_rng(0).normal(size=(3, 2, 8, 12)).astype(np.float32)
    np.save(tmp_path / "raw.npy", raw)
    path = shutil.move(save(tmp_path / "there", predictor), tmp_path / "alone.safetensors")
    script = f"import katops, numpy; numpy.save('y.npy', katops.load({str(path)!r}).predict(numpy.load('raw.npy')))"
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), predictor.predict(raw))


def test_predict_takes_and_returns_arrays_tensors_and_named_channels() -> None:
    predictor = make(STEADY)
    raw = torch.randn(3, 2, 8, 12)
    tensor = predictor.predict(raw)
    assert tensor.shape == (3, 1, 8, 12)
    np.testing.assert_array_equal(predictor.predict(raw.numpy()), tensor.numpy())
    named = predictor.predict({"f": raw[:, 1], "a": raw[:, 0]})
    assert list(named) == ["u"]
    torch.testing.assert_close(named["u"], tensor[:, 0])
    torch.testing.assert_close(predictor.predict(raw, batch_size=1), tensor, rtol=1e-5, atol=1e-3)
    assert predictor.predict(raw[:0]).shape == (0, 1, 8, 12)


def test_named_trajectories_keep_their_time_axis() -> None:
    predictor = make(META)
    raw = {name: np.random.default_rng(1).normal(size=(2, 2, 8, 12)) for name in ("density", "pressure")}
    assert predictor.predict(raw)["pressure"].shape == (2, 3, 8, 12)


@pytest.mark.parametrize("shape", [(2, 8, 12), (1, 3, 8, 12), (1, 1, 2, 8), (1, 2, 2, 8, 12)])
def test_a_wrong_shape_is_told_with_the_names_of_the_axes(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        UserError, match=r"expected an input of shape \(batch, time=1, channel=2 \[a, f\], x, y\); given"
    ):
        make(STEADY).predict(np.zeros(shape, np.float32))


@pytest.mark.parametrize("steps_in", [1, 2])
@pytest.mark.parametrize("steps_out", [1, 3])
def test_named_prediction_is_the_stacked_one_taken_apart(steps_in: int, steps_out: int) -> None:
    channels = (Channel("u"), Channel("v"))
    meta = FieldMeta("two", channels, channels, (Axis("x"),), steps_in=steps_in, steps_out=steps_out, time_step=1.0)
    predictor = make(meta)
    raw = torch.randn(4, steps_in, 2, 9)
    stacked = predictor.predict(raw)
    named = predictor.predict({"v": raw[:, :, 1], "u": raw[:, :, 0]})
    for index, name in enumerate(("u", "v")):
        torch.testing.assert_close(named[name], stacked[:, :, index])


def test_a_missing_channel_is_named() -> None:
    with pytest.raises(UserError, match=r"lacks the channels \['f'\]"):
        make(STEADY).predict({"a": np.zeros((1, 8, 8))})


def test_saving_and_loading_keeps_every_bit_and_the_description(tmp_path: Path) -> None:
    predictor = make(META)
    path = save(tmp_path, predictor, mean_target=torch.ones(3, 1, 8, 8), metrics={"relative_l2": 0.01})
    bundle = load(path)
    assert bundle.meta == META
    assert bundle.header["metrics"] == {"relative_l2": 0.01}
    torch.testing.assert_close(bundle.mean_target, torch.ones(3, 1, 8, 8), rtol=0, atol=0)
    for name, value in predictor.state_dict().items():
        assert torch.equal(bundle.predictor.state_dict()[name], value), name


def test_a_model_that_cannot_be_described_is_refused(tmp_path: Path) -> None:
    model = build_model(
        "mgno", meta=STEADY, hidden_channels=4, n_layers=1, schedule=[[1, 0]], act_layer=torch.nn.Softsign
    )
    with pytest.raises(UserError, match="does not say how it was built"):
        save(tmp_path, FieldPredictor(model, Normalizer(STEADY), STEADY))
    assert not list(tmp_path.iterdir())


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("model.pt", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UserError, match=r"reads \.safetensors only"):
            load(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_cut_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = save(tmp_path, make(STEADY))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="is damaged"):
        load(path)


@pytest.mark.parametrize("header", ['{"format_version": 1}', "not json", "[]", '{"format_version": 0}', '{"a": 1}'])
def test_a_damaged_header_is_told_in_one_sentence(tmp_path: Path, header: str) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "model.safetensors", metadata={METADATA_KEY: header})
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load(tmp_path)


def test_missing_weights_are_told_in_one_sentence(tmp_path: Path) -> None:
    path = save(tmp_path, make(STEADY))
    tensors = load_file(path)
    metadata = {METADATA_KEY: json.dumps(load(path).header)}
    del tensors["normalizer.input_mean"]
    save_file(tensors, path, metadata=metadata)
    with pytest.raises(UserError, match="its parts do not belong together"):
        load(path)


def test_a_newer_format_and_a_foreign_file_are_told_apart(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="without a katops header"):
        load(tmp_path / "foreign.safetensors")
    header = {METADATA_KEY: json.dumps({"format_version": 99})}
    save_file({"a": torch.ones(1)}, tmp_path / "newer.safetensors", metadata=header)
    with pytest.raises(UserError, match=r"model file format 99; katops .* update katops"):
        load(tmp_path / "newer.safetensors")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file"):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        load(tmp_path)


def test_a_hub_id_resolves_through_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout of huggingface_hub's cache, filled by hand; the hub itself is never asked."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--darcy"
    predictor = make(STEADY)
    save(repository / "snapshots" / commit, predictor)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    raw = torch.randn(1, 2, 8, 8)
    # What huggingface_hub reads from HF_HUB_CACHE and HF_HUB_OFFLINE when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load("someone/darcy").meta.name == "steady"
    assert torch.equal(load("someone/darcy").predict(raw), predictor.predict(raw))
    assert torch.equal(load(repository / "snapshots" / commit).predict(raw), predictor.predict(raw))


# Written by the version that introduced the format, with ``make(STEADY)``; never to be written again.
GOLDEN = sorted((Path(__file__).parent / "golden").glob("model_v*.safetensors"))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_model_file_of_every_past_format_still_predicts_the_same(path: Path) -> None:
    reference = load_file(path.with_name(path.stem.replace("model", "prediction") + ".safetensors"))
    torch.testing.assert_close(katops.load(path).predict(reference["input"]), reference["output"])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_model_file_that_does_not_say_what_it_was_trained_on_reads_files(path: Path, tmp_path: Path) -> None:
    model, rng = katops.load(path), np.random.default_rng(3)
    assert "data" not in model.header
    fields = {
        channel.name: rng.normal(size=(5, 12, 20)).astype("f4") for channel in (*model.meta.inputs, *model.meta.outputs)
    }
    with h5py.File(tmp_path / "fields.h5", "w", track_order=True) as file:
        file.attrs.update(format="katops", format_version=1, name="steady", complete=True)
        for position, (axis, size) in enumerate(zip("xy", (12, 20), strict=True)):
            points = file.create_dataset(f"axes/{axis}", data=(np.arange(size) + 0.5) / size)
            points.attrs.update(position=position, grid="cell_centres", lower=0.0, upper=1.0)
            points.attrs["boundary"] = ["dirichlet", "dirichlet"]
        for name, values in fields.items():
            file[f"fields/{name}"] = values
            file[f"fields/{name}"].attrs["role"] = "output" if name in [c.name for c in model.meta.outputs] else "input"
    assert len(api.evaluate(path, tmp_path / "fields.h5").indices) == 5
    output = api.predict(path, tmp_path / "fields.h5", tmp_path / "predicted.h5")
    expected = model.predict({channel.name: fields[channel.name] for channel in model.meta.inputs})
    with h5py.File(output) as file:
        for name, values in expected.items():
            np.testing.assert_allclose(file[f"fields/{name}"], values, rtol=1e-5, atol=1e-6)


def test_there_is_a_golden_file_for_every_format() -> None:
    from katops.bundle import FORMAT_VERSION

    assert [path.stem for path in GOLDEN] == [f"model_v{version}" for version in range(1, FORMAT_VERSION + 1)]


def test_bare_model_is_refused_with_what_is_missing(tmp_path):
    model = build_model("kat_tiny", img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    with pytest.raises(UserError, match="needs what is around the model too"):
        save(tmp_path, model)


def image_predictor():
    model = build_model("kat_tiny", img_size=16, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=2)
    return ImagePredictor(model, Preprocessing((3, 16, 16), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0), ["a", "b"])


def test_model_that_its_recipe_no_longer_builds_is_not_written(tmp_path):
    predictor = image_predictor()
    predictor.model.prune_intermediate_layers([0])
    with pytest.raises(UserError, match="no longer the model that its recipe builds"):
        save(tmp_path, predictor)
    assert not list(tmp_path.iterdir())


def test_saving_draws_no_random_numbers(tmp_path):
    predictor = image_predictor()
    before = torch.get_rng_state()
    save(tmp_path, predictor)
    assert torch.equal(torch.get_rng_state(), before)


def test_image_model_says_that_it_has_no_fields(tmp_path):
    bundle = load(save(tmp_path, image_predictor()))
    with pytest.raises(UserError, match="works on images and has no fields"):
        _ = bundle.meta


def test_mistyped_run_beside_others_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    save(tmp_path / "runs" / "kat_digits", image_predictor())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="file 'runs/kat_digit'; did you mean 'runs/kat_digits'"):
        load("runs/kat_digit")
