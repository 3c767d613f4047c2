"""Forecasts at chosen times: one step each, or many."""

import math

import pytest
import torch
from torch import nn

from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.predictors import FieldPredictor
from katops.predictors.forecast import Forecast
from katops.predictors.keeping import keeping
from katops.predictors.rollout import Rollout
from katops.runs.forecasts import Request

META = FieldMeta("decay", (Channel("u"),), (Channel("u"),), (Axis("x"),), time_step=0.1)


class Decay(nn.Module):
    """The exact semigroup u(t) = exp(-3 t) u(0), with the time in units of the scale."""

    takes_time = True

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))
        self.leads = []

    def forward(self, x, time):
        self.leads.append(float(time[0]))
        return x * torch.exp(-self.rate * time)[:, None, None]


def decay(scale=1.0):
    normalizer = Normalizer(META, dtype=torch.float64)
    normalizer.time_scale.fill_(scale)
    return FieldPredictor(Decay(), normalizer, META)


def state():
    return torch.linspace(1, 2, 8, dtype=torch.float64).expand(2, 1, 1, 8)


def test_direct_forecasts_take_one_call_for_each_time():
    predictor = decay()
    y = Forecast(predictor, [0.25, 1.0])(state(), torch.tensor([2.0, 2.0], dtype=torch.float64))
    assert predictor.model.leads == [0.5, 2.0]
    for frame, time in enumerate((0.5, 2.0)):
        torch.testing.assert_close(y[:, frame], state()[:, 0] * math.exp(-3 * time))


def test_steps_are_equal_and_none_is_longer_than_asked_for():
    predictor = decay()
    forecast = Forecast(predictor, [0.3, 1.0], step=0.2, last=1.0)
    assert forecast.calls == [2, 4]
    y = forecast(state())
    assert predictor.model.leads == pytest.approx([0.15, 0.15, 0.175, 0.175, 0.175, 0.175])
    torch.testing.assert_close(y[:, 1], state()[:, 0] * math.exp(-3))


def test_a_step_of_the_distance_of_the_times_takes_one_call_in_spite_of_rounding():
    fractions = [(frame + 1) / 7 for frame in range(7)]
    assert Forecast(decay(), fractions, step=1 / 7).calls == [1] * 7
    assert Forecast(decay(), [0.1, 0.2, 0.3, 1.0], step=0.1).calls == [1, 1, 1, 7]


def test_steps_of_different_lengths_are_the_distances_of_the_times():
    predictor = decay()
    Forecast(predictor, [0.1, 0.4, 1.0], step=1.0, last=1.0)(state())
    assert predictor.model.leads == pytest.approx([0.1, 0.3, 0.6])


def test_steps_end_at_the_stops_and_frames_between_them_do_not_change_the_way():
    predictor = decay()
    forecast = Forecast(predictor, [0.25, 0.5, 0.75, 1.0], step=0.5, last=1.0, stops=[0.75, 1.0])
    assert forecast.calls == [2, 1]
    y = forecast(state())
    assert predictor.model.leads == pytest.approx([0.25, 0.375, 0.125, 0.375, 0.25])
    for frame in range(4):
        torch.testing.assert_close(y[:, frame], state()[:, 0] * math.exp(-3 * (frame + 1) / 4))


def test_the_model_sees_times_in_units_of_the_time_scale():
    predictor = decay(scale=4.0)
    predictor(state(), torch.tensor([2.0, 2.0], dtype=torch.float64))
    assert predictor.model.leads == [0.5]


def test_model_files_from_before_there_were_time_scales_have_the_scale_one():
    normalizer = Normalizer(META)
    normalizer.time_scale.fill_(5.0)
    older = {name: value for name, value in Normalizer(META).state_dict().items() if name != "time_scale"}
    fresh = Normalizer(META)
    fresh.load_state_dict(older)
    assert float(fresh.time_scale) == 1.0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([0.5, 0.5],), "must increase from 0 on"),
        (([0.0, 1.0],), "must increase from 0 on"),
    ],
)
def test_times_that_do_not_increase_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Forecast(decay(), *arguments)


def test_steps_without_length_and_models_without_time_are_refused():
    with pytest.raises(UserError, match="must be above 0"):
        Forecast(decay(), [1.0], step=0.0)
    with pytest.raises(UserError, match="takes the lead time"):
        Forecast(FieldPredictor(nn.Identity(), Normalizer(META), META), [1.0])
    with pytest.raises(UserError, match="times of the frames are not known"):
        Forecast(decay(), [1.0])(state())


@pytest.mark.parametrize(
    ("request_of", "words"),
    [
        ({"rollout": 3, "times": (1.0,)}, "either rollout"),
        ({"rollout": 0}, "at least 1 frame"),
        ({"times": (1.0, 0.5)}, "must increase from above 0 on"),
        ({"times": ()}, "must increase from above 0 on"),
        ({"step": 0.1}, "step is for predictions at chosen times"),
        ({"times": (1.0,), "step": "automatic"}, "a lead time or 'auto'"),
    ],
)
def test_requests_that_contradict_themselves_are_refused(request_of, words):
    with pytest.raises(UserError, match=words):
        Request(**request_of)


class Spoiled(nn.Module):
    """u(t) = exp(-3 t) u(0) + p, and a pressure that was never learned."""

    takes_time = True

    def __init__(self):
        super().__init__()
        self.pressure = nn.Parameter(torch.tensor(7.0, dtype=torch.float64))

    def forward(self, x, time):
        u = x[:, :1] * torch.exp(-3 * time)[:, None, None] + x[:, 1:]
        return torch.cat([u, self.pressure.expand_as(u)], 1)


def test_what_a_data_set_does_not_learn_stays_what_it_is_in_the_input():
    channels = (Channel("u"), Channel("p"))
    meta = FieldMeta("flow", channels, channels, (Axis("x"),), time_step=0.1)
    predictor = FieldPredictor(Spoiled(), Normalizer(meta, dtype=torch.float64), meta)
    assert keeping(predictor, {}) is keeping(predictor, {"p": "u", "q": None}) is predictor
    kept = keeping(predictor, {"p": None})
    x = torch.rand(2, 1, 2, 8, dtype=torch.float64)
    x[:, :, 1] = 0.0
    time = torch.ones(2, dtype=torch.float64)
    stepped, rolled = Forecast(kept, [0.5, 1.0], step=0.25)(x, time), Rollout(kept, 4)(x, time)
    torch.testing.assert_close(stepped[:, -1, 0], x[:, 0, 0] * math.exp(-3))
    torch.testing.assert_close(rolled[:, 1::2], stepped)
    assert (rolled[:, :, 1] == 0).all()
    assert (Rollout(predictor, 4)(x, time)[:, -1, 0] > 7).all()
