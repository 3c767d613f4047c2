"""Evaluations of known predictions on small analytic fields."""

import math

import pytest
import torch

from katops.evaluation import evaluate
from katops.fields import Axis, Channel, FieldMeta, FieldSample

SPACES = {1: (24,), 2: (16, 10), 3: (6, 5, 4)}


def waves(samples, channels, space):
    """Products of sines whose amplitude and phase depend on the sample and the channel."""
    field = torch.ones(samples, channels, *space)
    for axis, size in enumerate(space):
        points = (torch.arange(size) + 0.5) / size
        shape = [1] * (2 + len(space))
        shape[2 + axis] = size
        phase = torch.linspace(0, 3, samples * channels).reshape(samples, channels, *[1] * len(space))
        field = field * torch.sin(2 * math.pi * points.reshape(shape) + phase + axis)
    return field + 2


@pytest.fixture(scope="session")
def make_evaluation():
    """make_evaluation(n_axes, ...) -> Evaluation of a model whose error on sample i is ``factor * (i + 1)`` percent."""

    def make(
        n_axes=2,
        *,
        channels=(("u", "m/s"),),
        steps=1,
        samples=5,
        factor=1.0,
        constant=False,
        broken=False,
        baseline=True,
        axes=None,
        name="waves",
    ):
        named = tuple(Channel(*channel) for channel in channels)
        axes = axes or tuple(Axis(axis, upper=2.0 if axis == "x" else 1.0, unit="m") for axis in "xyz"[:n_axes])
        meta = FieldMeta(name, named, named, axes, steps_out=steps, time_step=0.1 if steps > 1 else None)
        space = SPACES[n_axes]
        first = torch.full((samples, len(named), *space), 3.0) if constant else waves(samples, len(named), space)
        y = torch.stack([first * 0.9**step for step in range(steps)], dim=1)
        scale = 1 + 0.01 * factor * torch.arange(1, samples + 1).reshape(-1, *[1] * (2 + n_axes))
        prediction = y * scale
        if broken:
            prediction[0, 0, 0].flatten()[0] = math.nan
        index = torch.tensor([0, 10, 0, 1]) + torch.arange(samples)[:, None] * torch.tensor([0, 1, 0, 0])
        predictors = {"model": lambda x, time: prediction}
        if baseline:
            predictors["mean"] = lambda x, time: y * 0.5
        return evaluate(predictors, [FieldSample(first[:, None], y, index=index)], meta)

    return make
