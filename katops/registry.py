"""Registries: the one place where a string becomes something callable.

A registry holds one frozen record per name. Names from YAML, from the command line and from ``create_layer`` are looked
up here and nowhere else, so a configuration can never name code that was not registered.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from katops.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Record:
    """One registered name.

    Attributes:
        name: the name users write.
        factory: builds the thing; its signature is the list of allowed options.
        summary: one line for ``katops models`` and the documentation.
        paper: where it was published, empty if nowhere.
        kind: of layers, the slot they fit: "activation", "norm", "basis", "channel mixer" or "space mixer"; of models,
            what they work on: "operator" (fields), "image" or "table".
    """

    name: str
    factory: Callable[..., Any]
    summary: str
    paper: str = ""
    kind: str = ""


class Registry:
    """Names and their records.

    Args:
        kind: what is registered, in the singular, as error messages should call it ("layer").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._records: dict[str, Record] = {}

    def register(self, name: str, *, summary: str, paper: str = "", kind: str = "") -> Callable[[Callable], Callable]:
        """Decorator that registers a class or a function under ``name`` and returns it unchanged.

        Raises:
            ValueError: the name is taken.
        """

        if name in self._records:
            raise ValueError(f"the {self.kind} {name!r} is registered already; choose another name")

        def decorate(factory: Callable) -> Callable:
            self._records[name] = Record(name, factory, summary, paper, kind)
            return factory

        return decorate

    def __getitem__(self, name: str) -> Record:
        """The record of ``name``.

        Raises:
            UserError: nothing is registered under that name; the message suggests the nearest name and lists all.
        """
        if name not in self._records:
            raise UserError(
                f"unknown {self.kind} {name!r}{did_you_mean(name, self._records)} "
                f"Registered: {', '.join(sorted(self._records)) or 'none'}."
            )
        return self._records[name]

    def __contains__(self, name: str) -> bool:
        return name in self._records

    def __iter__(self) -> Iterator[Record]:
        return iter(sorted(self._records.values(), key=lambda record: record.name))

    def __len__(self) -> int:
        return len(self._records)

    def names(self, pattern: str = "*") -> list[str]:
        """Sorted names that match a shell pattern such as ``mgno*``."""
        return [record.name for record in self if fnmatch(record.name, pattern)]


LAYERS = Registry("layer")
MODELS = Registry("model")
METRICS = Registry("metric")
PROBLEMS = Registry("problem")
