"""KAT: vision transformers whose MLPs are group-rational KAN layers (Yang & Wang 2024, arXiv 2409.10594).

timm's ``VisionTransformer`` with :class:`katops.layers.group_rational.GroupRationalKAN` in its ``mlp_layer`` slot. The
weights have the names of the published checkpoints (repository Adamdad/kat; adamdad/kat_* on the Hugging Face hub).
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch.fx
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import VisionTransformer, generate_default_cfgs
from torch import Tensor, nn

from katops.errors import UserError, did_you_mean
from katops.layers.group_rational import GroupRational, GroupRationalKAN
from katops.models.image_builder import create_image_model, register_image_model
from katops.models.kat_published import load_published
from katops.models.mimetic import initialise_mimetic

PAPER = "arXiv:2409.10594"


WEIGHT_INITS = ("", "skip", "reset", "jax", "jax_nlhb", "moco", "mimetic")


def _check_images(x: Tensor, channels: int) -> None:
    if x.ndim != 4 or x.shape[1] != channels:
        raise UserError(f"KAT: expected (batch, channel={channels}, height, width), got {tuple(x.shape)}")


# A check on values is no part of a symbolic trace: feature extractors of timm and torchvision keep the call as it is.
torch.fx.wrap("_check_images")


class KAT(VisionTransformer):
    """Kolmogorov-Arnold transformer: images (batch, channel, height, width) -> logits (batch, classes).

    Args:
        groups: groups of channels that share a rational function; must divide the width and the hidden width.
        shape: initial shape of the second rational function of each block, a name from
            :mod:`katops.ops.rational_shapes`, ``silu`` as published; the first one starts as the identity.
        shared_numerator: one numerator for all groups of a layer, as published, or one per group.
        mlp_layer: another channel mixer in place of the group-rational KAN layer.
        weight_init: timm's names, or ``mimetic`` for attention that starts as published, see
            :func:`katops.models.mimetic.initialise_mimetic`.
        options: everything that timm's ``VisionTransformer`` takes, except ``act_layer``.

    Raises:
        UserError: ``act_layer`` is given, or the groups do not divide a width.
    """

    def __init__(
        self,
        *,
        groups: int = 8,
        shape: str = "silu",
        shared_numerator: bool = True,
        mlp_layer: Callable[..., nn.Module] | None = None,
        weight_init: str = "",
        **options: Any,
    ) -> None:
        if options.get("act_layer") is not None and mlp_layer is None:
            raise UserError("KAT: the activation is learned, act_layer has no effect; give its initial shape as shape=")
        if weight_init not in WEIGHT_INITS:
            guess = did_you_mean(weight_init, WEIGHT_INITS)
            raise UserError(f"KAT: unknown weight_init {weight_init!r}{guess} Allowed: {WEIGHT_INITS}.")
        rational = partial(GroupRationalKAN, groups=groups, shape=shape, shared_numerator=shared_numerator)
        mixer = rational if mlp_layer is None else partial(_with_accepted, mlp_layer)
        mimetic = weight_init == "mimetic"
        super().__init__(mlp_layer=mixer, weight_init="" if mimetic else weight_init, **options)
        if mimetic:
            for block in self.blocks:
                initialise_mimetic(block.attn)

    def forward_features(self, x: Tensor, *arguments: Any, **options: Any) -> Tensor:
        """Tokens (batch, length, channel) before pooling; see timm's ``VisionTransformer``.

        Raises:
            UserError: x is no (batch, channel, height, width) with the model's number of channels.
        """
        _check_images(x, self.in_chans)
        return super().forward_features(x, *arguments, **options)

    def forward_intermediates(self, x: Tensor, *arguments: Any, **options: Any) -> Any:
        """Maps after chosen blocks; see timm's ``VisionTransformer``.

        Raises:
            UserError: x is no (batch, channel, height, width) with the model's number of channels.
        """
        _check_images(x, self.in_chans)
        return super().forward_intermediates(x, *arguments, **options)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay would pull towards a value without meaning."""
        rationals = [name for name, module in self.named_modules() if isinstance(module, GroupRational)]
        coefficients = ("weight_numerator", "weight_denominator")
        return super().no_weight_decay() | {f"{name}.{part}" for name in rationals for part in coefficients}

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head; the recipe follows, so that the model can still be saved."""
        super().reset_classifier(num_classes, global_pool)
        self._changed(num_classes=num_classes, **({} if global_pool is None else {"global_pool": global_pool}))

    def set_input_size(self, img_size: Any = None, patch_size: Any = None) -> None:
        """Position embeddings and patches for another size; the recipe follows here too."""
        super().set_input_size(img_size, patch_size)
        given = {"img_size": img_size, "patch_size": patch_size}
        self._changed(**{key: value for key, value in given.items() if value is not None})

    def _changed(self, **arguments: Any) -> None:
        recipe = getattr(self, "recipe", None)
        if recipe is not None:
            self.recipe = {**recipe, "arguments": {**recipe["arguments"], **arguments}}


def _with_accepted(layer: Callable[..., nn.Module], in_features: int, **offered: Any) -> nn.Module:
    """A channel mixer called with those of timm's arguments that it has parameters for."""
    parameters = inspect.signature(layer).parameters
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        offered = {name: value for name, value in offered.items() if name in parameters}
    return layer(in_features=in_features, out_features=in_features, **offered)


