"""Batches with and without worker processes, shared between ranks."""

import gc
import itertools
import multiprocessing
import subprocess
import sys
import threading
import time
from collections import Counter

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import SequentialSampler

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.loader import batch_loader
from katops.data.order import EpochSampler
from katops.errors import UserError


def test_loading_leaves_the_global_generator_alone(steady):
    loader = batch_loader(FieldDataset(describe(steady)), batch_size=4, shuffle=True)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


FIELDS = ("index", "x", "y", "time", "parameters", "times_in", "times_out")


def _batches(loader) -> list:
    return [tuple(getattr(batch, name) for name in FIELDS) for batch in loader]


def _rows(loader) -> list:
    return [batch.index[:, 1:3].tolist() for batch in loader]


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "katops-read-ahead"]


@pytest.fixture
def compressed(moving, tmp_path):
    """The moving file with every frame compressed: HDF5 itself has to read it."""
    path = tmp_path / "compressed.h5"
    with h5py.File(moving) as source, h5py.File(path, "w", track_order=True) as file:
        file.attrs.update(source.attrs)
        for name in source:
            source.copy(name, file)
        values = file["fields/velocity"][()]
        attributes = dict(file["fields/velocity"].attrs)
        del file["fields/velocity"]
        file.create_dataset("fields/velocity", data=values, chunks=(1, 1, 12, 20), compression="gzip", shuffle=True)
        file["fields/velocity"].attrs.update(attributes)
    return path


def test_what_is_held_in_memory_is_read_before_the_workers_are_forked(moving):
    dataset = FieldDataset(describe(moving), memory="ram")
    array = dataset.layout.inputs[0]
    assert dataset.reader._memory.held(0, array).values is None
    assert len(_rows(batch_loader(dataset, batch_size=9, workers=2, start_method="fork"))) == 6
    assert dataset.reader._memory.held(0, array).values is not None


def test_every_window_comes_once_and_the_last_batch_may_be_short(moving):
    loader = batch_loader(FieldDataset(describe(moving)), batch_size=16, shuffle=True)
    batches = _batches(loader)
    assert [len(index) for index, *_ in batches] == [16, 16, 16, 6]
    seen = torch.cat([index for index, *_ in batches]).tolist()
    assert sorted(seen) == [[0, m, s, 1] for m in range(9) for s in range(6)]
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
            self.seen.append(batch.index[:, 1].tolist())
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


