"""Optimisers and schedules do what the formulas of their papers say."""

import pytest
import torch
from torch import nn

from katops.config import TrainConfig
from katops.errors import UserError
from katops.training.optim import build_optimizer, build_schedule, check_schedule, steps_per_epoch, total_steps


def config(**values):
    return TrainConfig.model_validate({"learning_rate": 0.1, **values})


def rates(train, total, per_epoch):
    optimizer = build_optimizer(nn.Linear(2, 2), train)
    schedule = build_schedule(optimizer, train, total, per_epoch)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule is not None:
            schedule.step() if len(found) < total else None
    return found


def test_step_halves_the_rate_after_every_so_many_epochs():
    found = rates(config(schedule={"name": "step", "every": 2, "factor": 0.5}), 12, 3)
    assert found == pytest.approx([0.1] * 6 + [0.05] * 6)


def test_one_cycle_begins_and_ends_at_the_stated_fractions_of_the_rate():
    schedule = {"name": "one_cycle", "div_factor": 2.0, "final_div_factor": 100.0, "rise": 0.5}
    found = rates(config(schedule=schedule), 100, 10)
    assert found[0] == pytest.approx(0.05)
    assert max(found) == pytest.approx(0.1, rel=1e-3)
    assert found.index(max(found)) == pytest.approx(49, abs=1)
    assert found[-1] == pytest.approx(0.05 / 100)


def test_a_name_alone_is_the_schedule_with_its_defaults():
    assert rates(config(schedule="one_cycle"), 50, 5) == rates(config(), 50, 5)
    assert rates(config(schedule="constant"), 5, 5) == [0.1] * 5


def test_adam_adds_the_decay_to_the_gradient_of_every_parameter():
    """One step of Adam moves every parameter by the rate against the sign of gradient + decay * parameter."""
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, config(optimizer="adam", weight_decay=0.5))
    before = [parameter.detach().clone() for parameter in model.parameters()]
    sum((parameter * 0).sum() for parameter in model.parameters()).backward()
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new, old - 0.1 * old.sign(), rtol=1e-4, atol=1e-5)


def test_adamw_leaves_biases_without_decay():
    model = nn.Linear(3, 2)
    optimizer = build_optimizer(model, config(weight_decay=0.5))
    bias, weight = model.bias.detach().clone(), model.weight.detach().clone()
    sum((parameter * 0).sum() for parameter in model.parameters()).backward()
    optimizer.step()
    torch.testing.assert_close(model.bias, bias, rtol=0, atol=0)
    torch.testing.assert_close(model.weight, weight * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            {"name": "one_cycle", "div_facto": 2},
            r"unknown option 'div_facto' of train\.schedule 'one_cycle'; did you mean",
        ),
        ({"name": "one_cycle", "rise": 1.5}, "rise must lie between 0 and 1"),
        ({"name": "step", "every": 0}, "every must be at least 1 epoch"),
        ({"name": "step", "factor": "half"}, "option 'factor' of .* must be a number"),
        ({"name": "cosine", "total_steps": 3}, "'total_steps' of train.schedule 'cosine' is set by katops"),
    ],
)
def test_a_wrong_option_of_a_schedule_is_told_before_any_data_are_read(schedule, message):
    with pytest.raises(UserError, match=message):
        check_schedule(config(schedule=schedule))


def test_an_epoch_has_a_step_for_the_last_incomplete_batch():
    train = config(batch_size=8, epochs=3)
    assert steps_per_epoch(train, 17) == 3
    assert total_steps(train, 17) == 9
    assert total_steps(config(batch_size=8, epochs=3, max_steps=4), 17) == 4
