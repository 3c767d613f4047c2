"""scOT: the scalable operator transformer of Poseidon (Herde et al., arXiv 2405.19101).

A U-net of SwinV2 transformer stages on tokens of a field, whose norms know the lead time:

    u_0 = embed(x),   y_i = stage_i(u_i),   u_{i+1} = merge(y_i + u_i)                      encoder, i = 0 ... L - 1
    z_{L-1} = stage'(skip(y_{L-1})),   z_i = stage'_i(unmerge(z_{i+1}) + skip_i(y_i)),   y = recover(z_0)

Modules and parameters have the names of the published checkpoints (camlab-ethz/Poseidon-T, -B, -L on the Hugging Face
hub, licence CC-BY-NC-4.0: not for commercial use).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import generate_default_cfgs
from torch import Tensor, nn

from katops.errors import UserError
from katops.fields import STENCIL_BOUNDARIES, Boundary, normalise_boundary
from katops.layers.patches import PatchEmbedding, PatchRecovery
from katops.layers.spatial import check_field
from katops.layers.spectral import spectral_resample
from katops.layers.time_norm import EPSILON, TimeLayerNorm, TokenLayerNorm, TokenNorm, check_time
from katops.models.build import build_model, register_net
from katops.models.scot_initialisation import initialise
from katops.models.scot_options import (
    INITIALISATIONS,
    check_rates,
    check_sizes,
    check_stages,
    check_word,
    image_pair,
)
from katops.models.scot_published import LICENCE, Source, load_published, load_weights
from katops.models.scot_sharing import write_published
from katops.models.scot_stages import SKIP_BLOCKS, DecoderStage, EncoderStage, Parts, skip_blocks

PAPER = "arXiv:2405.19101"
AXES = 2


class ScOT(nn.Module):
    """Scalable operator transformer, (batch, in_channels, x, y) and lead times (batch,) -> (batch, out_channels, x, y).

    Any grid: lengths that are no multiples of the patch are continued to the next one, odd grids of tokens likewise,
    and what was added is cut off again.

    Args:
        in_channels, out_channels: channels of input and output.
        image_size: the grid that the net works on, one length or two; fields on another grid are resampled to it and
            back through their Fourier coefficients, as if they were periodic. ``None``: the net works on the grid of
            the field.
        patch_size: points per axis that make one token.
        embed_dim: width of the tokens of the first stage; stage i has 2^i times as much.
        depths: transformer layers of each stage, in the encoder as in the decoder; any number of stages.
        num_heads: heads of each stage.
        window_size: tokens per axis of a window of attention; grids with fewer are one window.
        mlp_ratio: hidden width of the MLPs over the width of the tokens.
        qkv_bias: whether queries and values have a bias.
        skip_connections: blocks on the skip connection of each stage; by default 2, and 0 on the coarsest.
        skip_block: ``convnext``, or ``resnet`` with batch norms and activations of its own, whatever fills the slots.
        time_conditioning: norms know the lead time; without it the time has no influence.
        learn_residual: y = x + net(x), with the first ``out_channels`` channels of x.
        scale_by_time: with ``learn_residual``: y = x + time net(x), so that time 0 returns x exactly.
        drop_path_rate: of the last layer; the first has 0, in between it grows evenly.
        dropout, attention_dropout: rates.
        act_layer: activation, see :func:`katops.layers.activation.build_activation`.
        norm_layer: another norm, called with the number of channels; it gets the time if its ``forward`` takes one.
        mlp_layer: channel mixer in the place of every MLP, called with in_features=, hidden_features= and
            out_features=, as far as it takes them.
        norm_eps: of the norms inside the stages.
        init: ``unit_gain``: norms begin with gain 1 at time 0; ``published``: with gain 0, where a fresh net returns
            almost nothing.
        boundary: decides which axes are periodic.
        wrap: windows and convolutions reach across the ends of periodic axes; the published net never does.
        padded_keys: windows that reach beyond the grid see zero tokens there, as published, instead of nothing.

    Raises:
        UserError: an option has a wrong value, or two contradict one another.
    """

    takes_time = True

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        *,
        image_size: int | Sequence[int] | None = None,
        patch_size: int = 4,
        embed_dim: int = 48,
        depths: Sequence[int] = (4, 4, 4, 4),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 16,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        skip_connections: Sequence[int] | None = None,
        skip_block: str = "convnext",
        time_conditioning: bool = True,
        learn_residual: bool = False,
        scale_by_time: bool = False,
        drop_path_rate: float = 0.0,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        act_layer: Callable[..., nn.Module] = nn.GELU,
        norm_layer: Callable[[int], nn.Module] | None = None,
        mlp_layer: Callable[..., nn.Module] | None = None,
        norm_eps: float = EPSILON,
        init: str = "unit_gain",
        boundary: Boundary = "dirichlet",
        wrap: bool = False,
        padded_keys: bool = False,
    ) -> None:
        super().__init__()
        skips = (*(2,) * (len(depths) - 1), 0) if skip_connections is None else tuple(skip_connections)
        check_sizes(in_channels=in_channels, out_channels=out_channels, patch_size=patch_size, embed_dim=embed_dim)
        check_sizes(window_size=window_size)
        check_stages(embed_dim, depths, num_heads, skips)
        check_rates(drop_path_rate=drop_path_rate, dropout=dropout, attention_dropout=attention_dropout)
        check_word("skip_block", skip_block, SKIP_BLOCKS)
        check_word("init", init, INITIALISATIONS)
        if norm_eps <= 0:
            raise UserError(f"ScOT: norm_eps must be above 0, got {norm_eps}")
        if int(mlp_ratio * embed_dim) < 1:
            raise UserError(f"ScOT: mlp_ratio {mlp_ratio} leaves no hidden width for embed_dim {embed_dim}")
        if mlp_layer is not None and act_layer is not nn.GELU:
            raise UserError("ScOT: act_layer has no effect with mlp_layer; give it as an option of the mlp_layer")
        if learn_residual and in_channels < out_channels:
            raise UserError(
                f"ScOT: learn_residual adds input channels to the output and needs at least as many of them, got "
                f"{in_channels} in and {out_channels} out"
            )
        if scale_by_time and not learn_residual:
            raise UserError("ScOT: scale_by_time needs learn_residual=True, or the output vanishes at time 0")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.boundary = normalise_boundary(boundary, AXES, STENCIL_BOUNDARIES)
        self.image_size, self.mlp_ratio, self.drop_path_rate = image_pair(image_size), mlp_ratio, drop_path_rate
        self.learn_residual, self.scale_by_time = learn_residual, scale_by_time
        periodic = tuple(wrap and sides[0] == "periodic" for sides in self.boundary)
        norm = partial(_norm, norm_layer, time_conditioning)
        parts = Parts(
            window_size, mlp_ratio, qkv_bias, dropout, attention_dropout, act_layer, mlp_layer,
            norm=partial(norm, norm_eps), edge_norm=partial(norm, EPSILON), wrap=periodic, padded_keys=padded_keys,
            skip_block=skip_block,
        )  # fmt: skip
        widths = [embed_dim * 2**level for level in range(len(depths))]
        down, up = _drop_path_rates(drop_path_rate, depths)
        levels = range(len(depths))
        self.embeddings = PatchEmbedding(in_channels, embed_dim, patch_size, parts.edge_norm, dropout, periodic)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(
            EncoderStage(widths[level], num_heads[level], down[level], level == levels[-1], parts) for level in levels
        )})  # fmt: skip
        self.decoder = nn.ModuleDict({"layers": nn.ModuleList(
            DecoderStage(widths[level], num_heads[level], up[level], level == 0, parts) for level in reversed(levels)
        )})  # fmt: skip
        self.residual_blocks = nn.ModuleList(skip_blocks(widths[level], skips[level], parts) for level in levels)
        self.patch_recovery = PatchRecovery(embed_dim, out_channels, patch_size, periodic)
        initialise(self, init)

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """y at the lead times (batch,) after x; without ``time``, as for steady problems, it is 1 for all samples.

        Raises:
            UserError: x has other axes or channels, or there is not one time per sample.
        """
        check_field(x, self.in_channels, AXES, "ScOT")
        time = check_time(time, x, "ScOT")
        space = x.shape[2:]
        field = x if self.image_size is None else spectral_resample(x, self.image_size)
        y = self._net(field, time)
        if self.learn_residual and not self.scale_by_time:
            y = y + field[:, : self.out_channels]
        y = spectral_resample(y, space)
        if self.scale_by_time:
            # On the grid of x itself, where resampling loses nothing of it.
            y = torch.addcmul(x[:, : self.out_channels], y, time.to(y.dtype)[:, None, None, None])
        return y

    def _net(self, field: Tensor, time: Tensor) -> Tensor:
        u, skips = self.embeddings(field, time), []
        for stage, blocks in zip(self.encoder["layers"], self.residual_blocks, strict=True):
            y, u = stage(u, time)
            for block in blocks if isinstance(blocks, nn.ModuleList) else ():
                y = block(y, time)
            skips.append(y)
        z = skips.pop()
        for stage in self.decoder["layers"]:
            z = stage(z, time, skips[-1].shape[1:3] if skips else None)
            if skips:
                z = z + skips.pop()
        return self.patch_recovery(z, field.shape[2:])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether the transformer layers keep their inputs only, and compute the rest again on the way back."""
        for stage in (*self.encoder["layers"], *self.decoder["layers"]):
            stage.grad_checkpointing = enable

    def parameter_roles(self) -> dict[str, list[str]]:
        """Parameters that fine-tuning treats apart: "channels" meet the channels of the data, "norms" the time.

        Those of the norm of the embedding are among the first, as in the published code.
        """
        norms = {
            f"{name}.{parameter}"
            for name, module in self.named_modules()
            if isinstance(module, TimeLayerNorm | TokenLayerNorm | TokenNorm)
            for parameter, _ in module.named_parameters()
        }
        channels = [n for n, _ in self.named_parameters() if n.startswith(("embeddings.", "patch_recovery."))]
        return {"channels": channels, "norms": sorted(norms - set(channels))}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that weight decay would pull towards a value without meaning; timm's optimisers ask."""
        return {
            name
            for name, _ in self.named_parameters()
            if name.endswith("logit_scale") or "continuous_position_bias_mlp" in name
        }


