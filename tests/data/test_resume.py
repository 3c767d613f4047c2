"""The position among the batches: a run that was stopped sees what an uninterrupted one would have seen."""

import json

import lightning
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.loader import FieldLoader, batch_loader
from katops.errors import UserError


def _loader(file, **options) -> FieldLoader:
    return batch_loader(FieldDataset(describe(file)), **{"batch_size": 9, "shuffle": True, "seed": 5, **options})


def _rows(batches) -> list:
    return [batch.index[:, 1:3].tolist() for batch in batches]


def _epochs(loader: FieldLoader, epochs) -> list:
    rows = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        rows.append(_rows(loader))
    return rows


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2), st.integers(0, 6))
def test_a_loaded_position_continues_with_the_next_batch(moving, epoch, batches):
    whole = _epochs(_loader(moving), range(4))
    stopped = _loader(moving)
    _epochs(stopped, range(epoch))
    stopped.sampler.set_epoch(epoch)
    iterator = iter(stopped)
    assert _rows(next(iterator) for _ in range(batches)) == whole[epoch][:batches]
    # Positions are numbers, text and null.
    state = json.loads(json.dumps(stopped.state_dict()))
    assert (state["epoch"], state["batches"]) == (epoch if batches else max(epoch - 1, 0), batches or (epoch and 6))
    iterator.close()
    resumed = _loader(moving)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert len(resumed) == 6
    assert _epochs(resumed, range(epoch, 4)) == [whole[epoch][batches:], *whole[epoch + 1 :]]


def test_batches_that_were_read_ahead_but_not_handed_out_are_not_counted(moving):
    loader = _loader(moving)
    iterator = iter(loader)
    for taken in range(1, 4):
        next(iterator)
        assert loader.state_dict()["batches"] == taken


def test_without_setting_the_epoch_the_position_is_continued_too(moving):
    loader = _loader(moving)
    loader.sampler.set_epoch(2)
    iterator = iter(loader)
    begun = _rows([next(iterator), next(iterator)])
    resumed = _loader(moving)
    resumed.load_state_dict(loader.state_dict())
    assert begun + _rows(resumed) == _epochs(_loader(moving), [2])[0]
    assert _rows(resumed) == _epochs(_loader(moving), [2])[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("options", [{"workers": 1, "start_method": "fork"}, {"rank": 1, "world_size": 2}])
def test_workers_and_ranks_continue_too_and_the_position_is_that_of_all_ranks(moving, options):
    loader = _loader(moving, batch_size=4, **options)
    whole = _epochs(loader, [0, 1])
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    state = loader.state_dict()
    iterator.close()
    if "rank" in options:
        other = _loader(moving, batch_size=4, rank=0, world_size=2)
        iterator = iter(other)
        other.sampler.set_epoch(1)
        next(iterator)
        next(iterator)
        assert other.state_dict() == state
        iterator.close()
    resumed = _loader(moving, batch_size=4, **options)
    resumed.load_state_dict(state)
    assert _epochs(resumed, [1, 0]) == [whole[1][2:], whole[0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 6}, "the seed was 5 when it was saved and is 6 now"),
        ({"batch_size": 3}, "the batch size was 9 when it was saved and is 3 now"),
        ({"shuffle": False}, "the shuffling was True"),
        ({"indices": range(50)}, "the number of windows was 54 when it was saved and is 50 now"),
        ({"world_size": 2}, "the number of processes was 1 when it was saved and is 2 now"),
    ],
)
def test_the_position_of_another_loader_is_refused(moving, change, message):
    state = _loader(moving).state_dict()
    with pytest.raises(UserError, match=message):
        _loader(moving, **change).load_state_dict(state)


@pytest.mark.parametrize("change", [{"batches": 7}, {"batches": -1}, {"epoch": -1}, {"epoch": None}, {"batches": "2"}])
def test_a_position_that_does_not_exist_is_refused(moving, change):
    loader = _loader(moving)
    with pytest.raises(UserError, match="does not exist; an epoch has 6 batches"):
        loader.load_state_dict({**loader.state_dict(), **change})


class _Stopped(Exception):
    """Stands for a machine that goes down."""


class _Watch(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, number):
        self.seen.append((self.current_epoch, batch.index[:, 1:3].tolist()))
        return self.weight * batch.x.mean()

    def validation_step(self, batch, number):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class _StopAfter(lightning.Callback):
    """Saves a checkpoint after a step, or where an epoch or its validation ends, and stops."""

    def __init__(self, step, hook, path):
        self.step, self.hook, self.path = step, hook, path

    def on_train_batch_end(self, trainer, *_):
        self._stop(trainer, "on_train_batch_end")

    def on_validation_end(self, trainer, *_):
        self._stop(trainer, "on_validation_end")

    def on_train_epoch_end(self, trainer, *_):
        self._stop(trainer, "on_train_epoch_end")

    def _stop(self, trainer, hook):
        if hook == self.hook and trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise _Stopped


def _trainer(*callbacks) -> lightning.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        **quiet,
    )


@pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*many workers", "ignore:.*logging interval"
)
@pytest.mark.parametrize(
    ("step", "hook"),
    [
        *((step, "on_train_batch_end") for step in (2, 8, 17)),
        *((step, "on_train_epoch_end") for step in (6, 12)),
        (6, "on_validation_end"),
    ],
)
def test_a_lightning_run_that_was_stopped_sees_the_batches_of_an_uninterrupted_one(moving, tmp_path, step, hook):
    validation = batch_loader(FieldDataset(describe(moving)), batch_size=54)
    whole = _Watch()
    _trainer().fit(whole, _loader(moving), validation)
    assert len(whole.seen) == 18
    path = tmp_path / "stopped.ckpt"
    stopped, resumed = _Watch(), _Watch()
    with pytest.raises(_Stopped):
        _trainer(_StopAfter(step, hook, path)).fit(stopped, _loader(moving), validation)
    _trainer().fit(resumed, _loader(moving), validation, ckpt_path=path, weights_only=True)
    assert stopped.seen + resumed.seen == whole.seen
