"""Part 3/16 of a data set: the jobs of an array make one file each, which are read together as one data set."""

import re
from pathlib import Path
from typing import NamedTuple

from katops.errors import UserError

JOINED = "shards"
"""Root attribute of a file that refers to that many others and holds no fields itself."""


class Part(NamedTuple):
    """One of ``count`` parts of nearly equal size, counted from 1.

    Sample i is the same in whatever part it lies, so that the parts together are the data set that one call makes.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Part":
        """The part of a text such as "3/16".

        Raises:
            UserError: it is none.
        """
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", str(text))
        part = cls(*map(int, found.groups())) if found else cls(0, 0)
        if not 1 <= part.number <= part.count:
            raise UserError(f"shard {text!r} is none; write 1/16, 2/16, ... 16/16 for the parts of a data set in 16")
        return part

    def indices(self, samples: int) -> range:
        """Which of the samples 0 ... ``samples - 1`` belong to this part.

        Raises:
            UserError: there are fewer samples than parts.
        """
        if samples < self.count:
            raise UserError(
                f"{samples} samples cannot be made in {self.count} shards; at most one shard for each sample"
            )
        return range((self.number - 1) * samples // self.count, self.number * samples // self.count)

    def path(self, output: str | Path) -> Path:
        """The file of this part: ``darcy-03-of-16.h5`` for ``darcy.h5``; ``output`` itself where it is the only one."""
        output = Path(output)
        if self.count == 1:
            return output
        width = len(str(self.count))
        return output.with_name(f"{output.stem}-{self.number:0{width}d}-of-{self.count}{output.suffix}")
