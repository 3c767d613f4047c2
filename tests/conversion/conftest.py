"""Fixtures for the tests of conversion."""

from collections.abc import Callable

import pytest
import timm
from torch import Tensor, nn

from katops.layers.group_rational import GroupRational


@pytest.fixture(scope="session")
def build_vit() -> Callable[..., nn.Module]:
    """A function that builds a small ViT of timm for images of 32 x 32, with other options where they are given."""

    def build(**options: object) -> nn.Module:
        small = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
        return timm.create_model("vit_tiny_patch16_224", **{**small, **options})

    return build


@pytest.fixture(scope="session")
def rationals_of() -> Callable[[nn.Module], list[GroupRational]]:
    """All rational functions of a model."""
    return lambda model: [module for module in model.modules() if isinstance(module, GroupRational)]


@pytest.fixture(scope="session")
def relative_difference() -> Callable[[Tensor, Tensor], float]:
    """||new - old|| / ||old||."""
    return lambda new, old: ((new - old).norm() / old.norm()).item()
