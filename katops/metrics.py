r"""Error measures between fields. A loss is a differentiable metric.

Every metric that is registered in ``katops.registry.METRICS`` has the signature

    ``metric(prediction, target, *, n_axes=None) -> (batch,)``

and returns **one number per sample**; the reduction over samples is the caller's. The mean over samples of a ratio
(what is reported) can therefore not be mistaken for a ratio of sums over samples (which is not offered).

- Shapes: (batch, \*, channel, \*space), where \* may be nothing or a time axis. ``n_axes`` is the number of spatial
  axes; left out, there is no time axis and it is ``ndim - 2``.
- Precision: half and bfloat16 (and integers) are computed in float32, also under autocast, so that Fourier transforms
  of any size work; float32 and float64 stay as they are.
- ``eps`` bounds a denominator from below, ``max(‖t‖, eps)``: it is never added, so that an error does not depend on
  the unit of the field. Where the target is zero the result is ``‖p‖ / eps``: huge, finite, and it says that a relative
  error has no meaning there. Means over channels leave out those without a meaning, unless all are.
- Raises :class:`katops.errors.UserError` where the shapes differ or the rank does not fit.
"""

import torch
from torch import Tensor

from katops.errors import UserError
from katops.registry import METRICS
from katops.spectrum import multiplicity, wavenumbers

# Squares of smaller fields underflow in float32, and fields in SI units (a permeability of 1e-15 m²) stay well above.
EPS = 1e-20

# These carry the unit of the field; all other metrics are ratios.
ABSOLUTE = frozenset({"rmse", "mae", "max_error"})

# These compare with the deviation in space and have no meaning where the whole target is constant there.
PER_DEVIATION = frozenset({"vrmse"})

# A deviation below this share of the largest value is rounding of a field that was stored as float32.
ROUNDING = torch.finfo(torch.float32).eps

_LI = "Li et al. 2021, arXiv:2010.08895"
_HE = "He, Liu, Xu 2023, arXiv:2310.19809"
_WELL = "Ohana et al. 2024, arXiv:2412.00568"


@METRICS.register("relative_l2", summary="‖p − t‖₂ / ‖t‖₂ over all channels, steps and points of a sample", paper=_LI)
def relative_l2(prediction: Tensor, target: Tensor, *, n_axes: int | None = None, eps: float = EPS) -> Tensor:
    r"""Relative L2 error of each sample.

    .. math:: \frac{\|p - t\|_2}{\max(\|t\|_2, \epsilon)}, \qquad \|u\|_2^2 = \sum_{time, channel, space} u^2

    The norms run over everything but the batch, so a channel counts by its magnitude; see
    :func:`relative_l2_channel_mean` for channels of different units.

    Returns:
        (batch,), dimensionless; 0 is exact, a zero prediction has 1.
    """
    prediction, target, _ = _prepare(prediction, target, n_axes)
    return _ratio(_norm(prediction - target), _norm(target), eps)


@METRICS.register("relative_l1", summary="‖p − t‖₁ / ‖t‖₁ over all channels, steps and points of a sample")
def relative_l1(prediction: Tensor, target: Tensor, *, n_axes: int | None = None, eps: float = EPS) -> Tensor:
    r"""Relative L1 error of each sample, :math:`\sum |p - t| / \max(\sum |t|, \epsilon)`, over all but the batch.

    Returns:
        (batch,), dimensionless.
    """
    prediction, target, _ = _prepare(prediction, target, n_axes)
    return _ratio(_norm(prediction - target, order=1), _norm(target, order=1), eps)


