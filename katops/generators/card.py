"""The data card: what a generated file holds, how it was made and what it cost, as Markdown beside it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from katops.data.formats import describe
from katops.data.layout import FileLayout
from katops.files import write_text
from katops.generators.card_statistics import ChannelSummary, summaries
from katops.generators.writer import root_attributes
from katops.registry import PROBLEMS

_TOLD_ELSEWHERE = {"format", "format_version", "complete", "name", "equation", "notes", "paper", "software"}
_WORDING = (
    "Generated with the published recipe named above; not the authors' files. Errors of models are comparable with "
    "those of other models on the same file; a published table is reproduced only where its baselines were run on this "
    "file, too."
)


class Cost(NamedTuple):
    """What a call of :func:`~katops.generators.writer.write` took.

    Attributes:
        samples: that were solved; fewer than the file holds where an interrupted call was continued.
        seconds: of wall clock.
        workers: threads.
        machine: model of the processor or GPU.
    """

    samples: int
    seconds: float
    workers: int
    machine: str


def write_card(path: Path, cost: Cost | None, picture: Path | None = None) -> Path:
    """Write the card of a generated file beside it, ``darcy.md`` for ``darcy.h5``.

    Args:
        path: the file.
        cost: of making it; ``None`` where it was there already.
        picture: to be shown in the card.

    Returns:
        The card.

    Raises:
        UserError: the file cannot be read, or the card cannot be written.
    """
    described, attributes = describe(path), root_attributes(path)
    name = str(attributes["name"])
    summary = PROBLEMS[name].summary if name in PROBLEMS else ""
    parts = [
        f"# {path.name}: {name}, {attributes.get('variant', '')}".rstrip(", "),
        f"{summary[0].upper()}{summary[1:]}." if summary else "",
        f"![samples]({picture.name})" if picture else "",
        f"**Equation** {attributes.get('equation', '')}",
        f"**Recipe** {attributes['paper']}" if "paper" in attributes else "",
        f"**Notes** {attributes['notes']}" if attributes.get("notes") else "",
        _WORDING,
        *_contents(described),
        *_statistics(described, summaries(described)),
        *_quality(attributes),
        *_making(described, attributes, cost),
    ]
    card = path.with_suffix(".md")
    write_text(card, "\n\n".join(part for part in parts if part) + "\n")
    return card


def _contents(layout: FileLayout) -> Iterable[str]:
    points = " x ".join(map(str, layout.space))
    frames = f", {int(layout.frames.max())} frames" if layout.time_dependent else ""
    yield f"## Contents\n\n{layout.n_samples} samples on {points} points{frames}; format `{layout.format}`."
    roles = {"input": layout.inputs, "output": layout.outputs, "constant": layout.constants}
    yield _table(
        ("channel", "unit", "role"),
        [
            (array.name, array.unit or "1", " and ".join(role for role, arrays in roles.items() if array in arrays))
            for array in layout.arrays
        ],
    )
    yield _table(
        ("axis", "points", "from", "to", "unit", "lower side", "upper side"),
        [
            (axis.name, axis.grid, f"{axis.lower:g}", f"{axis.upper:g}", axis.unit or "1", *axis.boundary)
            for axis in layout.meta.axes
        ],
    )
    if layout.times is not None:
        yield f"Times {layout.times.min():g} to {layout.times.max():g}, unit {layout.meta.time_unit or '1'}."
    if layout.meta.parameters:
        rows = zip(layout.meta.parameters, layout.parameters.T, strict=True)
        yield _table(
            ("parameter", "unit", "smallest", "mean", "largest"),
            [(p.name, p.unit or "1", *map(_number, (v.min(), v.mean(), v.max()))) for p, v in rows],
        )


def _statistics(layout: FileLayout, channels: Sequence[ChannelSummary]) -> Iterable[str]:
    yield "## Statistics\n\nOver all samples, frames and points."
    yield _table(
        ("channel", "mean", "standard deviation", "smallest", "largest"),
        [(c.name, *map(_number, (c.mean, c.std, c.minimum, c.maximum))) for c in channels],
    )
    edges = [2**k for k in range(max(len(c.bands) for c in channels))]
    yield (
        "Spectrum: share of the variance in each band of wavenumbers, in cycles per longest side; the mean over the "
        "first samples, in their last frame. Fields that are not periodic are mirrored at their ends first."
    )
    yield _table(
        ("channel", *(f"{edge} to {2 * edge}" for edge in edges)),
        [(c.name, *(f"{share:.2e}" for share in c.bands)) for c in channels],
    )


def _quality(attributes: dict[str, Any]) -> Iterable[str]:
    worst = {name[4:]: value for name, value in attributes.items() if name.startswith("max_")}
    yield f"## Quality\n\n{int(attributes.get('rejected', 0))} draws were rejected and drawn again."
    if worst:
        yield _table(("measured for each sample", "worst"), [(n, _number(value)) for n, value in worst.items()])


def _making(layout: FileLayout, attributes: dict[str, Any], cost: Cost | None) -> Iterable[str]:
    size = f"{sum(size for size, _ in layout.stamps) / 1e6:.4g} MB on disk"
    if layout.parts:
        size = f"{size} in {len(layout.parts)} files that this one joins"
    if cost is None or not cost.samples:
        yield f"## Cost\n\n{size}; the time was not measured in this call, which found the samples there."
    else:
        each = f"{cost.seconds / cost.samples:.3g} s for each of {cost.samples} samples"
        yield f"## Cost\n\n{size}; {cost.seconds:.3g} s on {cost.machine} with {cost.workers} threads, {each}."
    kept = {
        key: value
        for key, value in attributes.items()
        if key not in _TOLD_ELSEWHERE and not key.startswith("max_") and key != "rejected"
    }
    yield "## Recipe"
    yield _table(("", "value"), [(key, str(value)) for key, value in kept.items()])
    yield f"Made with {attributes.get('software', '')}."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _number(value: float) -> str:
    return f"{value:.5g}"
