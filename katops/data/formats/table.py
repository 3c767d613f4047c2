"""One record per file format, found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from katops.data.layout import FileLayout, Statement
from katops.data.storage import StoredTree
from katops.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Format:
    """One way to arrange fields in a file.

    Attributes:
        name: as reported in :attr:`FileLayout.format` and as written in ``data.format``.
        summary: how the format is recognised and where it is published, for people.
        recognise: whether a file has this format; looks at its contents only and reads no file.
        describe: (contents, statement) -> layout; raises UserError where the contents do not fit.
        licence: of the published data, "" where it is not known or not one.
    """

    name: str
    summary: str
    recognise: Callable[[StoredTree], bool]
    describe: Callable[[StoredTree, Statement], FileLayout]
    licence: str = ""


class FormatTable:
    """The formats by name, in the order in which they were registered."""

    def __init__(self, formats: Iterable[Format] = ()) -> None:
        self._formats: dict[str, Format] = {}
        for entry in formats:
            self.add(entry)

    def add(self, entry: Format) -> None:
        """Register a format.

        Raises:
            ValueError: the name is taken.
        """
        if entry.name in self._formats:
            raise ValueError(f"the format {entry.name!r} is registered already; choose another name")
        self._formats[entry.name] = entry

    def __getitem__(self, name: str) -> Format:
        """The format of that name.

        Raises:
            UserError: there is none; the message suggests the nearest name and lists all.
        """
        if name not in self._formats:
            raise UserError(
                f"data.format: unknown format {name!r}{did_you_mean(name, self._formats)} "
                f"Known: {', '.join(self._formats)}."
            )
        return self._formats[name]

    def __contains__(self, name: str) -> bool:
        return name in self._formats

    def __iter__(self) -> Iterator[Format]:
        return iter(self._formats.values())

    def __len__(self) -> int:
        return len(self._formats)
