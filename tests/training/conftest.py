"""Configurations of image runs that train in about a second."""

from pathlib import Path

import pytest

TINY_VIT = {"name": "vit_tiny_patch16_224", "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
TINY_RESNET = {"name": "resnet10t", "stem_type": "", "stem_width": 8, "channels": [16, 16, 16, 16]}


@pytest.fixture
def image_values(image_folder: Path, tmp_path: Path) -> dict:
    """A small ViT on a folder of 24 training and 12 validation images."""
    return {
        "task": "image_classification",
        "name": "stripes",
        "output": str(tmp_path / "run"),
        "data": {
            "root": str(image_folder),
            "validation_split": "val",
            "input_size": [3, 8, 8],
            "augmentation": {"scale": [0.8, 1.0], "hflip": 0.5, "color_jitter": 0.1, "random_erasing": 0.25},
        },
        "model": TINY_VIT,
        "train": {"epochs": 4, "warmup_epochs": 1, "batch_size": 8, "learning_rate": 1e-2},
    }


@pytest.fixture(scope="session")
def digits() -> dict:
    """A small residual network on the digits, with a test part; without a folder to write to."""
    return {
        "task": "image_classification",
        "name": "digits",
        "data": {
            "dataset": "digits",
            "validation_split": 0.2,
            "test_split": 0.2,
            "mean": [0.5],
            "std": [0.5],
            "augmentation": None,
        },
        "model": TINY_RESNET,
        "train": {"epochs": 3, "warmup_epochs": 1, "batch_size": 32, "learning_rate": 1e-2},
    }
