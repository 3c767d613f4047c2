"""What the data sets of a mixture state about themselves, made to agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from katops.config import DataConfig
from katops.data.adjustment import Adjustment
from katops.errors import UserError


@dataclass(frozen=True)
class Stated:
    """What a configuration states in place of what training samples would tell.

    Attributes:
        statistics: (mean, standard deviation) of channels.
        time_scale: lead time that models see as 1; ``None`` where none is stated.
        adjustments: of each data set of a mixture.
    """

    statistics: Mapping[str, tuple[float, float]]
    time_scale: float | None
    adjustments: tuple[Adjustment, ...] = ()


NOTHING_STATED = Stated({}, None)


def stated_by(config: DataConfig) -> Stated:
    """What the section states, with the entries of ``data.mix`` as one.

    A channel of a mixture has one mean and a model one time scale: those of the section, or else of the first entry
    that states them. An entry that states another mean, as the published data sets do of the pressure, is moved by the
    difference, filled channels too; the lead times of one that states another time scale are stretched. Each data set
    is then normalised with what it states.

    Raises:
        UserError: two entries state different standard deviations of a channel; values on the Dirichlet sides are to be
            enforced of a channel that is moved.
    """
    statistics = {name: (mean, std) for name, (mean, std) in config.statistics.items()}
    scales = [scale for scale in (config.time_scale, *(entry.time_scale for entry in config.mix)) if scale is not None]
    time_scale = scales[0] if scales else None
    adjustments = tuple(_adjustment(entry, statistics, time_scale) for entry in config.mix)
    _check_sides(config, adjustments)
    return Stated(statistics, time_scale, adjustments)


def _adjustment(entry: DataConfig, common: dict[str, tuple[float, float]], time_scale: float | None) -> Adjustment:
    """Of an entry of a mixture; what it is the first to state is added to ``common``."""
    offset = {}
    for name, (mean, std) in entry.statistics.items():
        first, width = common.setdefault(name, (mean, std))
        if std != width:
            raise UserError(
                f"data.mix: the standard deviation of {name!r} is stated as {width} and, for {entry.file}, as "
                f"{std}; a channel of a mixture has one"
            )
        if mean != first:
            offset[name] = mean - first
    if entry.time_scale is None or entry.time_scale == time_scale:
        return Adjustment(offset)
    return Adjustment(offset, time_scale / entry.time_scale)


def _check_sides(config: DataConfig, adjustments: Sequence[Adjustment]) -> None:
    """Refuse values on the Dirichlet sides that would mean something else in each data set."""
    for entry, adjustment in zip(config.mix, adjustments, strict=True):
        for output, source in config.dirichlet_values.items():
            if adjustment.offset.get(output, 0.0) != adjustment.offset.get(source, 0.0):
                raise UserError(
                    f"data.mix: {output!r} is {source!r} on the Dirichlet sides, but {entry.file} states a level of "
                    f"its own for one of them, which moves it against the other; state one mean for all data sets"
                )
