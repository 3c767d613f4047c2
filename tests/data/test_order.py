"""The order of samples: a pure function of seed and epoch, shared between ranks without loss or repetition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from katops.data.order import EpochSampler, RankSampler
from katops.errors import UserError

bounded = settings(max_examples=60, deadline=None)


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


def test_skipping_leaves_out_the_beginning_of_one_pass():
    sampler = EpochSampler(range(20), seed=1)
    whole = list(sampler)
    sampler.skip(7)
    assert list(sampler) == whole[7:]
    assert list(sampler) == whole
    assert len(sampler) == 20


def _ranks(n: int, world_size: int, **options) -> list[list[int]]:
    shares = []
    for rank in range(world_size):
        sampler = RankSampler(np.arange(100, 100 + n), rank=rank, world_size=world_size, **options)
        sampler.set_epoch(3)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
    return shares


@bounded
@given(st.integers(1, 6), st.integers(0, 40), st.booleans(), st.integers(0, 5))
def test_every_index_comes_once_per_epoch_over_all_ranks(world_size, more, shuffle, seed):
    n = world_size + more
    shares = _ranks(n, world_size, shuffle=shuffle, seed=seed)
    assert sorted(index for share in shares for index in share) == list(range(100, 100 + n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@bounded
@given(st.integers(1, 6), st.integers(0, 40), st.integers(0, 5))
def test_even_shares_lack_fewer_indices_than_there_are_ranks(world_size, more, seed):
    n = world_size + more
    shares = _ranks(n, world_size, even="drop", seed=seed)
    assert {len(share) for share in shares} == {n // world_size}
    assert len({index for share in shares for index in share}) == n - n % world_size


@bounded
@given(st.integers(1, 6), st.integers(1, 40))
def test_repeating_shares_are_even_and_lack_nothing(world_size, n):
    shares = _ranks(n, world_size, even="repeat", shuffle=False)
    assert {len(share) for share in shares} == {-(-n // world_size)}
    assert {index for share in shares for index in share} == set(range(100, 100 + n))


@bounded
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 30))
def test_the_batches_of_all_ranks_together_are_those_of_one_process(world_size, batch_size, more):
    n = world_size + more
    alone = EpochSampler(np.arange(100, 100 + n), seed=2)
    alone.set_epoch(3)
    order = list(alone)
    shares = _ranks(n, world_size, seed=2)
    for k in range(-(-n // (batch_size * world_size))):
        together = [i for share in shares for i in share[k * batch_size : (k + 1) * batch_size]]
        assert set(together) == set(order[k * batch_size * world_size : (k + 1) * batch_size * world_size])


def test_a_share_counts_as_distributed_so_that_it_is_not_shared_out_again():
    assert isinstance(RankSampler(range(5), rank=1, world_size=2), DistributedSampler)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 2, "world_size": 2}, "rank 2 is not one of 2"),
        ({"rank": 0, "world_size": 6}, "5 windows cannot be shared by 6"),
        ({"rank": 0, "world_size": 2, "even": "pad"}, "'pad'; allowed: False, 'drop', 'repeat'"),
    ],
)
def test_impossible_shares_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        RankSampler(range(5), **options)