@pytest.fixture(autouse=True, scope="module")
def _quick_forkserver():
    """Forked from a process that has imported torch already, workers start in a moment instead of seconds."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["katops.data.loader"])


# Under spawn every worker imports torch, which takes seconds: there one stands for all: what differs is
# how it gets the data set. All world sizes are served by the same workers.
STARTS = [("fork", (1, 2, 3, 8)), ("forkserver", (1, 3)), ("spawn", (1,))]
PROCESSES = [(method, workers) for method, counts in STARTS for workers in counts]


# Python 3.12 and later warn about every fork of a process with threads, which torch has.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*worker processes")
@pytest.mark.parametrize(("start_method", "workers"), [(None, 0), *PROCESSES])
def test_every_window_comes_once_and_the_same_whatever_the_workers_and_ranks(moving, start_method, workers):
    dataset = FieldDataset(describe(moving))
    everything = Counter((m, s) for m in range(9) for s in range(6))
    options = {"batch_size": 4, "shuffle": True, "seed": 3}
    loader = batch_loader(dataset, **options, rank=0, world_size=2, workers=workers, start_method=start_method)
    for epoch, world_size in itertools.product((0, 1), (1, 2, 3)):
        seen = Counter()
        for rank in range(world_size):
            # Who reads what is decided by the sampler, in this process.
            loader.sampler.rank, loader.sampler.num_replicas = rank, world_size
            loader.sampler.set_epoch(epoch)
            batches = _batches(loader)
            order = list(loader.sampler)
            expected = [dataset.read(order[first : first + 4]) for first in range(0, len(order), 4)]
            assert len(batches) == len(expected) == len(loader)
            for batch, whole in zip(batches, expected, strict=True):
                assert all(torch.equal(ours, getattr(whole, name)) for ours, name in zip(batch, FIELDS, strict=True))
                seen.update(map(tuple, batch[0][:, 1:3].tolist()))
        assert seen == everything


def test_batches_that_are_kept_never_change(moving, fields):
    dataset = FieldDataset(describe(moving))
    loader = batch_loader(dataset, batch_size=2)
    kept = list(loader)
    assert len(kept) == 27
    for number, batch in enumerate(kept):
        expected = dataset.read([2 * number, 2 * number + 1])
        assert torch.equal(batch.x, expected.x)
        assert torch.equal(batch.y, expected.y)


def test_memory_of_batches_that_are_dropped_is_used_again(moving):
    loader = batch_loader(FieldDataset(describe(moving)), batch_size=1)
    places = set()
    for batch in loader:
        places.add(batch.x.data_ptr())
        del batch
    assert len(places) <= 6


def test_iterations_may_be_nested_and_given_up(moving):
    dataset = FieldDataset(describe(moving))
    loader = batch_loader(dataset, batch_size=16, shuffle=True)
    expected = _rows(loader)
    outer = []
    for batch in loader:
        outer.append(batch.index[:, 1:3].tolist())
        assert _rows(loader) == expected
        for _ in loader:
            break
    assert outer == expected
    iterator = iter(loader)
    next(iterator)
    assert _threads()
    del iterator
    gc.collect()
    assert not _threads()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_worker_processes_may_serve_nested_and_abandoned_iterations(moving):
    loader = batch_loader(FieldDataset(describe(moving)), batch_size=16, workers=1, start_method="fork", shuffle=True)
    expected = _rows(loader)
    outer = []
    for batch in loader:
        outer.append(batch.index[:, 1:3].tolist())
        if len(outer) == 2:
            assert _rows(loader) == expected
    assert outer == expected
    for _ in loader:
        break
    assert _rows(loader) == expected


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("file", ["moving", "compressed"])
def test_workers_may_be_forked_while_a_thread_reads_ahead(request, file):
    dataset = FieldDataset(describe(request.getfixturevalue(file)), memory="file")
    loader = batch_loader(dataset, batch_size=3)
    expected = _rows(loader)
    for number, _ in enumerate(loader):
        if number % 4 == 0:
            assert _rows(batch_loader(dataset, batch_size=3, workers=1, start_method="fork")) == expected


def test_an_error_ends_the_iteration_and_its_thread_and_the_next_iteration_starts_anew(moving):
    dataset = FieldDataset(describe(moving), memory="file")
    loader = batch_loader(dataset, batch_size=9)
    batches = _rows(loader)
    away = moving.with_name("away.h5")
    moving.rename(away)
    with pytest.raises(UserError, match=r"moving\.h5"):
        list(loader)
    assert not _threads()
    away.rename(moving)
    assert _rows(loader) == batches


def test_even_shares_give_every_rank_the_same_number_of_batches(moving):
    dataset = FieldDataset(describe(moving))
    for even, lengths in ((False, [11, 11, 11, 11, 10]), ("drop", [10] * 5)):
        loaders = [batch_loader(dataset, batch_size=1, rank=rank, world_size=5, even=even) for rank in range(5)]
        assert [len(loader) for loader in loaders] == lengths
        assert [len(list(loader)) for loader in loaders] == lengths


def test_a_full_batch_is_asked_of_every_rank(steady):
    with pytest.raises(
        UserError, match="batch_size is 4, but there are 3 windows to train on in each of the 3 processes"
    ):
        batch_loader(FieldDataset(describe(steady)), batch_size=4, drop_last=True, rank=1, world_size=3)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_the_epoch_may_be_set_after_the_iterator_was_made(moving, workers):
    loader = batch_loader(
        FieldDataset(describe(moving)), batch_size=16, shuffle=True, workers=workers, start_method="fork"
    )
    loader.sampler.set_epoch(3)
    expected = _rows(loader)
    loader.sampler.set_epoch(0)
    iterator = iter(loader)
    loader.sampler.set_epoch(3)
    assert _rows(iterator) == expected


def test_another_sampler_in_place_of_ours_is_followed(moving):
    # Lightning does this where it is told to overfit a few batches.
    dataset = FieldDataset(describe(moving))
    loader = batch_loader(dataset, batch_size=6, shuffle=True)
    other = type(loader)(dataset, batch_size=6, sampler=SequentialSampler(dataset), collate_fn=loader.collate_fn)
    assert _rows(other) == _rows(batch_loader(dataset, batch_size=6))
    state = other.state_dict()
    other.load_state_dict({**state, "batches": 7})
    assert _rows(other) == _rows(batch_loader(dataset, batch_size=6))[7:]


class Hanging(FieldDataset):
    """A data set whose file system does not answer from the third window on."""

    def read(self, indices, *arguments):
        if max(indices) >= 12:
            time.sleep(30)
        return super().read(indices, *arguments)


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_that_hangs_ends_with_a_sentence(moving, workers):
    method = "fork" if workers else None
    loader = batch_loader(Hanging(describe(moving)), batch_size=6, workers=workers, timeout=3.0, start_method=method)
    began = time.monotonic()
    with pytest.raises(UserError, match=r"data\.timeout"):
        list(loader)
    assert time.monotonic() - began < 25


DYING = """
import os, signal, sys
from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.loader import batch_loader, worker_failure

class Dying(FieldDataset):
    def read(self, indices, *arguments):
        if max(indices) >= 12:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().read(indices, *arguments)

try:
    for batch in batch_loader(Dying(describe(sys.argv[1])), batch_size=6, workers=1, start_method="fork"):
        pass
except RuntimeError as error:
    sys.exit(str(worker_failure(error)))
except ValueError as error:
    sys.exit(str(error))
"""


def test_a_reading_process_that_is_killed_ends_with_a_sentence(moving):
    # In a process of its own: torch raises the error wherever the program is when it gets the signal.
    ended = subprocess.run([sys.executable, "-c", DYING, str(moving)], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "a process that reads data was ended from outside" in ended.stderr
