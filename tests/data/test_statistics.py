"""Statistics beside the data: the same bits as reading again, and never those of other data."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.normalize import fit_normalizer
from katops.data.resample import Resample
from katops.data.statistics import cached as statistics
from katops.data.statistics import fields as field_statistics
from katops.data.statistics import store as statistics_store
from katops.data.statistics.cached import cached_fit, check_values
from katops.data.windows import Window
from katops.errors import UserError

TRAIN = [0, 3, 4, 7]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The user's cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def passes(monkeypatch) -> list:
    """One entry for each pass over the data."""
    done, original = [], field_statistics.field_statistics

    def counted(*arguments, **options):
        done.append(arguments)
        return original(*arguments, **options)

    monkeypatch.setattr(statistics, "field_statistics", counted)
    return done


def same(one, other) -> bool:
    states = [fit.normalizer.state_dict() | {"target": fit.target_mean} for fit in (one, other)]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0]) and one.count == other.count


def beside(path):
    return path.with_name(f"{path.name}.katops-statistics.json")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("inside", [0, 10**6])
def test_the_second_run_reads_nothing_and_gives_the_same_bits(moving, passes, monkeypatch, dtype, inside):
    monkeypatch.setattr(statistics_store, "_MOST_VALUES_INSIDE", inside)
    dataset = FieldDataset(describe(moving), window=Window(n_in=2, n_out=2), dtype=dtype)
    windows = dataset.of_samples(TRAIN)
    direct = fit_normalizer(dataset, windows)
    calls = []
    first, second = cached_fit(dataset, windows), cached_fit(dataset, windows, progress=lambda *n: calls.append(n))
    assert len(passes) == 1
    assert same(first, second)
    assert same(first, direct)
    assert second.statistics.outputs == direct.statistics.outputs
    assert calls == [(len(windows), len(windows))]
    assert cached_fit(dataset, windows, "none").normalizer.output_std.tolist() == [1.0]
    assert len(passes) == 1


def test_the_file_beside_the_data_can_be_read_by_people(moving):
    dataset = FieldDataset(describe(moving, inputs=["velocity"]), dtype=torch.float64)
    fit = cached_fit(dataset, dataset.of_samples(TRAIN))
    content = json.loads(beside(moving).read_text())
    (entry,) = content["entries"].values()
    row = entry["values"]["outputs"][0]
    assert (content["format"], row["name"], entry["values"]["files"]) == (
        "katops-statistics",
        "velocity",
        ["moving.h5"],
    )
    assert row["mean"] == float(fit.normalizer.output_mean[0])
    assert row["rms"] == pytest.approx(np.hypot(row["mean"], row["std"]))
    assert row["minimum"] < row["mean"] < row["maximum"]
    assert row["delta_std"] > row["std"]  # white noise


def test_everything_that_changes_the_result_has_an_entry_of_its_own(moving, passes):
    layout = describe(moving)
    variants = [
        {},
        {"window": Window(n_in=2)},
        {"resample": Resample(2)},
        {"resample": Resample(2, "block_mean")},
        {"dtype": torch.float64},
    ]
    datasets = [FieldDataset(layout, **options) for options in variants]
    datasets.append(FieldDataset(describe(moving, inputs=["velocity"])))
    for _ in range(2):
        for dataset in datasets:
            cached_fit(dataset, dataset.of_samples(TRAIN))
        cached_fit(datasets[0], datasets[0].of_samples([0, 3, 4]))
    assert len(passes) == len(datasets) + 1
    assert len(json.loads(beside(moving).read_text())["entries"]) == len(datasets) + 1


def test_statistics_of_several_files_lie_beside_their_folder(write_katops, fields, passes, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    layouts = []
    for number in range(3):
        channels = {"velocity": ("state", fields["velocity"] + number)}
        layouts.append(describe(write_katops(channels, times=np.arange(7), name=f"many/{number}.h5")))
    dataset = FieldDataset(layouts)
    first, second = (cached_fit(dataset, dataset.of_samples([0, 10, 20])) for _ in range(2))
    assert same(first, second)
    assert len(passes) == 1
    assert beside(folder).exists()
    assert sorted(path.name for path in folder.iterdir()) == ["0.h5", "1.h5", "2.h5"]
    # Other files of the same folder are other data.
    cached_fit(FieldDataset(layouts[:2]), [0, 1])
    assert len(passes) == 2


@pytest.mark.parametrize("change", ["value", "date"])
def test_a_file_that_changed_is_read_again(steady, passes, change):
    dataset = FieldDataset(describe(steady))
    before = cached_fit(dataset, TRAIN)
    if change == "value":
        with h5py.File(steady, "r+") as file:
            file["fields/pressure"][3] += 1.0
    else:
        # What lies between the samples that the fingerprint reads may have changed too.
        os.utime(steady, ns=(1, 1))
    after = cached_fit(FieldDataset(describe(steady)), TRAIN)
    assert len(passes) == 2
    assert same(before, after) == (change == "date")


def test_a_bad_value_that_was_written_after_the_statistics_is_found(steady):
    cached_fit(FieldDataset(describe(steady)), TRAIN)
    with h5py.File(steady, "r+") as file:
        file["fields/pressure"][3, 1, 1] = np.nan
    with pytest.raises(UserError, match="sample 3 of channel 'pressure'"):
        cached_fit(FieldDataset(describe(steady)), TRAIN)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: '{"format": "something else"}',
        lambda text: text.replace('"format_version": 1', '"format_version": 99'),
        lambda text: text.replace('"count": 960', '"count": 961', 1),
        lambda text: '{"format": "katops-statistics", "format_version": 1, "entries": [1]}',
    ],
)
def test_a_damaged_or_foreign_file_is_ignored_with_a_warning_and_written_anew(steady, passes, damage):
    dataset = FieldDataset(describe(steady))
    first = cached_fit(dataset, TRAIN)
    path = beside(steady)
    text = path.read_text()
    assert damage(text) != text
    path.write_text(damage(text))
    with pytest.warns(UserWarning, match=r"katops-statistics.json cannot be used and is ignored"):
        second = cached_fit(dataset, TRAIN)
    assert same(first, second)
    assert same(first, cached_fit(dataset, TRAIN))
    assert len(passes) == 2


def test_a_damaged_or_missing_mean_target_is_made_again(steady, passes, monkeypatch):
    monkeypatch.setattr(statistics_store, "_MOST_VALUES_INSIDE", 0)
    dataset = FieldDataset(describe(steady))
    first = cached_fit(dataset, TRAIN)
    (extra,) = steady.parent.glob("*.target-mean")
    extra.write_bytes(extra.read_bytes()[:-1] + b"\x7f")
    assert same(first, cached_fit(dataset, TRAIN))
    extra.unlink()
    assert same(first, cached_fit(dataset, TRAIN))
    assert len(passes) == 3


def test_where_the_folder_cannot_be_written_the_users_cache_is_used(steady, passes, cache):
    # Nobody, not even root, can put a file where a folder is.
    beside(steady).mkdir()
    dataset = FieldDataset(describe(steady))
    with pytest.warns(UserWarning, match="is ignored"):
        first = cached_fit(dataset, TRAIN)
    assert len(list((cache / "katops" / "statistics").glob("data.h5-*.katops-statistics.json"))) == 1
    with pytest.warns(UserWarning, match="is ignored"):
        assert same(first, cached_fit(dataset, TRAIN))
    assert len(passes) == 1


def test_nothing_fails_where_nothing_can_be_written(steady, cache):
    beside(steady).mkdir()
    cache.write_text("a file where the cache folder should be")
    dataset = FieldDataset(describe(steady))
    with pytest.warns(UserWarning, match="is ignored"), pytest.warns(UserWarning, match="cannot be kept for the next"):
        fit = cached_fit(dataset, TRAIN)
    assert same(fit, fit_normalizer(dataset, TRAIN))


def test_several_processes_at_once_lose_nothing(steady):
    # Under the name of the command line, importing katops leaves torch alone, which saves seconds.
    script = """