def _norm(
    norm_layer: Callable[[int], nn.Module] | None, time_conditioning: bool, eps: float, channels: int
) -> nn.Module:
    if norm_layer is not None:
        return TokenNorm(norm_layer, channels)
    return TimeLayerNorm(channels, -1, eps) if time_conditioning else TokenLayerNorm(channels, eps)


def _drop_path_rates(rate: float, depths: Sequence[int]) -> tuple[list[list[float]], list[list[float]]]:
    """From 0 to ``rate`` in the order of execution, for each level of the encoder and of the decoder."""
    total = sum(depths)
    rates = iter([rate * index / (2 * total - 1) for index in range(2 * total)])
    down = [[next(rates) for _ in range(depth)] for depth in depths]
    up = [[next(rates) for _ in range(depth)] for depth in reversed(depths)]
    return down, up[::-1]


def _published(size: str) -> dict[str, Any]:
    return {
        "hf_hub_id": f"camlab-ethz/Poseidon-{size}",
        "license": LICENCE.lower(),
        "origin_url": "https://github.com/camlab-ethz/poseidon",
        "paper_ids": PAPER,
    }


default_cfgs = generate_default_cfgs(
    {f"poseidon_{name}": _published(size) for name, size in (("tiny", "T"), ("base", "B"), ("large", "L"))}
)