def _cfg(repository: str) -> dict[str, Any]:
    return {
        "hf_hub_id": f"adamdad/{repository}",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "pool_size": None,
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "fixed_input_size": True,
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": "patch_embed.proj",
        "classifier": "head",
        "origin_url": "https://github.com/Adamdad/kat",
        "paper_ids": PAPER,
    }


# Without a tag: trained from scratch on ImageNet-1k (top-1 74.6, 81.2, 82.3 %); vitft: started from ViT weights
# (75.7, 82.0, 82.8 %); figures of the authors.
default_cfgs = generate_default_cfgs(
    {
        f"{name}{tag}": _cfg(f"kat_{size}_patch16_224{tag}")
        for size in ("tiny", "small", "base")
        for name in (f"kat_{size}", f"kat_{size}_patch16_224")
        for tag in ("", ".vitft")
    }
)

TINY = {"patch_size": 16, "embed_dim": 192, "depth": 12, "num_heads": 3}
SMALL = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6}
BASE = {"patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12}


@register_image_model(summary="KAT, width 192, 12 blocks, 5.7 M parameters", paper=PAPER)
def kat_tiny(pretrained: bool = False, **options: Any) -> KAT:
    """The size of ViT-Ti/16."""
    return create_image_model(KAT, "kat_tiny", pretrained, TINY, options)


@register_image_model(summary="KAT, width 384, 12 blocks, 22.1 M parameters", paper=PAPER)
def kat_small(pretrained: bool = False, **options: Any) -> KAT:
    """The size of ViT-S/16."""
    return create_image_model(KAT, "kat_small", pretrained, SMALL, options)


@register_image_model(summary="KAT, width 768, 12 blocks, 86.6 M parameters", paper=PAPER)
def kat_base(pretrained: bool = False, **options: Any) -> KAT:
    """The size of ViT-B/16."""
    return create_image_model(KAT, "kat_base", pretrained, BASE, options)


@register_image_model(summary="kat_tiny under its published name", paper=PAPER)
def kat_tiny_patch16_224(pretrained: bool = False, **options: Any) -> KAT:
    """See :func:`kat_tiny`."""
    return create_image_model(KAT, "kat_tiny_patch16_224", pretrained, TINY, options)


@register_image_model(summary="kat_small under its published name", paper=PAPER)
def kat_small_patch16_224(pretrained: bool = False, **options: Any) -> KAT:
    """See :func:`kat_small`."""
    return create_image_model(KAT, "kat_small_patch16_224", pretrained, SMALL, options)


@register_image_model(summary="kat_base under its published name", paper=PAPER)
def kat_base_patch16_224(pretrained: bool = False, **options: Any) -> KAT:
    """See :func:`kat_base`."""
    return create_image_model(KAT, "kat_base_patch16_224", pretrained, BASE, options)


def from_published(source: Any, config: dict[str, Any] | None = None, **changes: Any) -> KAT:
    """A KAT with the weights of a published checkpoint.

    Args:
        source: a folder or a file (``.safetensors``, ``.pth``; never unpickled), a hub id, or a state dict.
        config: sizes under their published names (``img_size``, ``patch_size``, ``embed_dim``, ``depth``,
            ``num_heads``, ``mlp_ratio``, ``num_classes``, ``act_init``); read off the weights where it is not given,
            with heads 64 wide.
        changes: options that differ, for example ``num_classes=10`` (the head is then new) or ``img_size=384``.

    Raises:
        UserError: the source cannot be read safely, or its keys or shapes are not those of a KAT.
    """
    return load_published(source, config, changes, kat_base)
