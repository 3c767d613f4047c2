"""What is in the file that is written."""

import os
import tracemalloc

import h5py
import numpy as np
import pytest

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.problem import Samples
from katops.generators.writer import write


class Decay:
    """u(t, x) = u(0, x) exp(-rate t): a time-dependent problem with a closed form, two channels and a parameter."""

    times = np.array([0.0, 0.5, 1.0])
    meta = FieldMeta(
        name="decay",
        inputs=(Channel("u", "m"), Channel("mask")),
        outputs=(Channel("u", "m"),),
        axes=(
            Axis("x", grid="periodic_nodes", upper=2.0, boundary=("periodic", "periodic"), unit="m"),
            Axis("y", grid="nodes", lower=-1.0, boundary=("dirichlet", "neumann")),
        ),
        parameters=(Channel("rate", "1/s"),),
        time_step=0.5,
        time_unit="s",
    )

    def __init__(self, shape=(4, 6)):
        self.fields = {"u": StoredField("state", "m", (3, *shape)), "mask": StoredField("input", "", shape)}

    @property
    def recipe(self):
        return {"recipe": "decay", "recipe_version": 1, "equation": "u_t = -rate u"}

    def samples(self, seed, indices):
        rate = np.array([1.0 + index for index in indices])
        start = np.stack([np.full(self.fields["mask"].shape, seed + index, dtype=float) for index in indices])
        u = start[:, None] * np.exp(-rate[:, None] * self.times)[..., None, None]
        fields = {"u": u.astype(np.float32), "mask": (start % 2).astype(np.float32)}
        return Samples(fields, {"rate": rate}, {"rejected": rate % 2, "drift": rate / 100})


def test_a_darcy_file_has_the_documented_layout(problem, output):
    assert write(problem, 5, seed=3, path=output) == output
    samples = problem.samples(3, range(5))
    with h5py.File(output) as file:
        assert file.attrs["format"] == "katops"
        assert file.attrs["format_version"] == 1
        assert bool(file.attrs["complete"]) is True
        assert file.attrs["name"] == "darcy"
        assert {key: file.attrs[key] for key in problem.recipe} == problem.recipe
        assert (file.attrs["seed"], file.attrs["samples"], file.attrs["rejected"]) == (3, 5, 0)
        assert file.attrs["max_residual"] == samples.quality["residual"].max()
        assert len(file.attrs["recipe_hash"]) == 64
        assert list(file["fields"]) == ["coefficient", "pressure"]
        for name, role in (("coefficient", "input"), ("pressure", "output")):
            dataset = file["fields"][name]
            assert dict(dataset.attrs) == {"role": role, "unit": ""}
            assert dataset.dtype == np.dtype("<f4")
            assert (dataset.chunks, dataset.compression) == (None, None)
            np.testing.assert_array_equal(dataset, samples.fields[name])
        for position, name in enumerate("xy"):
            axis = file["axes"][name]
            np.testing.assert_array_equal(axis, (np.arange(8) + 0.5) / 8)
            assert axis.attrs["position"] == position
            assert (axis.attrs["grid"], axis.attrs["unit"]) == ("cell_centres", "")
            assert (axis.attrs["lower"], axis.attrs["upper"]) == (0.0, 1.0)
            assert list(axis.attrs["boundary"]) == ["dirichlet", "dirichlet"]
        np.testing.assert_array_equal(file["quality/residual"], samples.quality["residual"])
        assert "time" not in file
    assert os.listdir(output.parent) == ["darcy.h5"]


def test_times_parameters_quality_and_units_are_stored(tmp_path):
    path = write(Decay(), 7, seed=2, path=tmp_path / "decay.h5", shard_size=3)
    samples = Decay().samples(2, range(7))
    with h5py.File(path) as file:
        assert file["fields/u"].shape == (7, 3, 4, 6)
        assert file["fields/mask"].shape == (7, 4, 6)
        np.testing.assert_array_equal(file["fields/u"], samples.fields["u"])
        np.testing.assert_array_equal(file["time"], [0.0, 0.5, 1.0])
        assert file["time"].attrs["unit"] == "s"
        np.testing.assert_array_equal(file["parameters/rate"], np.arange(1.0, 8.0))
        assert file["parameters/rate"].attrs["unit"] == "1/s"
        np.testing.assert_array_equal(file["axes/x"], [0.0, 0.5, 1.0, 1.5])
        np.testing.assert_array_equal(file["axes/y"], np.linspace(-1, 1, 6))
        assert list(file["axes/y"].attrs["boundary"]) == ["dirichlet", "neumann"]
        assert (file.attrs["rejected"], file.attrs["max_drift"]) == (4, 0.07)


@pytest.mark.parametrize(("workers", "shard_size"), [(1, 1), (3, 4), (8, 100)])
def test_the_file_does_not_depend_on_workers_and_shards(problem, tmp_path, workers, shard_size, contents):
    reference = write(problem, 11, seed=0, path=tmp_path / "reference.h5", workers=1)
    path = write(problem, 11, seed=0, path=tmp_path / "other.h5", workers=workers, shard_size=shard_size)
    assert contents(path) == contents(reference)


def test_progress_counts_samples_from_none_to_all(problem, output):
    calls = []
    write(problem, 10, seed=0, path=output, shard_size=4, progress=lambda *call: calls.append(call))
    assert calls[0] == (0, 10)
    assert calls[-1] == (10, 10)
    assert sorted(calls) == calls
    assert len(calls) == 4


def test_what_a_problem_did_not_announce_is_refused(tmp_path):
    class Wrong(Decay):
        def samples(self, seed, indices):
            samples = super().samples(seed, indices)
            samples.fields["u"] = samples.fields["u"][:, :2]
            return samples

    with pytest.raises(RuntimeError, match="were announced"):
        write(Wrong(), 2, seed=0, path=tmp_path / "wrong.h5")


def test_values_that_are_not_finite_are_never_stored(tmp_path):
    class Broken(Decay):
        def samples(self, seed, indices):
            samples = super().samples(seed, indices)
            samples.fields["u"][0, 1, 2, 3] = np.nan
            return samples

    with pytest.raises(RuntimeError, match=r"not finite: fields/u"):
        write(Broken(), 2, seed=0, path=tmp_path / "broken.h5")
    assert not (tmp_path / "broken.h5").exists()


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    """100 MB are written with shards of 4 MB; two of them fit in the bound, the file does not."""
    problem = Decay(shape=(128, 128))
    tracemalloc.start()
    path = write(problem, 400, seed=0, path=tmp_path / "large.h5", workers=1, shard_size=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 100e6
    assert peak < 40e6
