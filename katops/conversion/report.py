"""What a conversion did: every activation that became a rational function, and how far the outputs moved."""

import io
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table


@dataclass(frozen=True)
class ConvertedActivation:
    """One activation that became a group rational function.

    Attributes:
        path: of the activation in the model, ``blocks.0.mlp.act``.
        block: class of the module that it is a part of.
        kind: "MLP", "gated MLP", "transformer layer" or "sequential".
        activation: class or function that was there.
        channels, groups: of the rational function; ``groups`` is the largest divisor of ``channels`` that was allowed.
        first_channels, first_groups: of the identity rational in front of the block's first map.
        interval: where ``max_error`` was taken.
        max_error: largest |activation - rational| there.
        typical_error: root mean square of it over the sample's inputs; None without a sample.
        input_range: smallest and largest input in the sample; None without a sample or where it never came through.
    """

    path: str
    block: str
    kind: str
    activation: str
    channels: int
    groups: int
    first_channels: int
    first_groups: int
    interval: tuple[float, float]
    max_error: float
    typical_error: float | None
    input_range: tuple[float, float] | None


@dataclass(frozen=True)
class LeftAlone:
    """A module that looks like an MLP and was not converted.

    Attributes:
        path: in the model, "" for the model itself.
        module: its class.
        reason: why, as the end of a sentence.
    """

    path: str
    module: str
    reason: str


@dataclass(frozen=True)
class OutputDifference:
    """How far the outputs moved, in evaluation mode.

    Attributes:
        absolute: largest |new - old|.
        relative: ||new - old|| / ||old|| over all outputs; None where the old outputs are zero.
        measured_on: which input.
    """

    absolute: float
    relative: float | None
    measured_on: str


@dataclass(frozen=True)
class Conversion:
    """The report of :func:`katops.convert`; ``print`` shows it as a table.

    Attributes:
        activations: what was replaced.
        left_alone: what looks like an MLP and was not.
        blocks: number of blocks that were converted, shared ones counted once.
        parameters_before, parameters_after: numbers of parameters, shared ones counted once.
        difference: how far the outputs moved; None where the model's input is not known and no sample was given.
        sampled: whether a sample was given.
    """

    activations: tuple[ConvertedActivation, ...]
    left_alone: tuple[LeftAlone, ...]
    blocks: int
    parameters_before: int
    parameters_after: int
    difference: OutputDifference | None
    sampled: bool

    def to_dict(self) -> dict[str, Any]:
        """The same in plain lists, dictionaries, strings and numbers."""
        return asdict(self)

    def __rich__(self) -> Group:
        lines = [escape(line) for line in self._lines()]
        return Group(self._table(), *lines)

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=160, color_system=None).print(self)
        return text.getvalue().rstrip()

    def _table(self) -> Table:
        table = Table()
        for name in ("activation", "block", "was", "groups", "largest error", "typical error", "inputs"):
            table.add_column(name, justify="left" if name in ("activation", "block", "was") else "right")
        for row in self.activations:
            groups = str(row.groups) if row.groups == row.first_groups else f"{row.first_groups}, {row.groups}"
            cells = [row.path, row.block, row.activation, groups]
            cells.append(f"{row.max_error:.1e} on {_range(row.interval)}")
            cells.append("" if row.typical_error is None else f"{row.typical_error:.1e}")
            cells.append("" if row.input_range is None else _range(row.input_range))
            table.add_row(*map(escape, cells))
        return table

    def _lines(self) -> list[str]:
        added = self.parameters_after - self.parameters_before
        blocks = "block" if self.blocks == 1 else "blocks"
        lines = [
            f"{self.blocks} {blocks} converted; {self.parameters_before} parameters before, {added:+d} afterwards.",
            _sentence(self.difference),
        ]
        if self.difference is not None and not self.sampled:
            lines.append(
                "Noise says little about real images, on which a trained model may move by several per cent; "
                "give a batch of them: convert(model, sample=images)."
            )
        lines += [
            f"Left alone: {entry.path or 'the model'} ({entry.module}): {entry.reason}." for entry in self.left_alone
        ]
        return lines


def _range(bounds: tuple[float, float]) -> str:
    return f"[{bounds[0]:.3g}, {bounds[1]:.3g}]"


def _sentence(difference: OutputDifference | None) -> str:
    if difference is None:
        return "The outputs were not compared: the size of the model's input is not known; give a sample."
    relative = "the old ones are zero" if difference.relative is None else f"{100 * difference.relative:.2g} % relative"
    return f"Largest difference of the outputs on {difference.measured_on}: {difference.absolute:.2e} ({relative})."
