"""Pairs of frames: which there are, that they are read right, and each frame once."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.loader import batch_loader
from katops.data.normalize import fit_normalizer
from katops.data.pairs import Pairs
from katops.errors import UserError


@pytest.mark.parametrize(("last", "count"), [(7, 36), (9, 55), (10, 66)])
def test_published_numbers_of_pairs(last, count):
    assert len(Pairs(tuple(range(0, 2 * last + 1, 2)))) == count


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 30), min_size=2, max_size=8), st.booleans())
def test_pairs_are_all_ordered_pairs_by_input_then_target(frames, identity):
    frames = tuple(sorted(frames))
    pairs = Pairs(frames, identity)
    expected = [(i, j) for i in frames for j in frames if i < j or (identity and i == j)]
    assert list(zip(pairs.starts, pairs.starts + pairs.distances, strict=True)) == expected
    assert all(distance % pairs.every == 0 for distance in pairs.distances)


def test_leads_keep_the_pairs_of_some_distances():
    pairs = Pairs((0, 2, 4, 6), leads=(2,))
    assert list(zip(pairs.starts, pairs.distances, strict=True)) == [(0, 2), (2, 2), (4, 2)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((),), "increasing frame numbers"),
        (((3, 1),), "increasing frame numbers"),
        (((0, 2), True, (3,)), "the distances of pairs.frames are"),
        (((5,), False), "leave no pair"),
    ],
)
def test_patterns_without_pairs_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        Pairs(*arguments)


def dataset_of(path, pairs, **options):
    return FieldDataset(describe(path, inputs=["velocity"], outputs=["velocity"], **options), window=pairs)


def test_every_pair_is_read_with_its_lead_time(moving, fields):
    pairs = Pairs((1, 3, 6))
    dataset = dataset_of(moving, pairs, constants=["coefficient"])
    assert len(dataset) == 9 * 6
    sample = dataset.read(np.arange(len(dataset)))
    for row in range(len(dataset)):
        trajectory, pair = divmod(row, 6)
        start, distance = pairs.starts[pair], pairs.distances[pair]
        np.testing.assert_array_equal(sample.x[row, 0, 0], fields["velocity"][trajectory, start])
        np.testing.assert_array_equal(sample.y[row, 0, 0], fields["velocity"][trajectory, start + distance])
        np.testing.assert_array_equal(sample.constants[row, 0], fields["coefficient"][trajectory])
        assert sample.time[row] == pytest.approx(0.5 * distance)
        assert sample.index[row].tolist() == [0, trajectory, start, distance]
        assert sample.times_in[row, 0] == pytest.approx(1 + 0.5 * start)
        assert sample.times_out[row, 0] == pytest.approx(1 + 0.5 * (start + distance))


def test_a_frame_is_read_once_for_all_pairs_of_a_batch(moving, monkeypatch):
    dataset = dataset_of(moving, Pairs((0, 1, 2, 3)))
    read = dataset.reader.read
    frames = []

    def counted(*requests):
        frames.extend((r.kind, f, s, t) for r in requests for f, s, t in zip(r.files, r.samples, r.starts, strict=True))
        read(*requests)

    monkeypatch.setattr(dataset.reader, "read", counted)
    dataset.read(np.arange(20))
    assert len(frames) == len(set(frames)) == 8  # two trajectories of four frames


def test_other_outputs_are_read_once_too(write_katops, fields):
    path = write_katops(
        {"velocity": ("state", fields["velocity"]), "vorticity": ("state", 2 * fields["velocity"])}, times=range(7)
    )
    layout = describe(path, inputs=["velocity"], outputs=["vorticity", "velocity"])
    sample = FieldDataset(layout, window=Pairs((0, 2))).read([0, 1, 2])
    np.testing.assert_array_equal(sample.y[1, 0, 0], 2 * fields["velocity"][0, 2])
    np.testing.assert_array_equal(sample.y[:, 0, 0], 2 * sample.y[:, 0, 1])


def test_statistics_count_a_frame_as_often_as_it_occurs_in_a_pair(moving, fields):
    pairs = Pairs((0, 2, 5), identity=False)
    dataset = dataset_of(moving, pairs)
    fit = fit_normalizer(dataset, dataset.of_samples([0, 4]))
    inputs = fields["velocity"][[0, 4]][:, pairs.starts].astype(np.float64)
    targets = fields["velocity"][[0, 4]][:, pairs.starts + pairs.distances].astype(np.float64)
    assert float(fit.normalizer.input_mean) == pytest.approx(inputs.mean(), abs=1e-6)
    assert float(fit.normalizer.input_std) == pytest.approx(inputs.std(), rel=1e-6)
    assert float(fit.normalizer.output_std) == pytest.approx(targets.std(), rel=1e-6)
    np.testing.assert_allclose(fit.target_mean[0, 0], targets.mean((0, 1)), atol=1e-6)


def test_too_short_trajectories_and_steady_problems_are_refused(moving, steady):
    with pytest.raises(UserError, match=r"pairs use frame 7, but sample 0 of .* has frames 0 to 6"):
        dataset_of(moving, Pairs((0, 7)))
    with pytest.raises(UserError, match="no channel has a time axis"):
        FieldDataset(describe(steady), window=Pairs((0,)))


def test_a_loader_hands_out_pairs_as_reading_does(moving):
    dataset = dataset_of(moving, Pairs((0, 3, 6)))
    batches = list(batch_loader(dataset, batch_size=7, shuffle=True, seed=2))
    index = torch.cat([batch.index for batch in batches])
    assert len({tuple(row) for row in index.tolist()}) == len(dataset)
    everything = dataset.read(np.arange(len(dataset)))
    places = {tuple(row): place for place, row in enumerate(everything.index.tolist())}
    order = [places[tuple(row)] for row in index.tolist()]
    assert torch.equal(torch.cat([batch.x for batch in batches]), everything.x[order])
    assert torch.equal(torch.cat([batch.y for batch in batches]), everything.y[order])


def test_pairs_keep_their_frames_when_replaced():
    pairs = Pairs([0, 4])
    assert replace(pairs, identity=False).frames == (0, 4)
