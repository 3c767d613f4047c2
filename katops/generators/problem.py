"""What a problem must offer so that :func:`katops.generators.writer.write` can turn it into a file."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np

from katops.data.writing import StoredField
from katops.fields import FieldMeta


class Samples(NamedTuple):
    """Some samples of a problem.

    Attributes:
        fields: channel -> (n, \\*shape), float32.
        parameters: name -> (n,), float64; the names are those of ``meta.parameters``.
        quality: name -> (n,), float64; always ``rejected``, the number of draws that were thrown away before this one,
            and what else was measured, with large meaning bad (``residual``, ...).
    """

    fields: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    quality: dict[str, np.ndarray]


class Problem(Protocol):
    """A partial differential equation with random data, of which samples are drawn and solved.

    Attributes:
        variants: values of the option ``variant``, the published recipes.
        meta: name, channels, axes and parameters.
        fields: the channels in the order of storage.
        times: the (T,) times of the frames, or ``None`` for a steady problem.
        recipe: everything that decides the numbers, apart from the seed; strings and numbers only. It becomes the root
            attributes of the file, and its hash tells whether two files hold the same data. At least ``recipe``,
            ``variant``, ``recipe_version`` (to be raised whenever the numbers change), ``equation``, ``solver``,
            ``solver_tolerance``, ``scheme``, ``native_resolution``, ``downsampling`` and ``grid``.
    """

    variants: ClassVar[tuple[str, ...]]
    meta: FieldMeta
    fields: Mapping[str, StoredField]
    times: np.ndarray | None

    @property
    def recipe(self) -> dict[str, Any]: ...

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """Samples ``indices`` of the data set with this seed.

        Sample i is a function of (recipe, seed, i) alone, bit for bit: neither the other indices, nor their order, nor
        the number of threads matter. Called from several threads at once.
        """
        ...