import sys
sys.argv[0] = "katops"
from pathlib import Path
from types import SimpleNamespace
from katops.data.statistics.store import StatisticsStore
store = StatisticsStore([SimpleNamespace(path=Path(sys.argv[1]))])
for number in range(8):
    store.add(f"{sys.argv[2]}{number}", {"number": number})
"""
    commands = [[sys.executable, "-c", script, str(steady), name] for name in "abcd"]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in processes] == [0] * 4
    entries = json.loads(beside(steady).read_text())["entries"]
    assert set(entries) == {f"{name}{number}" for name in "abcd" for number in range(8)}


def test_old_entries_make_room_for_new_ones(steady, monkeypatch):
    monkeypatch.setattr(statistics_store, "_MOST_ENTRIES", 2)
    monkeypatch.setattr(statistics_store, "_MOST_VALUES_INSIDE", 0)
    dataset = FieldDataset(describe(steady))
    for sample in range(5):
        cached_fit(dataset, [sample])
    assert len(json.loads(beside(steady).read_text())["entries"]) == 2
    assert len(list(steady.parent.glob("*.target-mean"))) == 2


def test_values_are_checked_once(steady, monkeypatch):
    read, original = [], statistics._read_all
    monkeypatch.setattr(statistics, "_read_all", lambda *a: (read.append(1), original(*a)))
    dataset = FieldDataset(describe(steady))
    check_values(dataset, [5, 6])
    check_values(FieldDataset(describe(steady)), [6, 5])
    assert len(read) == 1
    os.utime(steady, ns=(1, 1))
    check_values(FieldDataset(describe(steady)), [5, 6])
    check_values(FieldDataset(describe(steady)), [5])
    assert len(read) == 3


def test_a_bad_value_is_found_by_the_check_and_not_remembered_as_good(write_plain, plane):
    values = np.ones((5, 12, 20))
    values[3, 1, 1] = np.inf
    layout = describe(write_plain(a=np.ones((5, 12, 20)), b=values), **plane)
    for _ in range(2):
        with pytest.raises(UserError, match="sample 3 of channel 'b'"):
            check_values(FieldDataset(layout), [2, 3])
    check_values(FieldDataset(layout, allow_nonfinite=True), [2, 3])
    check_values(FieldDataset(layout), [])