TINY = {"embed_dim": 48, "depths": (4, 4, 4, 4)}
SMALL = {"embed_dim": 48, "depths": (8, 8, 8, 8)}
BASE = {"embed_dim": 96, "depths": (8, 8, 8, 8)}
LARGE = {"embed_dim": 192, "depths": (8, 8, 8, 8)}
# What a new model does better: windows and convolutions that know of periodic axes.
NEW = {"wrap": True}
PUBLISHED = {"in_channels": 4, "out_channels": 4, "image_size": 128, "init": "published", "padded_keys": True}


@register_net(summary="scOT, all sizes given as options", paper=PAPER)
def scot(**options: Any) -> ScOT:
    """ScOT with the defaults of the class."""
    return ScOT(**options)


@register_net(summary="scOT, width 48, 4 layers a stage, 21 M parameters, any grid", paper=PAPER)
def scot_tiny(**options: Any) -> ScOT:
    """A new model of the size of Poseidon-T, on the grid of the data."""
    return ScOT(**{**TINY, **NEW, **options})


@register_net(summary="scOT, width 48, 8 layers a stage, 40 M parameters, any grid", paper=PAPER)
def scot_small(**options: Any) -> ScOT:
    """A new model of the size of the paper's scOT, on the grid of the data."""
    return ScOT(**{**SMALL, **NEW, **options})


