"""What a run reads: the training windows, and those that it never trains on."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np

from katops.data.adjustment import NOT_ADJUSTED, Adjustment
from katops.data.aligned import AlignedDataset
from katops.data.dataset import FieldDataset
from katops.data.mixture import MixedDataset
from katops.data.normalize import Fit
from katops.data.order import Mixing
from katops.data.pairs import Pairs
from katops.data.splits import Split
from katops.data.windows import WHOLE_TRAJECTORY, Window
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.training.stated import NOTHING_STATED, Stated
from katops.training.statistics import check_read, fit_parts

CheckProgress = Callable[[int, int], None]

FieldSource = FieldDataset | AlignedDataset | MixedDataset
"""What windows are read from."""


@dataclass(frozen=True)
class HeldOut:
    """Windows that are never trained on.

    Attributes:
        name: how the report calls it, the name of the file or folder.
        dataset: where to read.
        windows: indices into the data set.
        path: the file, folder or pattern.
        direct: whether every frame of a window is predicted from its input in one call, by its lead time.
        adjustment: from the units of ``dataset`` to those that the model learns.
    """

    name: str
    dataset: FieldSource
    windows: np.ndarray
    path: Path
    direct: bool = False
    adjustment: Adjustment = NOT_ADJUSTED

    def in_units_of_the_files(self) -> "HeldOut":
        """The same windows with levels and times as they are in the files."""
        adjustment = getattr(self.dataset, "adjustment", NOT_ADJUSTED)
        if not adjustment:
            return self
        return replace(self, dataset=self.dataset.without_adjustment(), adjustment=adjustment)

    def in_windows(self, name: str, window: Window) -> "HeldOut":
        """The same samples in other windows.

        Raises:
            UserError: a trajectory is shorter than the window.
        """
        dataset = self.dataset.with_window(window)
        windows = dataset.of_samples(self.dataset.samples_of(self.windows))
        return replace(self, name=name, dataset=dataset, windows=windows, direct=False)

    def direct_from_first(self) -> "HeldOut":
        """Of pairs: one window in each trajectory, with the first frame of the pairs in and all later ones out."""
        return replace(self.in_windows(self.name, direct_window(self.dataset.window)), direct=True)


@dataclass(frozen=True)
class RunData:
    """Everything a run reads.

    Attributes:
        dataset: windows of ``data.file``.
        split: samples of each part.
        validation: what the best epoch is chosen by; ``None`` where there is nothing to validate with.
        tests: the test sets, the main one first.
        fingerprint: of ``data.file``.
        parts: the data sets of a mixture; empty where there is one.
        weights: how often windows of each part are drawn.
        together: pairs of a trajectory that share a batch.
        stated: statistics and time scale that the configuration gives.
    """

    dataset: FieldSource
    split: Split
    validation: HeldOut | None
    tests: tuple[HeldOut, ...]
    fingerprint: str
    parts: tuple["RunData", ...] = ()
    weights: tuple[float, ...] = (1.0,)
    together: int = 1
    stated: Stated = NOTHING_STATED

    @property
    def meta(self) -> FieldMeta:
        """Channels, axes and window of the fields."""
        return self.dataset.meta

    def of_rollouts(self, window: Window) -> "RunData":
        """The same training samples in windows that are as long as a rollout; everything else as it is."""
        return replace(self, dataset=self.dataset.with_window(window))

    @property
    def train_windows(self) -> np.ndarray:
        """Windows of the training samples."""
        return self.dataset.of_samples(self.split.train)

    @property
    def mixing(self) -> Mixing | None:
        """How training windows are mixed; ``None`` where each is drawn once, alone."""
        if self.together == 1 and self.weights == (1.0,):
            return None
        windows = self.train_windows
        sources = np.zeros(len(windows), np.int64)
        if self.parts:
            sources = np.searchsorted(self.dataset.first_windows, windows, side="right") - 1
        return Mixing(sources, self.dataset.owners_of(windows), self.weights, self.together)

    @property
    def longest_lead(self) -> float | None:
        """The longest lead time of the training windows; ``None`` where there is no time."""
        if self.parts:
            leads = [part.longest_lead for part in self.parts]
            return None if None in leads else max(leads)
        windows = self.train_windows
        if isinstance(self.dataset.window, Pairs):
            places = self.dataset.places(windows)
            # One window for each distance of frames in each file is enough.
            distances = np.stack([places.files, places.targets - places.starts])
            windows = windows[np.unique(distances, axis=1, return_index=True)[1]]
        else:
            windows = windows[:1]
        times = [self.dataset.read([window]).time for window in windows]
        return None if any(time is None for time in times) else float(max(time.max() for time in times))

    def fit(self, kind: str, progress: CheckProgress | None = None) -> Fit:
        """Statistics of the training samples; every other sample is read once too, so that bad values show up now.

        Raises:
            UserError: a value is not finite, in whatever part.
        """
        parts = self.parts or (self,)
        shares = [(part.dataset, part.train_windows, weight) for part, weight in zip(parts, self.weights, strict=True)]
        fit = fit_parts(shares, self.dataset, kind, progress)
        for part in parts:
            for held_out in (*(() if part.validation is None else (part.validation,)), *part.tests):
                check_read(held_out.dataset, held_out.windows)
        return fit


def direct_window(pairs: Pairs) -> Window:
    """From the first frame of the pairs to all later ones that are neighbouring distances of pairs apart.

    They reach as far as the longest distance of pairs: no model is asked for a longer lead time than it has learned.

    Raises:
        UserError: no frame is predicted from another one.
    """
    distances = pairs.distances[pairs.distances > 0].tolist()
    if not distances:
        raise UserError("data.pairs are pairs of a frame with itself, so there is nothing to predict; give two frames")
    every = gcd(*distances)
    return Window(n_out=max(distances) // every, every=every, first=pairs.first, stride=WHOLE_TRAJECTORY)