@METRICS.register("h1", summary="relative H¹ error: relative L2 with Fourier weights (1 + |k|²)^½", paper=_HE)
def h1(
    prediction: Tensor,
    target: Tensor,
    *,
    n_axes: int | None = None,
    max_wavenumber: int | None = None,
    eps: float = EPS,
) -> Tensor:
    r"""Relative error in the spectral H¹ norm, of each sample.

    .. math:: \frac{\|p - t\|_{H^1}}{\max(\|t\|_{H^1}, \epsilon)}, \qquad
              \|u\|_{H^1}^2 = \sum_{time, channel} \sum_k \Bigl(1 + \sum_i k_i^2\Bigr) |\hat u_k|^2

    with the orthonormal discrete Fourier transform and integer wavenumbers k_i (cycles per box along axis i, so that
    derivatives are measured per box length). The transform takes the field for periodic.

    Args:
        max_wavenumber: axis i contributes k_i² to the weight only where |k_i| < max_wavenumber; the published training
            uses 20. Higher wavenumbers still count with weight 1. ``None``: no limit.

    Returns:
        (batch,), dimensionless.

    Raises:
        UserError: ``max_wavenumber`` is below 1.
    """
    if max_wavenumber is not None and max_wavenumber < 1:
        raise UserError(f"h1: max_wavenumber must be at least 1, or left out for no limit; given: {max_wavenumber}")
    prediction, target, n_axes = _prepare(prediction, target, n_axes)
    sizes = prediction.shape[-n_axes:]
    squares = [k.square() for k in wavenumbers(sizes, device=prediction.device)]
    if max_wavenumber is not None:
        squares = [torch.where(square < max_wavenumber**2, square, 0) for square in squares]
    weight = ((1 + sum(squares)) * multiplicity(sizes[-1], device=prediction.device)).sqrt().to(prediction.dtype)

    def norm(field: Tensor) -> Tensor:
        coefficients = torch.fft.rfftn(field, dim=tuple(range(-n_axes, 0)), norm="ortho")
        return _norm(torch.view_as_real(coefficients * weight))

    return _ratio(norm(prediction - target), norm(target), eps)


@METRICS.register("relative_l2_channel_mean", summary="mean over the channels, where t_c ≠ 0, of ‖p_c − t_c‖₂ / ‖t_c‖₂")
def relative_l2_channel_mean(
    prediction: Tensor, target: Tensor, *, n_axes: int | None = None, eps: float = EPS
) -> Tensor:
    """Mean over the channels of :func:`channel_relative_l2`: every channel counts alike, whatever its unit.

    Channels whose target is zero are left out, unless all are.

    Returns:
        (batch,), dimensionless.
    """
    ratios = channel_relative_l2(prediction, target, n_axes=n_axes, eps=eps)
    return _mean_where(channel_present(target, n_axes=n_axes), ratios)


def channel_present(target: Tensor, *, n_axes: int | None = None) -> Tensor:
    """(batch, channel): where a target is not zero at all times and points, so that a relative error has a meaning."""
    n_axes = target.ndim - 2 if n_axes is None else n_axes
    return (target != 0).movedim(target.ndim - n_axes - 1, 1).flatten(2).any(2)


def channel_relative_l2(prediction: Tensor, target: Tensor, *, n_axes: int | None = None, eps: float = EPS) -> Tensor:
    r"""Relative L2 error of each sample and channel: norms over time and space.

    Returns:
        (batch, channel), dimensionless. Not registered, since it is more than one number per sample.
    """
    prediction, target, n_axes = _prepare(prediction, target, n_axes)
    channel = prediction.ndim - n_axes - 1
    difference, target = ((prediction - target).movedim(channel, 1), target.movedim(channel, 1))
    return _ratio(_norm(difference, start=2), _norm(target, start=2), eps)


@METRICS.register(
    "vrmse", summary="⟨(p − t)²⟩^½ / ⟨(t − ⟨t⟩)²⟩^½ per channel and step, averaged where t is not constant", paper=_WELL
)
def vrmse(prediction: Tensor, target: Tensor, *, n_axes: int | None = None, eps: float = EPS) -> Tensor:
    r"""Root of the mean square error in units of the target's standard deviation.

    .. math:: \frac{1}{|time||channel|} \sum_{time, channel}
              \frac{\langle (p - t)^2 \rangle^{1/2}}{\max(\langle (t - \langle t \rangle)^2 \rangle^{1/2}, \epsilon)}

    where ⟨·⟩ is the mean over space. Predicting each frame's own mean scores 1. Steps and channels whose target is
    :func:`constant_in_space` are left out of the average, unless all are. The Well adds 1e-7 to the variance instead,
    which flatters fields of small units; for variances far above that the values agree.

    Returns:
        (batch,), dimensionless; without a meaning where all of the target is constant.
    """
    prediction, target, n_axes = _prepare(prediction, target, n_axes)
    space = tuple(range(-n_axes, 0))
    points = prediction[(0,) * (prediction.ndim - n_axes)].numel()
    deviation = torch.linalg.vector_norm(target - target.mean(space, keepdim=True), dim=space) / points**0.5
    error = torch.linalg.vector_norm(prediction - target, dim=space) / points**0.5
    varies = ~constant_in_space(target, n_axes=n_axes)
    return _mean_where(varies.flatten(1), _ratio(error, deviation, eps).flatten(1))