@register_net(summary="scOT, width 96, 8 layers a stage, 158 M parameters, any grid", paper=PAPER)
def scot_base(**options: Any) -> ScOT:
    """A new model of the size of Poseidon-B, on the grid of the data."""
    return ScOT(**{**BASE, **NEW, **options})


@register_net(summary="scOT, width 192, 8 layers a stage, 629 M parameters, any grid", paper=PAPER)
def scot_large(**options: Any) -> ScOT:
    """A new model of the size of Poseidon-L, on the grid of the data."""
    return ScOT(**{**LARGE, **NEW, **options})


@register_net(
    summary="Poseidon-T, 128 x 128, weights for non-commercial use (CC-BY-NC-4.0)",
    paper=PAPER,
    hub_id=default_cfgs["poseidon_tiny"].default.hf_hub_id,
    load=load_weights,
)
def poseidon_tiny(**options: Any) -> ScOT:
    """Poseidon-T as published: 20,774,444 parameters; ``pretrained=True`` loads weights under CC-BY-NC-4.0."""
    return ScOT(**{**TINY, **PUBLISHED, **options})


@register_net(
    summary="Poseidon-B, 128 x 128, weights for non-commercial use (CC-BY-NC-4.0)",
    paper=PAPER,
    hub_id=default_cfgs["poseidon_base"].default.hf_hub_id,
    load=load_weights,
)
def poseidon_base(**options: Any) -> ScOT:
    """Poseidon-B as published: 157,729,988 parameters; ``pretrained=True`` loads weights under CC-BY-NC-4.0."""
    return ScOT(**{**BASE, **PUBLISHED, **options})


@register_net(
    summary="Poseidon-L, 128 x 128, weights for non-commercial use (CC-BY-NC-4.0)",
    paper=PAPER,
    hub_id=default_cfgs["poseidon_large"].default.hf_hub_id,
    load=load_weights,
)
def poseidon_large(**options: Any) -> ScOT:
    """Poseidon-L as published: 628,575,524 parameters; ``pretrained=True`` loads weights under CC-BY-NC-4.0."""
    return ScOT(**{**LARGE, **PUBLISHED, **options})


def from_published(
    source: Source, config: Mapping[str, Any] | None = None, *, strict: bool = True, **changes: Any
) -> ScOT:
    """A scOT with published weights, exactly as the published code computes.

    Args:
        source: a folder with ``config.json`` and ``model.safetensors`` or ``pytorch_model.bin`` (never unpickled), a
            file, a hub id (camlab-ethz/Poseidon-T, -B, -L: licence CC-BY-NC-4.0, not for commercial use), or a state
            dict in the published layout.
        config: the published arguments (``embed_dim``, ``depths``, ``num_channels``, ...) where none lie beside the
            weights.
        strict: whether every tensor must fit; otherwise those that do not keep their initial values, with a warning.
        changes: options of :class:`ScOT` that replace what the configuration says.

    Raises:
        UserError: the source or its configuration is missing or unsafe, or the weights do not fit it.
    """
    return load_published(source, config, changes, partial(build_model, "scot"), strict)


def to_published(
    model: ScOT, folder: str | Path, image_size: int | None = None, config: Mapping[str, Any] | None = None
) -> Path:
    """Write a model as ``config.json`` and ``model.safetensors`` that the published code loads.

    Args:
        model: any scOT that the published code could compute.
        folder: made if it is missing.
        image_size: the square grid it is meant for, where the model has no ``image_size``; a multiple of the patch and
            of 2 for each coarser stage.
        config: further entries, such as ``channel_slice_list_normalized_loss``.

    Returns:
        the folder.

    Raises:
        UserError: the model does what the published code cannot, or the folder cannot be written to.
    """
    return write_published(model, folder, image_size, config)
