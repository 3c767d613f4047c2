"""Measurements as cells of a table, for the terminal."""

from collections.abc import Sequence

from katops.benchmark.layers import LayerMeasurement
from katops.benchmark.rational import Measurement
from katops.benchmark.results import number

RATIONAL_HEADER = ("operation", "competitor", "ms", "spread", "GB/s", "of copy", "x GELU", "error", "memory")
LAYER_HEADER = ("operation", "layer", "ms", "spread", "x first", "parameters", "memory MB")


def rational_cells(row: Measurement) -> list[str]:
    """A row under ``RATIONAL_HEADER``; the largest error relative to its scale, memory in units of x."""
    if row.reason:
        return [row.operation, row.competitor, *["-"] * (len(RATIONAL_HEADER) - 2)]
    errors = [error for error in (row.error_y, row.error_dx, row.error_coefficients) if error is not None]
    return [
        row.operation,
        row.competitor,
        number(row.milliseconds),
        percent(row.spread),
        number(row.gigabytes_per_second),
        percent(row.fraction_of_copy),
        number(row.ratio_to_gelu),
        number(max(errors, default=None), 2),
        number(row.extra_memory),
    ]


def layer_cells(row: LayerMeasurement) -> list[str]:
    """A row under ``LAYER_HEADER``."""
    if row.reason:
        return [row.operation, row.layer, *["-"] * (len(LAYER_HEADER) - 2)]
    return [
        row.operation,
        row.layer,
        number(row.milliseconds),
        percent(row.spread),
        number(row.ratio_to_first),
        f"{row.parameters:,}",
        number(row.extra_megabytes),
    ]


def reasons(rows: Sequence[Measurement | LayerMeasurement]) -> list[str]:
    """Once per competitor, why it has no numbers."""
    names = [(row.competitor if isinstance(row, Measurement) else row.layer, row.reason) for row in rows if row.reason]
    return [f"{name}: {reason}" for name, reason in dict.fromkeys(names)]


def heading(row: Measurement | LayerMeasurement) -> str:
    """What all rows of a table have in common."""
    return f"x {row.shape.replace('x', ' x ')}, {row.dtype}, {row.device}, {row.threads} threads; {row.versions}"


def percent(value: float | None) -> str:
    """A cell: a fraction in percent."""
    return "-" if value is None else f"{100 * value:.0f} %"
