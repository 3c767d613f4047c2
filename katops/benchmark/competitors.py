"""What can be timed beside one another: katops by backend, GELU, plain torch, compiled torch, published kernels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from katops.benchmark.formulas import by_horner, by_powers
from katops.errors import UserError, did_you_mean
from katops.ops.dispatch import use_backend
from katops.ops.rational import RATIONAL, group_rational
from katops.ops.rational_kernels import compute_type

if TYPE_CHECKING:
    from katops.benchmark.rational import Case

Function = Callable[[Tensor, Tensor, Tensor], Tensor]

GELU = "F.gelu"
# Elements up to which a kernel with an atomic addition per element and coefficient is run backward: beyond it takes
# longer than everything else together.
_FEW_ELEMENTS = 2**23


class CannotRun(Exception):
    """A competitor has no result for a case; the message says why."""


class Failed(CannotRun):
    """A competitor has no result for a case by mistake: it raised what nobody foresaw."""


@dataclass(frozen=True)
class Competitor:
    """One way to compute.

    Attributes:
        name: in tables and CSV files.
        build: makes y = function(x, a, b) for a case, or raises :class:`CannotRun` with one sentence.
        rational: whether it is the rational function, which has coefficients and an error; a yardstick otherwise.
        backward: whether its backward pass means something.
    """

    name: str
    build: Callable[["Case"], Function]
    rational: bool = True
    backward: bool = True


def standard(device: torch.device, backends: Sequence[str] = (), compiled: bool = True) -> list[Competitor]:
    """The competitors for a device, the yardsticks first.

    Args:
        device: a fast backend for another kind of device is left out.
        backends: of katops, only these; all of them by default.
        compiled: whether torch.compile takes part, which costs several seconds per case.

    Raises:
        UserError: no backend of that name serves this kind of device.
    """
    competitors = [
        Competitor(GELU, _gelu, rational=False),
        Competitor("copy (clone)", _clone, rational=False, backward=False),
    ]
    competitors += [Competitor(f"katops {name}", _katops(name)) for name in _chosen(device, backends)]
    if compiled:
        competitors.append(Competitor("torch.compile", _compiled))
    if device.type == "cpu":
        competitors.append(Competitor("published formula", _published_formula))
    else:
        competitors += [
            Competitor("kat_rational", _module("kat_rational", "KAT_Group", _FEW_ELEMENTS)),
            Competitor("FlashKAT", _module("rational_kat", "FlashKAT_Group")),
        ]
    return competitors


def _chosen(device: torch.device, backends: Sequence[str]) -> list[str]:
    names = [backend.name for backend in RATIONAL.backends if backend.serves(device)]
    for name in backends:
        if name not in names:
            guess = did_you_mean(name, names)
            raise UserError(f"no backend {name!r} for {device.type}{guess} Allowed: {', '.join(names)}.")
    return [name for name in names if name in backends] if backends else names


def _gelu(case: "Case") -> Function:
    return lambda x, a, b: F.gelu(x)


def _clone(case: "Case") -> Function:
    return lambda x, a, b: x.clone()


def _katops(backend: str) -> Callable[["Case"], Function]:
    def build(case: "Case") -> Function:
        try:
            RATIONAL.choose(case.device, (case.dtype, compute_type(case.dtype), case.dtype), backend)
        except UserError as error:
            raise CannotRun(str(error)) from None

        def function(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
            with use_backend(backend):
                return group_rational(x, a, b, channel_dim=case.channel_dim)

        return function

    return build


def _compiled(case: "Case") -> Function:
    # Shapes seen before would make the sizes variables, and after eight of them torch gives up compiling in silence.
    torch.compiler.reset()
    formula = torch.compile(_channels_last(by_horner, case), fullgraph=True, dynamic=False)
    return lambda x, a, b: formula(x, a, b)


def _published_formula(case: "Case") -> Function:
    return _channels_last(by_powers, case)


def _channels_last(formula: Function, case: "Case") -> Function:
    if case.channel_dim in (-1, len(case.shape) - 1):
        return formula
    return lambda x, a, b: formula(x.movedim(case.channel_dim, -1), a, b).movedim(-1, case.channel_dim)


def _module(package: str, name: str, most_elements: int | None = None) -> Callable[["Case"], Function]:
    """A published layer, called through its public constructor with the coefficients in the place of its own."""

    def build(case: "Case") -> Function:
        try:
            layer = getattr(import_module(package), name)
        except ImportError:
            raise CannotRun(f"the package {package} is not installed") from None
        if len(case.shape) != 3 or case.channel_dim not in (-1, 2):
            raise CannotRun("takes (batch, length, channel) only")
        if most_elements is not None and case.elements > most_elements:
            raise CannotRun(f"left out above {most_elements:,} elements, its backward pass takes too long")
        module = layer(num_groups=case.groups, mode="gelu", device="cuda")
        names = ("weight_numerator", "weight_denominator")
        return lambda x, a, b: torch.func.functional_call(module, dict(zip(names, (a, b), strict=True)), (x,))

    return build
