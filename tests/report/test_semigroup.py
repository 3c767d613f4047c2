"""One step of 2t against two steps of t, for models whose semigroup is known."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.evaluation import semigroup
from katops.fields import Axis, Channel, FieldMeta, FieldSample
from katops.report import write_report
from katops.report.semigroup import semigroup_figure, semigroup_rows, semigroup_sentence

PERIODIC = Axis("x", "periodic_nodes", boundary=("periodic", "periodic"))
META = FieldMeta("heat", (Channel("u"),), (Channel("u"),), (PERIODIC,), steps_out=8, time_step=0.1, time_unit="s")


def heat(x, time):
    """The exact solution of the heat equation after a lead time, x (batch, 1, channel, points)."""
    wavenumber = torch.arange(x.shape[-1] // 2 + 1)
    decay = torch.exp(-0.02 * (2 * math.pi * wavenumber) ** 2 * time.view(-1, 1, 1, 1))
    return torch.fft.irfft(torch.fft.rfft(x) * decay, n=x.shape[-1])


def trajectories(samples=4, frames=8, space=32):
    x = torch.randn(samples, 1, 1, space, dtype=torch.float64)
    times = 0.1 * torch.arange(1, frames + 1, dtype=torch.float64)
    y = torch.cat([heat(x, time.expand(samples)) for time in times], 1)
    return FieldSample(x, y, time=torch.full((samples,), 0.1 * frames, dtype=torch.float64))


def in_batches(sample, size):
    for start in range(0, len(sample.x), size):
        yield sample.map(lambda values, rows=slice(start, start + size): values[rows])


def test_two_steps_of_the_exact_solution_are_one_step():
    found = semigroup(heat, in_batches(trajectories(), 3), META)
    np.testing.assert_allclose(found.times, [0.2, 0.4, 0.6, 0.8])
    for curve in ("one_step", "two_steps", "distance"):
        assert found.mean(curve).max() < 1e-12
    assert found.samples == 4


def test_errors_are_those_of_one_step_and_of_two_and_the_distance_lies_between_the_predictions():
    """A model whose every call is too large by a share that does not depend on the step is off twice in two steps."""
    found = semigroup(lambda x, time: 1.1 * heat(x, time), in_batches(trajectories(), 3), META)
    np.testing.assert_allclose(found.mean("one_step"), 0.1, rtol=1e-9)
    np.testing.assert_allclose(found.mean("two_steps"), 0.21, rtol=1e-9)
    np.testing.assert_allclose(found.mean("distance"), 0.11, rtol=1e-9)
    assert found.better_up_to == pytest.approx(0.8)
    assert "one step is at least as good as two of half the length up to the longest lead time, 0.8 s" in (
        semigroup_sentence(found, "test")
    )


def test_the_lead_time_beyond_which_two_steps_are_better_is_named():
    """A model whose error grows with the cube of the step: 0.1 + 20 t³ against twice 0.1 + 20 (t/2)³."""

    def model(x, time):
        return heat(x, time) * (1 + 0.1 + 2 * time.view(-1, 1, 1, 1) ** 3)

    found = semigroup(model, [trajectories()], META)
    expected_one = 0.1 + 2 * found.times**3
    expected_two = (1.1 + 2 * (found.times / 2) ** 3) ** 2 - 1
    np.testing.assert_allclose(found.mean("one_step"), expected_one, rtol=1e-9)
    np.testing.assert_allclose(found.mean("two_steps"), expected_two, rtol=1e-9)
    assert found.one_step_wins.tolist() == (expected_one < expected_two).tolist() == [True, True, False, False]
    assert found.better_up_to == pytest.approx(0.4)
    sentence = semigroup_sentence(found, "test")
    assert "up to a lead time of 0.4 s, but not beyond" in sentence
    assert [row.best for row in semigroup_rows(found).rows] == [1, 1, 2, 2]
    assert found.to_dict()["one_step_better_up_to"] == pytest.approx(0.4)


def test_batches_change_nothing_and_times_of_the_frames_are_used():
    sample = trajectories()
    sample.times_in = torch.full((4, 1), 3.0, dtype=torch.float64)
    sample.times_out = sample.times_in + 0.1 * torch.arange(1, 9, dtype=torch.float64)
    sample.time = None

    def model(x, time):
        return heat(x, time) + 0.01 * x

    whole, parts = (semigroup(model, in_batches(sample, size), META) for size in (4, 1))
    np.testing.assert_allclose(parts.mean("two_steps"), whole.mean("two_steps"), rtol=1e-12)
    np.testing.assert_allclose(parts.times, [0.2, 0.4, 0.6, 0.8])


def test_a_model_that_is_not_finite_is_infinitely_wrong():
    found = semigroup(lambda x, time: heat(x, time) / (time.view(-1, 1, 1, 1) < 0.35), [trajectories()], META)
    np.testing.assert_array_equal(np.isinf(found.mean("one_step")), [False, True, True, True])
    np.testing.assert_array_equal(np.isinf(found.mean("two_steps")), [False, False, False, True])
    json.dumps(found.to_dict(), allow_nan=False)


def test_what_is_constant_in_space_does_not_flatter_the_mean():
    channels = (Channel("density"), Channel("u"))
    meta = replace(META, inputs=channels, outputs=channels)
    sample = trajectories()
    both = FieldSample(
        *(torch.cat([torch.ones_like(values), values], 2) for values in (sample.x, sample.y)), time=sample.time
    )

    def model(x, time):
        return torch.cat([x[:, :, :1], 1.1 * heat(x[:, :, 1:], time)], 2)

    found = semigroup(model, in_batches(both, 3), meta)
    assert found.constant == ("density",)
    np.testing.assert_allclose(found.mean("one_step"), 0.1, rtol=1e-6)
    assert semigroup_rows(found).caption.endswith("Left out, because constant in space: density.")
    alone = semigroup(lambda x, time: 1.1 * x, [FieldSample(both.x[:, :, :1], both.y[:, :, :1], time=both.time)], META)
    np.testing.assert_allclose(alone.mean("one_step"), 0.1, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.randn(4, 1, 1, 32)}, "at least 3 frames; given: 2"),
        ({"time": None}, "no times, so that no step has a length"),
        ({"time": torch.arange(1.0, 5.0)}, "frames at different times"),
    ],
)
def test_trajectories_without_two_steps_are_refused(change, message):
    sample = trajectories()
    for key, value in change.items():
        setattr(sample, key, value)
    with pytest.raises(UserError, match=message):
        semigroup(heat, [sample], META)


def test_no_trajectory_is_refused():
    with pytest.raises(UserError, match="no trajectory to compare"):
        semigroup(heat, [], META)


def test_the_figure_draws_the_three_curves():
    found = semigroup(lambda x, time: 1.1 * heat(x, time), [trajectories()], META)
    (axes,) = semigroup_figure(found).axes
    drawn = {line.get_label(): line for line in axes.lines}
    np.testing.assert_allclose(drawn["one step of 2t"].get_ydata(), 0.1, rtol=1e-9)
    np.testing.assert_allclose(drawn["two steps of t"].get_ydata(), 0.21, rtol=1e-9)
    np.testing.assert_allclose(drawn["between the two"].get_ydata(), 0.11, rtol=1e-9)
    np.testing.assert_allclose(drawn["one step of 2t"].get_xdata(), found.times)
    assert axes.get_xlabel() == "lead time 2t [s]"


def test_a_group_without_an_error_keeps_its_name_in_the_figure():
    still = FieldSample(torch.ones(2, 1, 1, 8), torch.ones(2, 8, 1, 8), time=torch.full((2,), 0.8))
    (axes,) = semigroup_figure(semigroup(lambda x, time: x, [still], META)).axes
    assert [text.get_text() for text in axes.texts] == ["no data: no error is positive and finite"]
    assert axes.get_title() == "u"


def test_the_report_has_a_section_on_it(tmp_path, make_evaluation):
    found = semigroup(lambda x, time: 1.1 * heat(x, time), [trajectories()], META)
    evaluation = make_evaluation(1, samples=2)
    path = write_report(tmp_path, evaluations={"waves.h5": evaluation}, semigroups={"waves.h5": found}, summary={})
    page = path.read_text(encoding="utf-8")
    assert "One step against two on waves.h5" in page
    assert semigroup_sentence(found, "waves.h5") in page
    assert (tmp_path / "figures" / "semigroup.png").is_file()
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["semigroup"]["waves.h5"]["relative_l2"]["one_step"] == pytest.approx([0.1] * 4)
