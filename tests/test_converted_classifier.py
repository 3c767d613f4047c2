"""``convert`` among the options of a classifier: an existing model with its weights becomes a KAT and can be saved."""

import pytest
import timm
import torch

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
