"""Drawing samples again until the solver accepts them: nothing that failed is ever stored."""

from collections.abc import Callable, Sequence

import numpy as np

from katops.errors import UserError
from katops.generators.problem import Samples

MAX_DRAWS = 20

Attempt = Callable[[np.ndarray, np.ndarray], tuple[Samples, np.ndarray]]
"""``attempt(indices, redraws)`` -> the samples and (n,) bool, which of them may be stored."""


def accepted_samples(problem: str, indices: Sequence[int], attempt: Attempt) -> Samples:
    """Samples of which every one was accepted; ``quality["rejected"]`` counts the draws thrown away before it.

    A sample is refused where ``attempt`` says so or where one of its numbers is not finite, and is drawn again with
    ``redraw`` one larger (:func:`~katops.generators.random_stream.random_stream`).

    Args:
        problem: its name, for the error.
        indices: the samples.
        attempt: draws and solves (n,) ``indices`` with (n,) ``redraws``.

    Raises:
        UserError: a sample was refused 20 times in a row: the options leave too few.
    """
    indices = np.asarray(indices, dtype=np.int64)
    redraws = np.zeros(len(indices), dtype=np.int64)
    open_samples = np.arange(len(indices))
    found: Samples | None = None
    while open_samples.size:
        drawn, accepted = attempt(indices[open_samples], redraws[open_samples])
        if found is None:
            found = Samples(*({name: np.empty_like(values) for name, values in group.items()} for group in drawn))
        good = accepted & _finite(drawn)
        for target, source in zip(found, drawn, strict=True):
            for name, values in source.items():
                target[name][open_samples[good]] = values[good]
        open_samples = open_samples[~good]
        redraws[open_samples] += 1
        if (redraws >= MAX_DRAWS).any():
            sample = indices[redraws.argmax()]
            raise UserError(f"{problem}: {MAX_DRAWS} draws of sample {sample} were refused; change the options")
    if found is None:
        raise ValueError("no samples were asked for")
    found.quality["rejected"] = redraws.astype(np.float64)
    return found


def _finite(samples: Samples) -> np.ndarray:
    """(n,) bool: whether all numbers of a sample are finite."""
    arrays = [values for group in samples for values in group.values()]
    return np.all([np.isfinite(values.reshape(len(values), -1)).all(axis=1) for values in arrays], axis=0)
