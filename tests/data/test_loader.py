"""Splits, the order of samples, and loading with and without worker processes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.loader import EpochSampler, batch_loader, split
from katops.errors import UserError


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 300), st.integers(1, 5), st.floats(0.0, 0.5), st.integers(0, 3), st.booleans())
def test_parts_are_disjoint_and_the_rest_completes_them(n, validation, test, seed, shuffle):
    parts = split(n, train=None, validation=validation, test=test, seed=seed, shuffle=shuffle)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(n))
    assert len(parts.validation) == validation
    assert len(parts.test) == int(test * n + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.2, 0.1), (1.0, 0.0, 0.0)]))
def test_shares_that_add_up_to_one_use_every_sample(n, shares):
    train, validation, test = shares
    parts = split(n, train=train, validation=validation, test=test)
    assert sum(map(len, (parts.train, parts.validation, parts.test))) == n


def test_a_share_is_not_short_of_a_sample_by_rounding():
    assert len(split(10, train=0.3, validation=0.3, test=0.3).train) == 3


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first, again, other = (split(100, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_validation_and_test_do_not_depend_on_the_number_of_training_samples():
    few, many = (split(100, train=train, validation=10, test=20, seed=5) for train in (7, 70))
    assert np.array_equal(few.test, many.test)
    assert np.array_equal(few.validation, many.validation)
    assert set(few.train) <= set(many.train)


def test_the_split_of_today_is_the_split_of_tomorrow():
    parts = split(12, train=None, validation=3, test=3, seed=0)
    assert (parts.validation.tolist(), parts.test.tolist()) == ([0, 4, 7], [5, 9, 10])


def test_without_shuffling_the_parts_are_stretches_of_the_file():
    parts = split(10, train=4, validation=2, test=3, shuffle=False)
    assert parts.train.tolist() == [0, 1, 2, 3]
    assert parts.validation.tolist() == [5, 6]
    assert parts.test.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": 900, "validation": 200, "test": 200}, r"train 900 \+ validation 200 \+ test 200 = 1300.*1200"),
        ({"train": None, "validation": 600, "test": 600}, "no training sample of the 1200"),
        ({"train": 1.5}, "train is 1.5; a float is a share"),
        ({"train": -1}, "given: -1"),
        ({"train": True}, "given: True"),
        ({"train": None, "test": None}, "train and test open"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(UserError, match=message):
        split(1200, **parts)


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    indices = np.arange(5, 45)
    sampler = EpochSampler(indices, seed=3)
    first = list(sampler)
    sampler.set_epoch(4)
    fifth = list(sampler)
    resumed = EpochSampler(indices, seed=3)
    resumed.set_epoch(4)
    torch.manual_seed(99)
    assert list(resumed) == fifth
    assert first != fifth
    assert sorted(first) == sorted(fifth) == indices.tolist()
    assert list(EpochSampler(indices, seed=4)) != first
    assert list(EpochSampler(indices, seed=3, shuffle=False)) == indices.tolist()


def test_loading_leaves_the_global_generator_alone(steady):
    loader = batch_loader(FieldDataset(describe(steady)), batch_size=4, shuffle=True)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def _batches(loader) -> list:
    return [(batch.x, batch.y, batch.index) for batch in loader]


# Python 3.12 and later warn about every fork of a process with threads, which torch has.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("start_method", ["fork", "forkserver", "spawn"])
def test_workers_give_the_batches_of_the_main_process(moving, start_method):
    dataset = FieldDataset(describe(moving))
    options = {"indices": dataset.of_samples([0, 2, 5, 8]), "batch_size": 5, "shuffle": True, "seed": 1}
    expected = batch_loader(dataset, **options)
    loader = batch_loader(dataset, **options, workers=2, start_method=start_method)
    for epoch in (0, 1):
        for one in (expected, loader):
            one.sampler.set_epoch(epoch)
        pairs = list(zip(_batches(loader), _batches(expected), strict=True))
        assert len(pairs) == 5
        assert all(torch.equal(a, b) for left, right in pairs for a, b in zip(left, right, strict=True))


def test_every_window_comes_once_and_the_last_batch_may_be_short(moving):
    loader = batch_loader(FieldDataset(describe(moving)), batch_size=16, shuffle=True)
    batches = _batches(loader)
    assert [len(index) for *_, index in batches] == [16, 16, 16, 6]
    seen = torch.cat([index for *_, index in batches]).tolist()
    assert sorted(seen) == [[m, s] for m in range(9) for s in range(6)]
    assert len(batch_loader(FieldDataset(describe(moving)), batch_size=16, drop_last=True)) == 3


# Lightning 2.6 calls parts of torch that newer torch deprecates, and advises on loader workers.
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:.*many workers")
def test_lightning_sets_the_epoch_of_the_order(steady):
    import lightning

    class Watch(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))
            self.seen = []

        def training_step(self, batch, batch_index):
            self.seen.append(batch.index[:, 0].tolist())
            return self.weight * batch.x.mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.0)

    loader = batch_loader(FieldDataset(describe(steady)), batch_size=9, shuffle=True, seed=6)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    watch = Watch()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", enable_model_summary=False, log_every_n_steps=1, **quiet
    )
    trainer.fit(watch, loader)
    orders = []
    for epoch in (0, 1):
        sampler = EpochSampler(range(9), seed=6)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert watch.seen == orders


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_failure_in_a_worker_reaches_the_caller_with_its_sentence(write_plain, plane):
    values = np.ones((4, 12, 20))
    values[2, 0, 0] = np.nan
    layout = describe(write_plain(a=np.ones((4, 12, 20)), b=values), **plane)
    sentences = []
    for workers in (0, 1):
        loader = batch_loader(FieldDataset(layout), batch_size=2, workers=workers, start_method="fork")
        with pytest.raises(UserError, match="sample 2 of channel 'b'") as caught:
            list(loader)
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]


def test_nothing_to_read_is_refused(steady):
    dataset = FieldDataset(describe(steady))
    with pytest.raises(UserError, match="no sample to read"):
        batch_loader(dataset, [], batch_size=2)
    with pytest.raises(UserError, match="batch_size is 10, but there are 9"):
        batch_loader(dataset, batch_size=10, drop_last=True)
