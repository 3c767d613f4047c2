"""The backends of the group rational function, and its forward and backward pass by whichever of them runs."""

import importlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from katops.errors import UserError
from katops.ops import rational_torch
from katops.ops.dispatch import Backend, Dispatcher, forced_backend
from katops.ops.memory_layout import as_dense, group_layout, with_strides_of
from katops.ops.rational_kernels import MOST_COEFFICIENTS, Gradients, RationalKernels, compute_type


def _loader(module: str) -> Callable[[torch.device], RationalKernels]:
    """``load`` of a module that is imported when its backend is first asked for."""

    return lambda device: importlib.import_module(f"katops.ops.{module}").load(device)


RATIONAL: Dispatcher[RationalKernels] = Dispatcher(
    "group_rational",
    [
        Backend("cupy", ("cuda",), 2, _loader("rational_cuda")),
        Backend("numba", ("cpu",), 2, _loader("rational_cpu")),
        Backend("torch_chunked", ("cpu",), 1, _loader("rational_chunked")),
        Backend("torch", (), 0, rational_torch.load),
    ],
)


def prepare(
    device: torch.device | str | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float32, torch.bfloat16),
    degrees: tuple[int, int] = (5, 4),
) -> str:
    """Compile the kernels of the group rational function ahead: before timing, or before capturing a CUDA graph.

    Args:
        device: where they will run; by default the current CUDA device, the CPU where there is none.
        dtypes: types of the input. Under autocast, float32 input with 16-bit output is a kernel of its own; it is
            compiled along with the 16-bit type.
        degrees: m and n.

    Returns:
        the name of the backend that will run for the first of the types.

    Raises:
        UserError: no such device, or not a floating-point type.
    """
    device = _present(device)
    if not isinstance(dtypes, Sequence) or not dtypes:
        raise UserError(f"prepare: dtypes must be a list of at least one type; given: {dtypes!r}")
    if len(degrees) != 2 or not all(isinstance(degree, int) and degree >= 0 for degree in degrees) or not any(degrees):
        raise UserError(f"prepare: degrees must be (m, n), not negative, one of them at least 1; given: {degrees!r}")
    for dtype in dtypes:
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise UserError(f"prepare: dtypes must be floating-point types of torch; given: {dtype!r}")
    for dtype in dtypes:
        RATIONAL.run("prepare", device, _types(dtype), ((dtype,), degrees), forced_backend())
    return RATIONAL.choose(device, _types(dtypes[0]), forced_backend())[0]


def _types(dtype: torch.dtype) -> tuple[torch.dtype, torch.dtype, torch.dtype]:
    return dtype, compute_type(dtype), dtype


def _present(device: torch.device | str | None) -> torch.device:
    """The device with its index, as tensors name theirs."""
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise UserError(f"prepare: there is no device {str(device)!r} here ({reason})") from None


def forward(
    x: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    channel_dim: int,
    dtype: torch.dtype,
    backend: str | None = None,
) -> Tensor:
    """y with the strides of ``empty_like(x)``; arguments as in :func:`katops.ops.rational.group_rational`.

    Args:
        backend: the one to insist on, by default the one that :func:`katops.ops.dispatch.use_backend` names.
    """
    if x.numel() == 0:
        return torch.empty_like(x, dtype=dtype)
    x = as_dense(x)
    layout = group_layout(x, channel_dim, max(len(numerator), len(denominator)))
    return RATIONAL.run(
        "forward",
        x.device,
        (x.dtype, compute_type(x.dtype, numerator.dtype, denominator.dtype), dtype),
        (x, _plain(numerator), _plain(denominator), layout, dtype),
        _insisted(backend, numerator, denominator),
    )


def backward(
    x: Tensor,
    gradient: Tensor,
    numerator: Tensor,
    denominator: Tensor,
    channel_dim: int,
    needs: tuple[bool, bool, bool],
    backend: str | None = None,
) -> Gradients:
    """The gradients of x (with the strides of ``empty_like(x)``) and of the coefficients; None where not needed."""
    if x.numel() == 0:
        tensors = zip((x, numerator, denominator), needs, strict=True)
        return tuple(torch.zeros_like(tensor) if needed else None for tensor, needed in tensors)
    x = as_dense(x)
    layout = group_layout(x, channel_dim, max(len(numerator), len(denominator)))
    return RATIONAL.run(
        "backward",
        x.device,
        (x.dtype, compute_type(x.dtype, numerator.dtype, denominator.dtype), gradient.dtype),
        (x, with_strides_of(gradient, x), _plain(numerator), _plain(denominator), layout, needs),
        _insisted(backend, numerator, denominator),
    )


def _insisted(backend: str | None, numerator: Tensor, denominator: Tensor) -> str | None:
    """The backend to insist on; a constant, m = n = 0, and very many coefficients are nothing for kernels."""
    coefficients = numerator.shape[1] + denominator.shape[1]
    return backend or forced_backend() if 2 <= coefficients <= MOST_COEFFICIENTS else "torch"


def _plain(coefficients: Tensor) -> Tensor:
    """As kernels read them: a row behind the other, and no sign that is only noted."""
    return coefficients.resolve_neg().contiguous()
