"""The group rational function in plain torch: the definition that every faster version is measured against.

    y = P(x) / Q(x),   P(x) = sum_{i=0..m} a_i x^i,   Q(x) = 1 + sum_{j=1..n} |b_j| |x|^j

on tensors (..., groups, \\*trailing), with one pair (a, b) per group. Two ways to compute the same: `near` is Horner's
rule in x; `far`, for |x| so large that powers of x overflow, is Horner's rule in 1/x, with the highest powers that
really occur taken out:

    y = R_P(1/x) / R_Q(1/|x|) * x^M / |x|^N,   R_P(z) = sum_k a_{M-k} z^k,   R_Q(z) = sum_k |b_{N-k}| z^k,   b_0 = 1

where M and N are the largest degrees with a coefficient other than zero.

`rational_value` and its derivative by hand, `rational_gradients`, belong together: finite wherever the true ones are.
`rational_composite` is the same function for those who differentiate it operation by operation.
"""

import torch
from torch import Tensor

from katops.ops.rational_kernels import INFINITE, compute_type, far_limit


def rational_value(x: Tensor, numerator: Tensor, denominator: Tensor, trailing: int, dtype: torch.dtype) -> Tensor:
    """y = P(x) / Q(x), computed in the widest type and rounded once to ``dtype``.

    Args:
        x: (..., groups, \\*trailing).
        numerator, denominator: (groups or 1, m + 1) and (groups or 1, n).
        trailing: number of axes behind that of the groups.
    """
    value, a, b = _to_compute(x, numerator, denominator)
    far = _is_far(value, a, b)
    if not _may_hold(far):
        return _near(value, value.abs(), a, b.abs(), trailing).to(dtype)
    near, beyond = torch.where(far, 0, value), torch.where(far, value, 1)
    y = _near(near, near.abs(), a, b.abs(), trailing)
    return torch.where(far, _far(beyond, beyond.abs(), a, b.abs(), trailing), y).to(dtype)


def rational_gradients(
    x: Tensor, gradient: Tensor, numerator: Tensor, denominator: Tensor, trailing: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of x and of both sets of coefficients, given that of y: the transposed derivative."""
    value, a, b = _to_compute(x, numerator, denominator)
    incoming = gradient.to(value.dtype)
    far = _is_far(value, a, b)
    if not _may_hold(far):
        grad_x, grad_a, grad_b = _near_gradients(value, incoming, a, b, trailing)
    else:
        x_near, incoming_near = torch.where(far, 0, value), torch.where(far, 0, incoming)
        x_far, incoming_far = torch.where(far, value, 1), torch.where(far, incoming, 0)
        near_x, near_a, near_b = _near_gradients(x_near, incoming_near, a, b, trailing)
        far_x, far_a, far_b = _far_gradients(x_far, incoming_far, a, b, trailing)
        grad_x, grad_a, grad_b = torch.where(far, far_x, near_x), near_a + far_a, near_b + far_b
    return grad_x.to(x.dtype), grad_a.to(numerator.dtype), grad_b.to(denominator.dtype)


def rational_composite(x: Tensor, numerator: Tensor, denominator: Tensor, trailing: int, dtype: torch.dtype) -> Tensor:
    """The same value from operations whose own derivatives, of any order and mode, are those of the quotient.

    float32 is computed in float64, where no power of x overflows, up to degree 6. In float64, and for higher degrees,
    a leading coefficient that is exactly zero counts as a constant where |x| is beyond the limit.
    """
    wide, a, b = _to_compute(x, numerator, denominator)
    if wide.dtype == torch.float32 and max(a.shape[-1] - 1, b.shape[-1]) <= 6:
        wide, a, b = wide.double(), a.double(), b.double()
        wide = torch.where(wide.isinf(), _sign(wide) * INFINITE, wide)
        return _near(wide, _sign(wide) * wide, a, _sign_of_coefficient(b) * b, trailing).to(dtype)
    far = _is_far(wide, a, b)
    near, beyond = torch.where(far, 0, wide), torch.where(far, wide, 1)
    size_b = _sign_of_coefficient(b) * b
    y = _near(near, _sign(near) * near, a, size_b, trailing)
    return torch.where(far, _far(beyond, _sign(beyond) * beyond, a, size_b, trailing), y).to(dtype)


def _to_compute(x: Tensor, numerator: Tensor, denominator: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors in the widest of their types, float32 at least."""
    dtype = compute_type(x.dtype, numerator.dtype, denominator.dtype)
    return x.to(dtype), numerator.to(dtype), denominator.to(dtype)


def _is_far(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return x.abs() > far_limit(x.dtype, a.shape[-1] - 1, b.shape[-1])


def _may_hold(mask: Tensor) -> bool:
    """Whether the mask may be true somewhere; asked of the data only where asking costs nothing."""
    if torch.compiler.is_compiling() or torch._C._is_tracing():
        return True
    transformed = torch._C._are_functorch_transforms_active() or torch._C._len_torch_dispatch_stack()
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


def _near(x: Tensor, magnitude: Tensor, a: Tensor, size_b: Tensor, trailing: int) -> Tensor:
    """P(x) / Q(x), given |x| and |b|."""
    return _horner(x, _columns(a, trailing)) / (1 + magnitude * _horner(magnitude, _columns(size_b, trailing)))


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
        # made of the coefficients themselves, so that tensors spread over devices stay so
        powers = torch.ones_like(ascending, dtype=torch.int64).cumsum(-1) - 1
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


def _far(x: Tensor, magnitude: Tensor, a: Tensor, size_b: Tensor, trailing: int) -> Tensor:
    p, q = _reversed_pair(a, size_b, trailing)
    ratio = _horner(1 / x, p.columns) / _horner(1 / magnitude, q.columns)
    return _times_power(ratio * _odd_sign(x, p.degree), magnitude, p.degree - q.degree)


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
