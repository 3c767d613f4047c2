"""The result of an evaluation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from katops.evaluation.drift import Drift
from katops.evaluation.examples import Example
from katops.evaluation.groups import GroupErrors, not_smaller
from katops.fields import FieldMeta

N_WORST = 10


@dataclass(frozen=True)
class Spectra:
    """Radial power spectra, averaged over samples and output frames; see :func:`katops.spectrum.radial_spectrum`.

    Attributes:
        truth, prediction, error: (output channel, shell); shell κ is the wavenumber in cycles per longest side.
        resolved: the last shell that lies whole on the grid.
    """

    truth: np.ndarray
    prediction: np.ndarray
    error: np.ndarray
    resolved: int


@dataclass(frozen=True)
class Evaluation:
    """What came out of :func:`evaluate`. The first predictor is the model, the others are baselines.

    A sample whose prediction is not finite counts as infinitely wrong in every metric, so means become infinite and
    ``nonfinite`` says why. Of errors per frame only those of the frames concerned are infinite; these frames are left
    out of the spectra, of the drift and of the error map. What is masked in a sample enters nothing.

    Attributes:
        meta: channels, axes and units of the test set.
        space: points per axis.
        samples: number of samples (windows, for trajectories).
        errors: {predictor: {metric: (samples,) float64}}; NaN where a metric has no meaning for a sample: VRMSE where
            the whole target is constant in space.
        channels: {predictor: {output channel: {"relative_l2": mean over samples, "rmse": pooled over all samples}}};
            without channels that are masked in all samples. The first is of samples whose target is not zero, and NaN
            where all are.
        constant: output channels whose target is constant in space in all frames of all samples; VRMSE leaves them out.
        groups: errors by channel group and frame.
        steps: {predictor: (steps_out,)}: relative L2 of each output frame, mean over samples.
        amplitudes: {predictor: (steps_out,)}: norm of each predicted frame over that of the target, mean over
            samples; 1 is right, and what grows without bound is an unstable rollout.
        lead_times: (steps_out,): from the last input to each output frame; ``None`` where they are unknown or differ
            from sample to sample.
        spectra: of the model, ``None`` if no prediction was finite.
        drift: of the model's statistics, frame by frame; ``None`` if no prediction was finite.
        error_map: (output channel, \\*space), mean absolute error of the model over samples and frames.
        examples: a few samples with their fields, best first.
        indices: (samples, 4) provenance (file, sample, first frame, distance of frames) of each sample, or ``None``
            where the data have none.
        nonfinite: {predictor: number of samples with a NaN or an infinity in the prediction}.
        nonfinite_frames: {predictor: (steps_out,)}: the same for each output frame.
        zero_targets: samples whose target is zero everywhere; their relative errors have no meaning.
        seconds_per_sample: wall time of the model's predictions; the first batch (warming up) is left out.
    """

    meta: FieldMeta
    space: tuple[int, ...]
    samples: int
    errors: dict[str, dict[str, np.ndarray]] = field(repr=False)
    channels: dict[str, dict[str, dict[str, float]]]
    constant: tuple[str, ...]
    groups: GroupErrors
    steps: dict[str, np.ndarray]
    amplitudes: dict[str, np.ndarray]
    lead_times: np.ndarray | None
    spectra: Spectra | None = field(repr=False)
    drift: Drift | None = field(repr=False)
    error_map: np.ndarray = field(repr=False)
    examples: list[Example] = field(repr=False)
    indices: np.ndarray | None = field(repr=False)
    nonfinite: dict[str, int]
    nonfinite_frames: dict[str, np.ndarray]
    zero_targets: int
    seconds_per_sample: float

    @property
    def model(self) -> str:
        """Name of the first predictor."""
        return next(iter(self.errors))

    @property
    def baselines(self) -> list[str]:
        """Names of all other predictors."""
        return list(self.errors)[1:]

    @property
    def constant_groups(self) -> list[str]:
        """Groups of which every channel is constant in space."""
        names = [channel.name for channel in self.meta.outputs]
        groups = self.groups.groups.items()
        return [group for group, places in groups if all(names[place] in self.constant for place in places)]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """{predictor: {metric: mean over the samples for which it has a meaning}}; NaN where it has for none."""
        return {
            name: {metric: float(defined(e).mean()) if defined(e).size else math.nan for metric, e in table.items()}
            for name, table in self.errors.items()
        }

    def quantiles(self, metric: str = "relative_l2") -> dict[str, dict[str, float]]:
        """{predictor: {"median", "p90", "maximum": error}} over the samples for which the metric has a meaning.

        Each is the error of some sample (nearest rank), so that an infinite error does no harm to the others.
        """
        names, levels = ("median", "p90", "maximum"), (0.5, 0.9, 1.0)
        found = {}
        for name, table in self.errors.items():
            errors = defined(table[metric])
            values = np.quantile(errors, levels, method="inverted_cdf") if errors.size else np.full(3, math.nan)
            found[name] = dict(zip(names, values.tolist(), strict=True))
        return found

    @property
    def useful_frames(self) -> dict[str, int]:
        """{baseline: number of frames from the first on in which the mean error of the model is the smaller one}."""
        frames = len(self.steps[self.model])
        return {baseline: worse[0] - 1 if worse else frames for baseline, worse in self.worse_frames.items()}

    @property
    def worse_frames(self) -> dict[str, list[int]]:
        """{baseline: frames, counted from 1, in which the mean error of the model is not the smaller one}."""
        ours = self.steps[self.model]
        return {baseline: not_smaller(ours, self.steps[baseline]) for baseline in self.baselines}

    @property
    def first_nonfinite_frame(self) -> dict[str, int]:
        """{predictor: the first frame, counted from 1, in which some sample is not finite}; without the finite ones."""
        return {
            name: int(np.flatnonzero(counts)[0]) + 1 for name, counts in self.nonfinite_frames.items() if counts.any()
        }

    def worst(self, count: int = N_WORST) -> list[dict[str, Any]]:
        """The ``count`` samples with the largest relative L2 error of the model, worst first."""
        errors = self.errors[self.model]["relative_l2"]
        order = np.argsort(-errors, kind="stable")[:count]
        return [{**self._provenance(position), "relative_l2": float(errors[position])} for position in order.tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON, without the fields and the per-sample errors; non-finite becomes ``None``."""
        names = [channel.name for channel in self.meta.outputs]
        spectra = self.spectra and {
            key: getattr(self.spectra, key).tolist() for key in ("truth", "prediction", "error")
        } | {"resolved": self.spectra.resolved}
        return finite_or_none(
            {
                "samples": self.samples,
                "space": list(self.space),
                "model": self.model,
                "metrics": self.metrics,
                "relative_l2_quantiles": self.quantiles(),
                "channels": self.channels,
                "constant_channels": list(self.constant),
                "groups": {name: [names[place] for place in group] for name, group in self.groups.groups.items()},
                "group_errors": self.groups.to_dict(),
                "relative_l2_per_step": {name: values.tolist() for name, values in self.steps.items()},
                "amplitude_per_step": {name: values.tolist() for name, values in self.amplitudes.items()},
                "lead_times": None if self.lead_times is None else self.lead_times.tolist(),
                "useful_frames": self.useful_frames,
                "worse_frames": self.worse_frames,
                "worse_frames_per_group": {b: self.groups.worse_frames(self.model, b) for b in self.baselines},
                "first_nonfinite_frame": self.first_nonfinite_frame,
                "worst": self.worst(),
                "nonfinite": self.nonfinite,
                "zero_targets": self.zero_targets,
                "seconds_per_sample": self.seconds_per_sample,
                "spectra": spectra,
                "drift": self.drift and self.drift.to_dict(names),
                "meta": self.meta.to_dict(),
            }
        )

    def _provenance(self, position: int) -> dict[str, int]:
        if self.indices is None:
            return {"position": position}
        file, sample, frame, _ = self.indices[position].tolist()
        several = {"file": file} if self.indices[:, 0].any() else {}
        return {"position": position, **several, "sample": sample, "first_frame": frame}


def defined(errors: np.ndarray) -> np.ndarray:
    """The errors that have a meaning: those that are not NaN."""
    return errors[~np.isnan(errors)]


def finite_or_none(value: Any) -> Any:
    """Nested containers with ``None`` in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
