"""Which trainings a configuration stands for, and that the shipped ones mean what they say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rich.console import Console

from katops.config import ImageRunConfig, load_config, parse_config
from katops.predictors.classifiers import build_classifier, resolve_preprocessing
from katops.training.conversion import conversion_sample
from katops.training.image_data import open_image_data
from katops.training.image_optim import check_optimizer
from katops.training.trials import plan_trials, run_trial


def shipped(repository: Path, name: str) -> ImageRunConfig:
    return load_config(repository / "configs" / name)


def test_models_of_one_name_and_their_seeds_are_told_apart(image_values: dict) -> None:
    deeper = {**image_values["model"], "depth": 2}
    trials = plan_trials(parse_config({**image_values, "seed": 5, "compare": [deeper, "resnet18"], "repeats": 2}))
    assert [trial.folder.name for trial in trials] == [
        "vit_tiny_patch16_224-seed5",
        "vit_tiny_patch16_224-seed6",
        "vit_tiny_patch16_224-2-seed5",
        "vit_tiny_patch16_224-2-seed6",
        "resnet18-seed5",
        "resnet18-seed6",
    ]
    assert trials[2].model.options["depth"] == 2


def test_the_digits_configuration_compares_models_of_the_same_size(repository: Path) -> None:
    config = shipped(repository, "kat_digits.yaml")
    models = [build_classifier(model.name, model.options, 10, (1, 8, 8)) for model in (config.model, *config.compare)]
    ours, theirs = (sum(parameter.numel() for parameter in model.parameters()) for model in models)
    assert ours == pytest.approx(theirs, rel=0.01)
    assert config.repeats == 3


def test_the_imagenet_configuration_is_the_published_recipe(repository: Path) -> None:
    config = shipped(repository, "kat_small_imagenet.yaml")
    check_optimizer(config.train)
    train, data = config.train, config.data
    assert train.batch_size * train.accumulate == 8 * 128
    assert (train.optimizer, train.learning_rate, train.weight_decay, train.epochs) == ("adamw", 1e-3, 0.05, 300)
    assert (train.mixup, train.cutmix, train.label_smoothing, train.ema_decay) == (0.8, 1.0, 0.1, 0.9999)
    preprocessing = resolve_preprocessing(
        config.model.name, config.model.options, None, mean=data.mean, std=data.std, crop_pct=data.crop_pct
    )
    assert preprocessing.input_size == (3, 224, 224)
    steps = preprocessing.training(data.augmentation.model_dump()).transforms
    assert [type(step).__name__ for step in steps] == [
        "RandomResizedCropAndInterpolation",
        "RandomHorizontalFlip",
        "RandAugment",
        "MaybeToTensor",
        "Normalize",
        "RandomErasing",
    ]


@pytest.mark.parametrize("scale", [1, 1e4])
def test_conversion_is_fitted_to_training_images_reported_and_kept(
    image_values: dict, tmp_path: Path, scale: float
) -> None:
    tiny = {key: value for key, value in image_values["model"].items() if key != "name"}
    original = timm.create_model("vit_tiny_patch16_224", **tiny, img_size=8, num_classes=3)
    with torch.no_grad():  # a channel without effect, so large that no rational function does justice to the others too
        mlp = original.blocks[0].mlp
        mlp.fc1.weight[0] *= scale
        mlp.fc2.weight *= 20
        mlp.fc2.weight[:, 0] = 0
    torch.save(original.state_dict(), tmp_path / "weights.pth")
    weights = {"checkpoint_path": str(tmp_path / "weights.pth"), "convert": True}
    image_values |= {"model": {**image_values["model"], **weights}}
    image_values["train"] |= {"epochs": 1, "warmup_epochs": 0}
    config, console = parse_config(image_values), Console(record=True, width=300)
    data = open_image_data(config.data)
    preprocessing = resolve_preprocessing(config.model.name, config.model.options, None, input_size=[3, 8, 8])
    (trial,) = plan_trials(config)
    bundle = run_trial(config, trial, data, preprocessing, resume=False, console=console, progress=False)
    report, told = bundle.header["conversion"], console.export_text()
    difference = report["difference"]
    assert (report["blocks"], report["sampled"], difference["measured_on"]) == (1, True, "24 training images")
    assert difference["absolute"] > 0
    assert report["activations"][0]["input_range"][1] > scale / 100
    assert f"converted 1 block; outputs differ by {100 * difference['relative']:.2g} % on 24 training images" in told
    assert ("warning" in told) == (difference["relative"] > 0.01) == (scale > 1)


def test_images_for_a_conversion_come_from_all_classes(image_values: dict) -> None:
    data = open_image_data(parse_config({**image_values, "train": {}}).data)
    preprocessing = resolve_preprocessing("vit_tiny_patch16_224", {}, None, input_size=[3, 8, 8])
    few = replace(data.train, indices=np.repeat(data.train.indices, 10))
    images = conversion_sample(few, preprocessing)
    assert images.shape == (32, 3, 8, 8)
    assert len(images.unique(dim=0)) == 24
