"""Raw images in, class probabilities out; and the model file that does it alone."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

import katops
from katops.bundle import METADATA_KEY, save
from katops.data.preprocessing import Preprocessing
from katops.errors import UserError
from katops.predictors import ImagePredictor
from katops.predictors.classifiers import build_classifier, resolve_preprocessing

VIT = {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}


def make(name: str = "vit_tiny_patch16_224", classes: int = 3, channels: int = 3) -> ImagePredictor:
    size = (channels, 8, 8)
    model = build_classifier(name, VIT, classes, size)
    preprocessing = Preprocessing(size, (0.4,) * channels, (0.2,) * channels, "bilinear", 1.0)
    return ImagePredictor(model, preprocessing, [f"class {number}" for number in range(classes)]).eval()


def picture(seed: int = 0, size: tuple[int, ...] = (8, 8, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def test_prediction_is_softmax_of_the_model_on_the_normalised_image() -> None:
    predictor, array = make(), picture()
    normalised = (torch.from_numpy(array).permute(2, 0, 1)[None] / 255 - 0.4) / 0.2
    with torch.no_grad():
        expected = predictor.model(normalised).softmax(-1)
    torch.testing.assert_close(predictor.predict(array), expected)
    assert predictor.labels(array) == [predictor.classes[int(expected.argmax())]]


def test_every_kind_of_input_gives_the_same_probabilities(tmp_path: Path) -> None:
    predictor = make()
    arrays = np.stack([picture(seed) for seed in range(3)])
    images = [Image.fromarray(array) for array in arrays]
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    tensor = torch.from_numpy(arrays).permute(0, 3, 1, 2) / 255
    expected = predictor.predict(arrays)
    assert expected.shape == (3, 3)
    torch.testing.assert_close(expected.sum(-1), torch.ones(3))
    for given in (images, paths, [str(path) for path in paths], list(arrays), tensor):
        torch.testing.assert_close(predictor.predict(given), expected)
    torch.testing.assert_close(predictor.predict(paths, batch_size=1), expected)
    torch.testing.assert_close(predictor.predict(images[1]), expected[1:2])
    assert predictor.predict([]).shape == (0, 3)


def test_images_of_other_sizes_and_colours_are_converted() -> None:
    grey, colour = make(channels=1), make()
    assert grey.predict(picture(size=(30, 20, 3))).shape == (1, 3)
    assert colour.predict(picture(size=(8, 8))).shape == (1, 3)
    assert colour.predict(torch.rand(2, 3, 17, 23)).shape == (2, 3)
    torch.testing.assert_close(grey.predict(picture(size=(8, 8, 1))[..., 0]), grey.predict(picture(size=(8, 8, 1))))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((8, 8, 3), np.float32), r"must be uint8 of shape \(H, W\), .*given: float32 \(8, 8, 3\)"),
        (np.zeros((4, 8, 8), np.uint8), r"1 or 3 channels; given: uint8 \(4, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8), r"\(batch, channel=3, height, width\); given: float32 \(1, 1, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "must be floating point"),
        (torch.full((1, 3, 8, 8), 200.0), r"values in \[0, 1\]; given: 200 to 200; divide by 255"),
        (torch.full((1, 3, 8, 8), float("nan")), r"values in \[0, 1\]"),
        ({"image": 1}, "cannot take a dict as images; allowed: PIL images, paths"),
        ([1, 2], "cannot take a list of int as images"),
        ("nothing.png", "there is no image 'nothing.png'"),
    ],
)
def test_a_wrong_input_is_told_what_is_allowed(given: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make().predict(given)


def test_a_16_bit_image_is_predicted_like_its_8_bit_version(tmp_path: Path) -> None:
    predictor, grey = make(), picture(size=(8, 8))
    wide = Image.fromarray(grey.astype(np.uint16) * 257)
    wide.save(tmp_path / "wide.png")
    expected = predictor.predict(grey)
    torch.testing.assert_close(predictor.predict(wide), expected)
    torch.testing.assert_close(predictor.predict(tmp_path / "wide.png"), expected)


@pytest.mark.parametrize(("dtype", "kind"), [(np.float32, "floating point"), (np.int32, "32-bit integer")])
def test_values_of_unknown_range_are_refused_by_name(tmp_path: Path, dtype: type, kind: str) -> None:
    image = Image.fromarray(picture(size=(8, 9)).astype(dtype))
    image.save(tmp_path / "deep.tif")
    with pytest.raises(UserError, match=f"of 9 x 8 pixels: its values are {kind} .*save it with 8 or 16 bits"):
        make().predict(image)
    with pytest.raises(UserError, match=rf"deep\.tif': its values are {kind}"):
        make().predict(tmp_path / "deep.tif")


def test_a_folder_is_predicted_without_hidden_files_and_what_is_not_read_is_named(
    tmp_path: Path, image_folder: Path
) -> None:
    save(tmp_path, make())
    cat = image_folder / "val" / "cat"
    (cat / "._0.png").write_bytes(b"resource fork")
    (cat / ".thumbnails").mkdir()
    for name in (".thumbnails/0.png", "4.heic"):
        (cat / name).write_bytes((cat / "0.png").read_bytes())
    Image.open(cat / "1.png").save(cat / "5.webp")
    console = Console(record=True, width=200)
    output = katops.predict(katops.load(tmp_path), image_folder / "val", tmp_path / "out.csv", console=console)
    with output.open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    assert len(names) == 13
    assert "cat/5.webp" in names
    said = console.export_text()
    assert "1 file looks like an image and is not read" in said
    assert "cat/4.heic" in said
    assert "._0.png" not in said


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "kat_tiny"])
def test_a_model_file_predicts_the_same_alone(tmp_path: Path, name: str) -> None:
    predictor = make(name)
    save(tmp_path, predictor, metrics={"test": {"accuracy": 0.5}})
    bundle = katops.load(tmp_path)
    assert bundle.header["kind"] == "images"
    assert bundle.header["metrics"] == {"test": {"accuracy": 0.5}}
    assert bundle.predictor.preprocessing == predictor.preprocessing
    assert bundle.model.recipe == predictor.model.recipe
    torch.testing.assert_close(bundle.predict(picture()), predictor.predict(picture()), rtol=0, atol=0)
    assert bundle.labels(picture()) == predictor.labels(picture())


def test_a_model_of_an_unknown_kind_asks_for_an_update(tmp_path: Path) -> None:
    path = save(tmp_path, make())
    header = json.dumps({**katops.load(path).header, "kind": "sounds"})
    save_file(load_file(path), path, metadata={METADATA_KEY: header})
    with pytest.raises(UserError, match="kind 'sounds' is not known"):
        katops.load(tmp_path)


def test_many_classes_are_given_as_the_five_most_probable(tmp_path: Path, image_folder: Path) -> None:
    save(tmp_path, make(classes=30))
    bundle = katops.load(tmp_path)
    output = katops.predict(bundle, image_folder / "val", tmp_path / "out.csv", console=Console(quiet=True))
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ["file", "label", "probability", "label_2", "probability_2"]
    probabilities = bundle.predict(image_folder / "val" / rows[0]["file"])[0]
    best = probabilities.argsort(descending=True)[:5].tolist()
    found = [rows[0][key] for key in ("label", "label_2", "label_3", "label_4", "label_5")]
    assert found == [bundle.predictor.classes[index] for index in best]


def test_preprocessing_comes_from_the_configuration_then_the_data_then_the_model() -> None:
    from_model = resolve_preprocessing("resnet18", {}, None)
    assert (from_model.input_size, from_model.crop_pct) == ((3, 224, 224), 0.95)
    from_data = resolve_preprocessing("resnet18", {}, (1, 8, 8))
    assert (from_data.input_size, from_data.crop_pct, len(from_data.mean)) == ((1, 8, 8), 1.0, 1)
    from_options = resolve_preprocessing("vit_tiny_patch16_224", {"img_size": 32, "in_chans": 1}, None)
    assert from_options.input_size == (1, 32, 32)
    stated = resolve_preprocessing("resnet18", {}, (1, 8, 8), input_size=[3, 16, 16], mean=[0.5], crop_pct=0.5)
    assert (stated.input_size, stated.mean, stated.crop_pct) == ((3, 16, 16), (0.5, 0.5, 0.5), 0.5)


def test_predictions_for_images_are_not_written_under_a_name_for_hdf5(tmp_path: Path, image_folder: Path) -> None:
    save(tmp_path, make())
    with pytest.raises(UserError, match=r"a table, not HDF5; give a name such as 'out\.csv'"):
        katops.predict(katops.load(tmp_path), image_folder / "val", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()
