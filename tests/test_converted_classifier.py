"""``convert`` among the options of a classifier: an existing model with its weights becomes a KAT and can be saved."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from timm.models import PretrainedCfg

import katops
from katops.bundle import save
from katops.data.preprocessing import Preprocessing
from katops.errors import UserError
from katops.layers import GroupRational
from katops.predictors import ImagePredictor
from katops.predictors.classifiers import build_classifier

VIT = {"patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
SIZE = (3, 8, 8)


def rationals(model):
    return [name for name, module in model.named_modules() if isinstance(module, GroupRational)]


def test_converted_classifier_keeps_the_weights_it_was_given(tmp_path):
    original = timm.create_model("vit_tiny_patch16_224", **VIT, img_size=8, num_classes=3)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    options = {**VIT, "checkpoint_path": str(tmp_path / "weights.pth"), "convert": True}
    model = build_classifier("vit_tiny_patch16_224", options, 3, SIZE)
    assert len(rationals(model)) == 4
    images = torch.randn(4, *SIZE)
    difference = (model.eval()(images) - original.eval()(images)).norm()
    assert difference < 0.02 * original(images).norm()


@pytest.mark.parametrize("convert", [True, {"groups": 4, "include": "blocks.1.mlp"}])
def test_model_file_of_a_converted_classifier_gives_the_same_answers(tmp_path, convert):
    model = build_classifier("vit_tiny_patch16_224", {**VIT, "convert": convert}, 3, SIZE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    preprocessing = Preprocessing(SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    predictor = ImagePredictor(model, preprocessing, ["a", "b", "c"]).eval()
    save(tmp_path, predictor)
    images = torch.rand(2, *SIZE)
    loaded = katops.load(tmp_path)
    assert rationals(loaded.model) == rationals(model)
    torch.testing.assert_close(loaded.predict(images), predictor.predict(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "convert", "message"),
    [
        ("vit_tiny_patch16_224", {"group": 4}, "unknown option 'group' of convert; did you mean 'groups'"),
        ("kat_tiny", True, "the model has rational functions already"),
    ],
)
def test_wrong_conversions_are_told(name, convert, message):
    with pytest.raises(UserError, match=message):
        build_classifier(name, {**VIT, "convert": convert}, 3, SIZE)


def outlying(model):
    """Some hidden channels always see a large input, as those of trained ViTs do."""
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc1.bias[::10] = 40
    return model


def test_sample_brings_a_converted_classifier_closer_to_the_weights_it_was_given(tmp_path):
    original = outlying(timm.create_model("vit_tiny_patch16_224", **VIT, img_size=8, num_classes=3)).eval()
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    options = {**VIT, "checkpoint_path": str(tmp_path / "weights.pth"), "convert": True}
    images, unseen = torch.randn(2, 16, *SIZE)
    with torch.no_grad():
        fitted, general = (
            (
                build_classifier("vit_tiny_patch16_224", options, 3, SIZE, sample).eval()(unseen) - original(unseen)
            ).norm()
            for sample in (images, None)
        )
    assert 3 * fitted < general
    assert fitted < 0.01 * original(unseen).norm()


def test_model_converted_after_building_can_be_saved_too(tmp_path):
    built = build_classifier("vit_tiny_patch16_224", VIT, 3, SIZE)
    preprocessing = Preprocessing(SIZE, (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    images = torch.rand(2, *SIZE)
    converted = katops.convert(built, groups=4, exclude="blocks.0.mlp", sample=images)
    predictor = ImagePredictor(converted, preprocessing, ["a", "b", "c"]).eval()
    save(tmp_path, predictor)
    loaded = katops.load(tmp_path)
    assert rationals(loaded.model) == rationals(converted)
    torch.testing.assert_close(loaded.predict(images), predictor.predict(images), rtol=0, atol=0)


# files with weights


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def from_file(key, path, **entries):
    """Options that load a file in one of the three ways."""
    if key == "checkpoint_path":
        return {**VIT, key: str(path)}
    return {**VIT, "pretrained": True, key: {"file": str(path), "num_classes": 3, **entries}}


WAYS = ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "kat_tiny"])
@pytest.mark.parametrize("key", WAYS)
@pytest.mark.parametrize("file", ["bomb.pth", "bomb.npz"])
def test_pickled_code_in_a_file_of_weights_is_never_run(tmp_path, name, key, file):
    path = tmp_path / file
    path.write_bytes(pickle.dumps({"state_dict": Bomb(tmp_path / "exploded")}))
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    with pytest.raises(UserError):
        build_classifier(name, from_file(key, path), 3, SIZE)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("key", WAYS)
def test_files_of_weights_are_read_here_and_not_by_timm(tmp_path, key, monkeypatch):
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    # What older versions of timm do.
    unsafe = lambda path, *_, **__: torch.load(path, weights_only=False)  # noqa: E731
    monkeypatch.setattr("timm.models._helpers.load_state_dict", unsafe)
    monkeypatch.setattr("timm.models._builder.load_state_dict", unsafe)
    with pytest.raises(UserError, match="holds more than tensors, and pickled code is never run"):
        build_classifier("vit_tiny_patch16_224", from_file(key, tmp_path / "bomb.pth"), 3, SIZE)
    assert not (tmp_path / "exploded").exists()


def test_file_in_a_configuration_object_of_timm_is_read_here_too(tmp_path):
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    options = {**VIT, "pretrained": True, "pretrained_cfg": PretrainedCfg(file=str(tmp_path / "bomb.pth"))}
    with pytest.raises(UserError, match="holds more than tensors, and pickled code is never run"):
        build_classifier("vit_tiny_patch16_224", options, 3, SIZE)


@pytest.mark.parametrize("key", WAYS[1:])
def test_folder_of_weights_is_read_here_and_not_by_timm(tmp_path, key):
    torch.save({"state_dict": Bomb(tmp_path / "exploded")}, tmp_path / "bomb.pth")
    with pytest.raises(UserError, match="holds more than tensors, and pickled code is never run"):
        build_classifier("vit_tiny_patch16_224", from_file(key, tmp_path, source="local-dir"), 3, SIZE)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "kat_tiny"])
@pytest.mark.parametrize("key", WAYS)
def test_weights_of_a_file_are_loaded_and_not_kept_a_second_time(tmp_path, name, key):
    original = timm.create_model(name, **VIT, img_size=8, num_classes=3)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    model = build_classifier(name, from_file(key, tmp_path / "weights.pth"), 3, SIZE)
    for entry, value in original.state_dict().items():
        torch.testing.assert_close(model.state_dict()[entry], value, rtol=0, atol=0)
    assert "state_dict" not in model.pretrained_cfg
    assert "state_dict" not in model.default_cfg
    assert set(model.recipe["arguments"]).isdisjoint(WAYS)


@pytest.mark.parametrize("key", WAYS)
def test_missing_file_of_weights_is_named(tmp_path, key):
    with pytest.raises(UserError, match=rf"{key}.*there is no file '.*nope\.pth'"):
        build_classifier("vit_tiny_patch16_224", from_file(key, tmp_path / "nope.pth"), 3, SIZE)
    with pytest.raises(UserError, match="there is no file 'weights/nope'"):
        build_classifier("vit_tiny_patch16_224", from_file(key, "weights/nope"), 3, SIZE)


def test_checkpoint_of_another_model_is_told(tmp_path):
    original = timm.create_model("vit_tiny_patch16_224", **{**VIT, "depth": 1}, img_size=8, num_classes=3)
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(UserError, match=r"weights\.pth do not fit vit_tiny_patch16_224 with these options: "):
        build_classifier("vit_tiny_patch16_224", from_file("checkpoint_path", tmp_path / "weights.pth"), 3, SIZE)


@pytest.mark.parametrize("name", ["kat_tiny", "vit_tiny_patch16_224"])
def test_head_of_a_pretrained_file_is_kept_where_the_classes_agree(tmp_path, name):
    original = timm.create_model(name, **VIT, img_size=8, num_classes=3)
    torch.save(original.state_dict(), tmp_path / "tuned.pth")
    options = {**VIT, "pretrained": True, "pretrained_cfg_overlay": {"file": str(tmp_path / "tuned.pth")}}
    model = build_classifier(name, options, 3, SIZE)
    torch.testing.assert_close(model.head.weight, original.head.weight, rtol=0, atol=0)
