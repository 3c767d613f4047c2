"""Values on the Dirichlet sides, put into predictions exactly."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from katops.errors import UserError, did_you_mean
from katops.fields import FieldMeta


@dataclass(frozen=True)
class DirichletSource:
    """Where the values of an output on the Dirichlet sides come from.

    Attributes:
        output: number of the output channel.
        value: the value everywhere, or ``None`` where a channel has them.
        constant: whether that channel is one that does not change in time.
        channel: its number among the inputs, or among the constants.
    """

    output: int
    value: float | None = None
    constant: bool = False
    channel: int = 0


def dirichlet_sources(values: Mapping[str, float | str], meta: FieldMeta) -> tuple[DirichletSource, ...]:
    """Check what ``data.dirichlet_values`` asks for.

    Raises:
        UserError: an output or an input does not exist; there is no Dirichlet side; its points do not lie on it.
    """
    if not values:
        return ()
    outputs, inputs, constants = (
        [c.name for c in channels] for channels in (meta.outputs, meta.inputs, meta.constants)
    )
    axes = [axis for axis in meta.axes if "dirichlet" in axis.boundary]
    if not axes:
        raise UserError(f"data.dirichlet_values: {meta.name!r} has no Dirichlet side, its boundary is {meta.boundary}")
    for axis in axes:
        if axis.grid != "nodes":
            raise UserError(
                f"data.dirichlet_values: the grid of axis {axis.name!r} is {axis.grid}, whose points do not lie on the "
                f"boundary; values can be enforced on grids of nodes"
            )
    sources = []
    for output, value in values.items():
        if output not in outputs:
            raise UserError(
                f"data.dirichlet_values: unknown output {output!r}{did_you_mean(output, outputs)} Allowed: "
                f"{', '.join(outputs)}."
            )
        place = outputs.index(output)
        if not isinstance(value, str):
            sources.append(DirichletSource(place, value=float(value)))
        elif value in (*inputs, *constants):
            names = inputs if value in inputs else constants
            sources.append(DirichletSource(place, constant=value in constants, channel=names.index(value)))
        else:
            raise UserError(
                f"data.dirichlet_values: {output} is to be {value!r}, which is not an input"
                f"{did_you_mean(value, [*inputs, *constants])} Allowed: a number, {', '.join([*inputs, *constants])}."
            )
    return tuple(sources)


def enforce(
    y: Tensor, x: Tensor, constants: Tensor | None, sources: Sequence[DirichletSource], meta: FieldMeta
) -> Tensor:
    """y with the values of its sources on every Dirichlet side, all frames alike.

    Args:
        y: (batch, steps_out, output channels, \\*space).
        x: (batch, steps_in, input channels, \\*space); its last frame has the values of an input channel.
        constants: (batch, constant channels, \\*space).
        sources: see :func:`dirichlet_sources`.
        meta: the boundary.
    """
    if not sources:
        return y
    on_side = torch.zeros(y.shape[3:], dtype=torch.bool, device=y.device)
    for place in _sides(meta):
        on_side[place] = True
    channels = list(y.unbind(2))
    for source in sources:
        if source.value is not None:
            values = y.new_tensor(source.value)
        else:
            values = (constants if source.constant else x[:, -1])[:, None, source.channel].to(y.dtype)
        channels[source.output] = torch.where(on_side, values, channels[source.output])
    return torch.stack(channels, 2)


def _sides(meta: FieldMeta) -> Iterator[tuple[slice | int, ...]]:
    """An index of space for each Dirichlet side."""
    for number, (lower, upper) in enumerate(meta.boundary):
        before = (slice(None),) * number
        if lower == "dirichlet":
            yield (*before, 0)
        if upper == "dirichlet":
            yield (*before, -1)
