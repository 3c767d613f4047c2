"""timm's parameter groups, optimisers and schedules as the configuration asks for them; the loss of an image task."""

import math

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

import katops.models  # noqa: F401 - registers the models
from katops.config import ImageTrainConfig
from katops.data.image_loader import ImageBatch
from katops.training.image_optim import build_optimizer, build_schedule, parameter_groups
from katops.training.image_task import ImageTask

SMALL = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}


def kat() -> nn.Module:
    return timm.create_model("kat_tiny", **SMALL)


def group_of(model: nn.Module, groups: list[dict]) -> dict[str, dict]:
    """Group of each parameter, by name; each is in exactly one."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    placed = [(names[id(parameter)], group) for group in groups for parameter in group["params"]]
    assert len(placed) == len(dict(placed)) == len(names)
    return dict(placed)


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_rational_coefficients_biases_norms_and_tokens_take_no_weight_decay(layer_decay: float | None) -> None:
    model = kat()
    groups = group_of(model, parameter_groups(model, 0.05, layer_decay))
    free = {name for name, group in groups.items() if group["weight_decay"] == 0.0}
    coefficients = {name for name in groups if name.endswith(("weight_numerator", "weight_denominator"))}
    assert len(coefficients) == 2 * 2 * SMALL["depth"]
    assert coefficients | {"cls_token", "pos_embed"} <= free
    assert {name for name in groups if name.endswith("bias") or "norm" in name} <= free
    assert {name for name in groups if name.endswith((".weight",)) and "norm" not in name}.isdisjoint(free)


def test_layer_decay_multiplies_the_rate_by_the_layers_above() -> None:
    model = kat()
    groups = group_of(model, parameter_groups(model, 0.05, 0.5))
    scale = {name: group["lr_scale"] for name, group in groups.items()}
    assert scale["head.weight"] == 1.0
    assert scale["blocks.1.mlp.act1.weight_numerator"] == scale["blocks.1.attn.qkv.weight"]
    assert scale["blocks.0.attn.qkv.weight"] == 0.5 * scale["blocks.1.attn.qkv.weight"]
    assert scale["patch_embed.proj.weight"] == 0.5 * scale["blocks.0.attn.qkv.weight"]


def rates(config: ImageTrainConfig, steps_per_epoch: int, model: nn.Module | None = None) -> list[list[float]]:
    """Learning rates of the groups, before each optimiser step."""
    optimizer = build_optimizer(model or nn.Linear(2, 2), config)
    schedule = build_schedule(optimizer, config, steps_per_epoch)
    rows = []
    for step in range(1, config.epochs * steps_per_epoch + 1):
        rows.append([group["lr"] for group in optimizer.param_groups])
        schedule.step_update(step)
    return rows


def test_the_rate_rises_linearly_and_falls_along_half_a_cosine() -> None:
    config = ImageTrainConfig(
        epochs=10, warmup_epochs=2, learning_rate=0.1, warmup_learning_rate=0.01, min_learning_rate=0.001
    )
    for step, (rate, *_) in enumerate(rates(config, 5)):
        if step < 10:
            expected = 0.01 + (0.1 - 0.01) * step / 10
        else:
            expected = 0.001 + 0.5 * (0.1 - 0.001) * (1 + math.cos(math.pi * step / 50))
        assert rate == pytest.approx(expected)


def test_a_constant_rate_stays_after_the_warm_up() -> None:
    config = ImageTrainConfig(
        epochs=6, warmup_epochs=1, learning_rate=0.1, warmup_learning_rate=0.0, schedule="constant"
    )
    found = [rate for rate, *_ in rates(config, 4)]
    assert found[:4] == pytest.approx([0.0, 0.025, 0.05, 0.075])
    assert found[4:] == pytest.approx([0.1] * 20)


def test_the_schedule_keeps_the_scale_of_each_layer() -> None:
    model = kat()
    config = ImageTrainConfig(epochs=4, warmup_epochs=1, layer_decay=0.5)
    scales = [group["lr_scale"] for group in build_optimizer(model, config).param_groups]
    for row in rates(config, 3, model):
        assert [rate / scale for rate, scale in zip(row, scales, strict=True)] == pytest.approx([row[-1]] * len(row))


def task(**train: object) -> ImageTask:
    config = ImageTrainConfig(**train)
    made = ImageTask(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), 3, config, 1, ["a", "b", "c", "d"], "")
    made.log = lambda *_, **__: None
    return made


BATCH = ImageBatch(torch.randn(4, 3, 2, 2), torch.tensor([0, 2, 1, 2]), torch.arange(4))


def test_the_loss_is_cross_entropy_with_smoothed_labels() -> None:
    made = task(label_smoothing=0.2)
    target = functional.one_hot(BATCH.labels, 3) * 0.8 + 0.2 / 3
    expected = -(target * made.model(BATCH.images).log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(made.training_step(BATCH, 0), expected)


def test_mixed_images_have_mixed_labels_in_the_same_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    made = task(label_smoothing=0.0, mixup=1.0)
    monkeypatch.setattr(made.mixup, "_params_per_batch", lambda: (0.25, False))
    labels = functional.one_hot(BATCH.labels, 3).float()
    images = 0.25 * BATCH.images + 0.75 * BATCH.images.flip(0)
    target = 0.25 * labels + 0.75 * labels.flip(0)
    expected = -(target * made.model(images).log_softmax(-1)).sum(-1).mean()
    given = ImageBatch(BATCH.images.clone(), BATCH.labels, BATCH.index)
    torch.testing.assert_close(made.training_step(given, 0), expected)