def constant_in_space(target: Tensor, *, n_axes: int) -> Tensor:
    """(batch, [time,] channel): where a target has one value at all points, but for the rounding of float32."""
    points = target.flatten(-n_axes)
    largest, smallest = points.amax(-1), points.amin(-1)
    return largest - smallest <= 2 * ROUNDING * torch.maximum(largest.abs(), smallest.abs())


@METRICS.register("rmse", summary="⟨(p − t)²⟩^½, mean over all channels, steps and points of a sample")
def rmse(prediction: Tensor, target: Tensor, *, n_axes: int | None = None) -> Tensor:
    r"""Root of the mean square error of each sample, :math:`\langle (p - t)^2 \rangle^{1/2}` over all but the batch.

    Returns:
        (batch,), in the unit of the field.
    """
    prediction, target, _ = _prepare(prediction, target, n_axes)
    return _norm(prediction - target) / prediction[0].numel() ** 0.5


@METRICS.register("mae", summary="⟨|p − t|⟩, mean absolute error over all channels, steps and points of a sample")
def mae(prediction: Tensor, target: Tensor, *, n_axes: int | None = None) -> Tensor:
    r"""Mean absolute error of each sample, :math:`\langle |p - t| \rangle` over all but the batch.

    Returns:
        (batch,), in the unit of the field.
    """
    prediction, target, _ = _prepare(prediction, target, n_axes)
    return (prediction - target).abs().flatten(1).mean(1)


@METRICS.register("max_error", summary="max |p − t| over all channels, steps and points of a sample")
def max_error(prediction: Tensor, target: Tensor, *, n_axes: int | None = None) -> Tensor:
    r"""Largest absolute error of each sample, :math:`\max |p - t|` over all but the batch.

    Returns:
        (batch,), in the unit of the field.
    """
    prediction, target, _ = _prepare(prediction, target, n_axes)
    return (prediction - target).abs().flatten(1).amax(1)


def _prepare(prediction: Tensor, target: Tensor, n_axes: int | None) -> tuple[Tensor, Tensor, int]:
    """Check the shapes; bring both fields to one dtype of at least float32."""
    if prediction.shape != target.shape:
        raise UserError(
            f"prediction has shape {tuple(prediction.shape)} and target {tuple(target.shape)}; "
            "a metric compares fields of one shape (batch, [time,] channel, *space)"
        )
    n_axes = prediction.ndim - 2 if n_axes is None else n_axes
    if not 1 <= n_axes <= min(3, prediction.ndim - 2):
        raise UserError(
            f"shape {tuple(prediction.shape)} does not hold (batch, [time,] channel, *space) with n_axes={n_axes}; "
            "1 to 3 spatial axes are supported, pass n_axes where there is a time axis"
        )
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return prediction.to(dtype), target.to(dtype), n_axes


def _norm(field: Tensor, *, start: int = 1, order: float = 2) -> Tensor:
    """Vector norm over all axes from ``start`` on; its gradient at zero is zero, not NaN."""
    return torch.linalg.vector_norm(field.flatten(start), ord=order, dim=start)


def _mean_where(defined: Tensor, ratios: Tensor) -> Tensor:
    """Means over the last axis of the ratios that are defined; of all of them where none is."""
    defined = defined | ~defined.any(-1, keepdim=True)
    return torch.where(defined, ratios, 0).sum(-1) / defined.sum(-1)


def _ratio(error: Tensor, scale: Tensor, eps: float) -> Tensor:
    return error / scale.clamp_min(eps)
