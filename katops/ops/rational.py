"""The group rational function in plain torch: the definition that every faster version is measured against.

    y = P(x) / Q(x),   P(x) = sum_{i=0..m} a_i x^i,   Q(x) = 1 + sum_{j=1..n} |b_j| |x|^j

with one pair (a, b) per group of neighbouring channels (Yang & Wang 2024, arXiv 2409.10594, equations 8 and 12; the
denominator is the one of the published kernels). Q >= 1, so there are no poles.

Two ways to compute the same: `near` is Horner's rule in x; `far`, for |x| so large that powers of x overflow, is
Horner's rule in 1/x, with the highest powers that really occur taken out:

    y = R_P(1/x) / R_Q(1/|x|) * x^M / |x|^N,   R_P(z) = sum_k a_{M-k} z^k,   R_Q(z) = sum_k |b_{N-k}| z^k,   b_0 = 1

where M and N are the largest degrees with a coefficient other than zero.
"""

import math

import torch
from torch import Tensor

from katops.errors import UserError


def group_rational(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int = -1) -> Tensor:
    """y = P(x) / Q(x), with P of degree m and Q = 1 + sum_j |b_j| |x|^j of degree n, per group of channels.

    The number of groups is the larger of the first sizes of ``numerator`` and ``denominator``; a first size of 1 shares
    the coefficients among all groups. Channels c of C belong to group floor(c * groups / C).

    Gradients of any order exist. Where the derivative is one-sided, |b|' = +1 at b = 0 (else a denominator that starts
    at zero would stay there) and |x|' = copysign(1, x). The backward pass keeps x and the coefficients, nothing else.

    Half-precision input is computed in float32 and rounded once; the result has the type of ``x``, the gradients of the
    coefficients have the type of the coefficients.

    Huge input gives the right quotient even where P(x) and Q(x) themselves overflow; an infinite x gives the limit of
    P/Q; NaN gives NaN, in its own element and, backward, in the coefficients of its own group only. Where the incoming
    gradient is zero, x adds nothing to the coefficients' gradients, however large or infinite it is. The coefficients
    themselves are taken to be moderate, below 1e20 in float32.

    ``torch.func.grad`` and ``vmap`` work and nest; forward-mode derivatives (``jvp``, ``jacfwd``) do not exist.

    Args:
        x: any shape, floating point, in any memory layout.
        numerator: a, (groups or 1, m + 1), ascending powers; m >= 0.
        denominator: b, (groups or 1, n), from the first power on; n >= 0.
        channel_dim: axis of the channels.

    Returns:
        the shape and type of ``x``.

    Raises:
        UserError: the groups do not divide the channels, the coefficients have the wrong shape, or a tensor is not
            floating point.
    """
    groups = _checked_groups(x, numerator, denominator, channel_dim)
    grouped = x.unflatten(channel_dim, (groups, x.shape[channel_dim] // groups))
    trailing = x.ndim - channel_dim % x.ndim
    return _GroupRational.apply(grouped, numerator, denominator, trailing).reshape(x.shape)


class _GroupRational(torch.autograd.Function):
    """The quotient on (..., groups, \\*trailing) with the gradient by hand.

    The backward pass consists of differentiable operations on the saved tensors, which is what gives higher orders.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, numerator: Tensor, denominator: Tensor, trailing: int) -> Tensor:
        value, a, b = _to_compute(x, numerator, denominator)
        far = value.abs() > far_limit(value.dtype, a, b)
        if not _may_hold(far):
            return _near(value, a, b, trailing).to(x.dtype)
        y = _near(torch.where(far, 0, value), a, b, trailing)
        return torch.where(far, _far(torch.where(far, value, 1), a, b, trailing), y).to(x.dtype)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        x, numerator, denominator, trailing = inputs
        ctx.save_for_backward(x, numerator, denominator)
        ctx.trailing = trailing

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, numerator, denominator = ctx.saved_tensors
        value, a, b = _to_compute(x, numerator, denominator)
        incoming = gradient.to(value.dtype)
        far = value.abs() > far_limit(value.dtype, a, b)
        if not _may_hold(far):
            grad_x, grad_a, grad_b = _near_gradients(value, incoming, a, b, ctx.trailing)
        else:
            x_near, incoming_near = torch.where(far, 0, value), torch.where(far, 0, incoming)
            x_far, incoming_far = torch.where(far, value, 1), torch.where(far, incoming, 0)
            near_x, near_a, near_b = _near_gradients(x_near, incoming_near, a, b, ctx.trailing)
            far_x, far_a, far_b = _far_gradients(x_far, incoming_far, a, b, ctx.trailing)
            grad_x, grad_a, grad_b = torch.where(far, far_x, near_x), near_a + far_a, near_b + far_b
        return grad_x.to(x.dtype), grad_a.to(numerator.dtype), grad_b.to(denominator.dtype), None


def far_limit(dtype: torch.dtype, numerator: Tensor, denominator: Tensor) -> float:
    """The |x| from which on 1/x is used: a power of two whose highest power uses up half of the type's exponents.

    2^12 in float32 for degrees 5 and 4. The second derivative divides by Q twice, and Q^2 has to fit as well.
    """
    degree = max(numerator.shape[-1] - 1, denominator.shape[-1], 1)
    largest_exponent = math.frexp(torch.finfo(dtype).max)[1]
    return 2.0 ** (largest_exponent // (2 * degree))


def _checked_groups(x: Tensor, numerator: Tensor, denominator: Tensor, channel_dim: int) -> int:
    for name, coefficients in (("numerator", numerator), ("denominator", denominator)):
        if coefficients.ndim != 2 or not coefficients.is_floating_point():
            raise UserError(
                f"group_rational: the {name} must be a floating-point tensor (groups or 1, coefficients); "
                f"given: {tuple(coefficients.shape)} of {coefficients.dtype}"
            )
    groups = max(len(numerator), len(denominator))
    if not {len(numerator), len(denominator)} <= {1, groups} or groups == 0 or numerator.shape[1] == 0:
        raise UserError(
            f"group_rational: numerator {tuple(numerator.shape)} and denominator {tuple(denominator.shape)} must have "
            f"the same number of groups, or one of them a single row; the numerator needs a coefficient"
        )
    if not x.is_floating_point():
        raise UserError(f"group_rational: x must be a floating-point tensor; given: {x.dtype}")
    if not -x.ndim <= channel_dim < x.ndim:
        raise UserError(f"group_rational: channel_dim {channel_dim} is no axis of a tensor of shape {tuple(x.shape)}")
    channels = x.shape[channel_dim]
    if channels % groups:
        raise UserError(
            f"group_rational: {groups} groups do not divide {channels} channels (axis {channel_dim} of "
            f"{tuple(x.shape)}); choose a number of groups that does"
        )
    return groups


def _to_compute(x: Tensor, numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors in the widest of their types, float32 at least."""
    dtype = torch.float32
    for tensor in (x, numerator, denominator):
        dtype = torch.promote_types(dtype, tensor.dtype)
    return x.to(dtype), numerator.to(dtype), denominator.to(dtype)


def _may_hold(mask: Tensor) -> bool:
    """Whether the mask may be true somewhere; asked of the data only where asking costs nothing."""
    if torch.compiler.is_compiling():
        return True
    transformed = torch._C._functorch.maybe_current_level() or torch._C._len_torch_dispatch_stack()
    if transformed or type(mask) is not Tensor or mask.device.type != "cpu":
        return True
    return bool(mask.any())


def _columns(coefficients: Tensor, trailing: int) -> list[Tensor]:
    """The coefficient of each power, shaped to broadcast against (..., groups, \\*trailing)."""
    return [column.reshape(-1, *(1,) * trailing) for column in coefficients.unbind(-1)]


def _horner(x: Tensor, columns: list[Tensor]) -> Tensor:
    """sum_k columns[k] x^k; zero without columns."""
    if len(columns) < 2:
        return torch.zeros_like(x) + (columns[0] if columns else 0)
    value = torch.addcmul(columns[-2], x, columns[-1])
    for column in reversed(columns[:-2]):
        value = torch.addcmul(column, value, x)
    return value


def _near(x: Tensor, a: Tensor, b: Tensor, trailing: int) -> Tensor:
    magnitude = x.abs()
    return _horner(x, _columns(a, trailing)) / (1 + magnitude * _horner(magnitude, _columns(b.abs(), trailing)))


def _near_gradients(x: Tensor, incoming: Tensor, a: Tensor, b: Tensor, trailing: int) -> tuple[Tensor, Tensor, Tensor]:
    """dx = g (P' - f Q') / Q, da_i = sum g x^i / Q, db_j = -sgn(b_j) sum g f |x|^j / Q, with f = P / Q."""
    sign = _sign(x)
    magnitude = x * sign
    sign_b = _sign_of_coefficient(b)
    columns_a, columns_b = _columns(a, trailing), _columns(b * sign_b, trailing)
    quotient = 1 + magnitude * _horner(magnitude, columns_b)
    f = _horner(x, columns_a) / quotient
    weight = incoming / quotient
    slope_p = _horner(x, [power * column for power, column in enumerate(columns_a)][1:])
    slope_q = _horner(magnitude, [(power + 1) * column for power, column in enumerate(columns_b)])
    # x first: the result then lies in memory as x does, whatever the layout of the incoming gradient
    grad_x = (slope_p - f * (sign * slope_q)) * weight
    grad_a = _sums_of_powers(weight, x, a, trailing)
    grad_b = _sums_of_powers(weight * f * magnitude, magnitude, b, trailing)
    return grad_x, grad_a, -sign_b * grad_b


def _sums_of_powers(weight: Tensor, x: Tensor, like: Tensor, trailing: int) -> Tensor:
    """sum over the elements of a group of weight x^k, for as many k as ``like`` has columns."""
    sums = []
    for _ in range(like.shape[-1]):
        sums.append(_sum_per_group(weight, like, trailing))
        weight = weight * x
    return torch.stack(sums, -1) if sums else torch.zeros_like(like)


def _sum_per_group(term: Tensor, like: Tensor, trailing: int) -> Tensor:
    """Sum over everything but the groups, and over these too where they share a row of ``like``."""
    group_axis = term.ndim - trailing - 1
    axes = [axis for axis in range(term.ndim) if axis != group_axis]
    per_group = term.sum(axes)
    return per_group if len(like) > 1 else per_group.sum(0, keepdim=True)


def _sign(x: Tensor) -> Tensor:
    """The sign of the input: at zero the sign bit decides, as in the kernels."""
    return torch.copysign(torch.ones_like(x), x).detach()


def _sign_of_coefficient(b: Tensor) -> Tensor:
    """-1 where b < 0, +1 elsewhere, -0.0 included."""
    return torch.where(b < 0, -1, 1).to(b.dtype)


class _Reversed:
    """A polynomial in 1/x: coefficients from the highest power that occurs downwards, and that power."""

    def __init__(self, ascending: Tensor, trailing: int) -> None:
        powers = torch.arange(ascending.shape[-1], device=ascending.device)
        top = ((ascending != 0) * powers).amax(-1, keepdim=True)
        source = top - powers
        descending = torch.where(source >= 0, ascending.gather(-1, source.clamp(min=0)), 0)
        self.columns = _columns(descending, trailing)
        # x d/dx of each term: the power times the coefficient
        self.slope_columns = _columns(descending * source.to(descending.dtype), trailing)
        self.degree = top.reshape(-1, *(1,) * trailing)


def _reversed_pair(a: Tensor, b: Tensor, trailing: int) -> tuple[_Reversed, _Reversed]:
    with_constant = torch.cat([torch.ones_like(b[:, :1]) if b.shape[1] else b.new_ones(len(b), 1), b], -1)
    return _Reversed(a, trailing), _Reversed(with_constant, trailing)


def _far(x: Tensor, a: Tensor, b: Tensor, trailing: int) -> Tensor:
    p, q = _reversed_pair(a, b.abs(), trailing)
    inverse = 1 / x
    ratio = _horner(inverse, p.columns) / _horner(inverse.abs(), q.columns)
    return _times_power(ratio * _odd_sign(x, p.degree), x.abs(), p.degree - q.degree)


def _far_gradients(x: Tensor, incoming: Tensor, a: Tensor, b: Tensor, trailing: int) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`_near_gradients`, each term written as a bounded factor times a power of |x|."""
    sign_b, sign = _sign_of_coefficient(b), _sign(x)
    magnitude, inverse = x * sign, 1 / x
    p, q = _reversed_pair(a, b * sign_b, trailing)
    quotient = _horner(inverse * sign, q.columns)
    f = _horner(inverse, p.columns) / quotient
    weight = incoming / quotient
    slope = _horner(inverse, p.slope_columns) - f * _horner(inverse * sign, q.slope_columns)
    degree = p.degree - q.degree
    grad_x = _times_power(weight * slope * _odd_sign(x, p.degree + 1), magnitude, degree - 1)
    grad_a = [
        _sum_per_group(_times_power(weight * sign**power, magnitude, power - q.degree), a, trailing)
        for power in range(a.shape[1])
    ]
    weight = weight * f * _odd_sign(x, p.degree)
    grad_b = [
        _sum_per_group(_times_power(weight, magnitude, degree + power - q.degree), b, trailing)
        for power in range(1, b.shape[1] + 1)
    ]
    sums_b = torch.stack(grad_b, -1) if grad_b else torch.zeros_like(b)
    return grad_x, torch.stack(grad_a, -1), -sign_b * sums_b


def _odd_sign(x: Tensor, degree: Tensor) -> Tensor:
    """sign(x)^degree for integer degrees."""
    return torch.where((degree % 2 == 1) & (x < 0), -1, 1).to(x.dtype)


def _times_power(factor: Tensor, base: Tensor, exponent: Tensor) -> Tensor:
    """factor * base^exponent in two halves, so that a small factor meets a large power before that overflows.

    Zero times a power that overflows is zero: what the loss does not see leaves no NaN in the coefficients' gradients.
    """
    half = exponent // 2
    for part in (half, exponent - half):
        power = base ** part.to(base.dtype)
        factor = factor * torch.where(factor == 0, power.clamp(max=torch.finfo(power.dtype).max), power)
    return factor
