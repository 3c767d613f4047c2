"""The files of ``katops generate --shard`` that belong together: found by their names, and checked."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from katops.data.containers.kinds import container_of
from katops.data.formats import describe
from katops.errors import UserError
from katops.generators.parts import JOINED, Part
from katops.generators.shards import ShardFolder
from katops.generators.writer import differences, listed, root_attributes

_OF_EACH = ("samples", "first_sample", "software", "rejected")


class Shard(NamedTuple):
    """A whole file of some of the samples of a set.

    Attributes:
        path: the file.
        attributes: root attributes in the katops layout, also where the file has another one.
    """

    path: Path
    attributes: dict[str, Any]

    @property
    def first(self) -> int:
        """Number of the first sample."""
        return int(self.attributes["first_sample"])

    @property
    def end(self) -> int:
        """Number after that of the last sample."""
        return self.first + int(self.attributes["samples"])

    @property
    def shared(self) -> dict[str, Any]:
        """The numbers and texts among the attributes that all shards of a set have alike."""
        own = (*_OF_EACH, *(key for key in self.attributes if key.startswith("max_")))
        plain = (str, bool, int, float, np.generic)
        return {key: value for key, value in self.attributes.items() if key not in own and isinstance(value, plain)}


def find_shards(output: Path) -> list[Path]:
    """``darcy-1-of-3.h5`` to ``darcy-3-of-3.h5`` for ``darcy.h5``.

    Raises:
        UserError: there are none, those of several sets, or not all of them.
    """
    name = re.compile(rf"{re.escape(output.stem)}-\d+-of-(\d+){re.escape(output.suffix)}(?:\.partial)?")
    beside = output.parent.iterdir() if output.parent.is_dir() else ()
    counts = sorted({int(found[1]) for path in beside if (found := name.fullmatch(path.name))})
    if len(counts) != 1:
        those = f"shards of sets of {' and of '.join(map(str, counts))}" if counts else "no shards"
        raise UserError(
            f"beside {str(output)!r} lie {those} with its name, such as {Part(1, 16).path(output).name}; name the "
            f"shards to join: katops generate --merge -o {output.name} SHARD..."
        )
    return [Part(number, counts[0]).path(output) for number in range(1, counts[0] + 1)]


def read_shards(paths: Iterable[Path]) -> list[Shard]:
    """The shards of one set in the order of their samples.

    Raises:
        UserError: a file is missing, unfinished, damaged, no shard or one of another set, or a sample is missing or
            there twice; the message names the file.
    """
    shards = sorted((_read(path) for path in paths), key=lambda shard: shard.first)
    for shard in shards[1:]:
        if unlike := differences(shard.attributes, shards[0].shared):
            raise UserError(f"{shard.path} and {shards[0].path} are of different sets, the former has {listed(unlike)}")
    _check_samples(shards)
    return shards


def _read(path: Path) -> Shard:
    if not path.exists():
        begun = ShardFolder(path).path
        if begun.exists():
            raise UserError(f"{path} is unfinished, {begun.name} is still there; run the command that makes it again")
        raise UserError(f"{path} is missing; make it with katops generate --shard")
    if container_of(path) != "hdf5":
        raise UserError(
            f"{path} is not HDF5, which alone joins files (small files of the layout fno are MATLAB 5); copy the "
            f"samples of all shards into one file with katops convert"
        )
    described, attributes = describe(path), root_attributes(path)
    if JOINED in attributes:
        raise UserError(f"{path} is itself joined from {attributes[JOINED]} shards; name those")
    if "set_samples" not in attributes:
        raise UserError(f"{path} is no shard of katops generate --shard")
    if described.n_samples != attributes["samples"]:
        raise UserError(f"{path} holds {described.n_samples} of its {attributes['samples']} samples; make it again")
    return Shard(path, attributes)


def _check_samples(shards: Sequence[Shard]) -> None:
    """Every sample once."""
    total, end = int(shards[0].attributes["set_samples"]), 0
    for before, shard in zip((None, *shards), shards, strict=False):
        if shard.first < end:
            raise UserError(f"{before.path} and {shard.path} both hold samples {shard.first} to {end - 1}")
        _check_gap(end, shard.first, total, f"those before the ones of {shard.path}")
        end = shard.end
    _check_gap(end, total, total, f"those after the ones of {shards[-1].path}")


def _check_gap(first: int, end: int, total: int, which: str) -> None:
    if end > first:
        raise UserError(
            f"samples {first} to {end - 1} of {total} are missing, {which}; make or name the shards that hold them"
        )
