"""One published data set: what a loader has to know beside its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

from katops.fields import Channel

LICENCE = "CC-BY-NC-4.0"
"""Of all data sets, by their cards: not for commercial use."""
CITATION = "Herde et al., Poseidon: Efficient Foundation Models for PDEs, NeurIPS 2024, arXiv:2405.19101"
POINTS = (128, 128)
"""Points of space of all data sets."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedSet:
    """The facts about one data set of https://huggingface.co/camlab-ethz.

    Sources: names, shapes and splits from the data set cards and from the classes of the published data code, which
    agree; means, standard deviations, time scales and bounds of the frames from those classes; equations, boundaries
    and end times from the paper's appendix B (arXiv:2405.19101).

    Attributes:
        name: of the repository on the Hub.
        code: the identifier in the published code.
        pretraining: whether the models were pretrained on it; else it is a downstream task.
        equation: in words.
        file: name of the file, once its chunks are joined as published.
        variables: array -> shape; of Helmholtz the arrays in the group of each sample.
        kind: what :mod:`katops.data.formats.pdegym` calls files with these arrays.
        boundary: of the equation.
        inputs, outputs: channels in the order in which they are fed.
        constants: names of fields without time that are fed behind the inputs.
        condition: names of parameters that are fed behind the constants, spread over the grid.
        fill: channels that the file lacks -> their value, or the name of an analytic field.
        mask: outputs that are neither learned nor judged; a mapping names the input that is nonzero where they are not.
        statistics: channel -> (mean, standard deviation), as in encoded = (value - mean) / std. Where the published
            code subtracts a pressure first, that offset is part of the mean here.
        end_time: physical time of the last frame; ``None`` for steady problems.
        normalising_frames: lead times count in frames divided by this number; ``None`` for steady problems.
        frames: frames of a trajectory; of Wave-Gauss, whose card says 15, the 16 that its size and the code imply.
        training_frames: a training pair consists of two of these, in order, or of one with itself.
        out_frames: the same with the later frames that the variant ``.out`` of the published code adds; empty where
            there is none.
        test_pair, out_pair: first and last frame that the tables of the paper are measured on, and those beyond the
            training frames; ``out_pair`` is ``None`` where the published code cannot make it.
        rollout_steps, out_rollout_steps: equal steps that the published rollouts take to get from one to the other.
        n_train, n_validation, n_test: samples; the first train, the last test, those before them validate.
        axes: of the arrays, where the published code takes them for others than (x, y).
        time_step: physical time between frames, where the file does not tell by the number of its frames.
    """

    name: str
    code: str
    pretraining: bool = False
    equation: str
    file: str
    variables: Mapping[str, tuple[int, ...]]
    kind: str
    boundary: str
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    constants: tuple[str, ...] = ()
    condition: tuple[str, ...] = ()
    fill: Mapping[str, float | str] = field(default_factory=dict)
    mask: tuple[str, ...] | Mapping[str, str] = ()
    statistics: Mapping[str, tuple[float, float]]
    end_time: float | None = 1.0
    normalising_frames: int | None = 20
    frames: int = 21
    training_frames: tuple[int, ...] = tuple(range(0, 15, 2))
    out_frames: tuple[int, ...] = tuple(range(0, 21, 2))
    test_pair: tuple[int, int] | None = (0, 14)
    out_pair: tuple[int, int] | None = (0, 20)
    rollout_steps: int | None = 7
    out_rollout_steps: int | None = 10
    n_train: int
    n_validation: int = 120
    n_test: int = 240
    axes: tuple[str, ...] | None = None
    time_step: float | None = None

    @property
    def is_steady(self) -> bool:
        """Whether there is no time."""
        return self.end_time is None

    @property
    def aliases(self) -> tuple[str, ...]:
        """The identifiers of the published code; steady sets have a second one, which adds the lead time 1."""
        return (self.code, f"{self.code}.time") if self.is_steady else (self.code,)

    @property
    def n_samples(self) -> int:
        """In all files together."""
        return self.n_train + self.n_validation + self.n_test

    @property
    def time_scale(self) -> float | None:
        """Physical time by which lead times are divided: that of ``normalising_frames`` frames."""
        if self.end_time is None or self.normalising_frames is None:
            return None
        return self.end_time * self.normalising_frames / (self.frames - 1)

    @property
    def loss_groups(self) -> tuple[tuple[str, ...], ...]:
        """Names of the outputs whose errors are taken together: the components of a vector, every scalar alone."""
        groups = groupby(self.outputs, key=lambda channel: channel.quantity or channel.name)
        return tuple(tuple(channel.name for channel in group) for _, group in groups)

    @property
    def group_bounds(self) -> tuple[int, ...]:
        """Where the loss groups begin in the outputs, and where the last one ends: 0, 1, 3, 4 for a fluid."""
        bounds = [0]
        for group in self.loss_groups:
            bounds.append(bounds[-1] + len(group))
        return tuple(bounds)
