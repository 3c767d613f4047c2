"""Which trainings a configuration stands for, and that the shipped ones mean what they say."""

from pathlib import Path

import pytest

from katops.config import ImageRunConfig, load_config, parse_config
from katops.predictors.classifiers import build_classifier, resolve_preprocessing
from katops.training.image_optim import check_optimizer
from katops.training.trials import plan_trials


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
