"""Every bad sample is listed, not the first one only."""

import h5py
import numpy as np
import pytest

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.statistics import scan as scan_module
from katops.data.statistics.scan import exclude_line, scan
from katops.errors import UserError


@pytest.fixture
def spoiled(write_katops, fields):
    """Two files; in the second, samples 2 and 5 are bad."""
    good = {"coefficient": ("input", fields["coefficient"]), "velocity": ("state", fields["velocity"])}
    first = write_katops(good, times=np.arange(7), name="first.h5", parameters={"viscosity": np.ones(9)})
    velocity, coefficient = fields["velocity"].copy(), fields["coefficient"].copy()
    velocity[2, 4, 3, :3] = np.nan
    velocity[2, 6, 0, 0] = -np.inf
    coefficient[5, 1, 1] = np.inf
    viscosity = np.ones(9)
    viscosity[7] = np.nan
    bad = {"coefficient": ("input", coefficient), "velocity": ("state", velocity)}
    second = write_katops(bad, times=np.arange(7), name="second.h5", parameters={"viscosity": viscosity})
    return [describe(first), describe(second)]


@pytest.mark.parametrize("block_bytes", [1, 2**28])
def test_all_bad_samples_are_listed_with_channel_count_and_first_frame(spoiled, monkeypatch, block_bytes):
    monkeypatch.setattr(scan_module, "_BLOCK_BYTES", block_bytes)
    calls = []
    findings = scan(spoiled, lambda *done: calls.append(done))
    found = [(f.file.name, f.sample, f.number, f.channel, f.count, f.first_frame) for f in findings]
    assert found == [
        ("second.h5", 2, 11, "velocity", 4, 4),
        ("second.h5", 5, 14, "coefficient", 1, None),
        ("second.h5", 7, 16, "viscosity", 1, None),
    ]
    assert exclude_line(findings) == "exclude: [11, 14, 16]"
    assert calls[-1] == (36, 36)


def test_the_line_leaves_exactly_the_bad_samples_out(spoiled):
    with pytest.raises(UserError):
        FieldDataset(spoiled)
    numbers = [finding.number for finding in scan(spoiled)]
    dataset = FieldDataset(spoiled, exclude=numbers)
    assert len(dataset.read(np.arange(len(dataset))).x) == (18 - 3) * 6


def test_good_files_have_no_findings(steady, moving):
    assert scan(describe(steady)) == []
    assert scan(describe(moving)) == []


def test_the_end_of_a_short_trajectory_is_no_finding(write_katops, fields):
    velocity = fields["velocity"].copy()
    velocity[3, 5:] = np.nan
    path = write_katops({"velocity": ("state", velocity)}, times=np.arange(7))
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
        file["frames"] = [7, 7, 7, 5, 7, 7, 7, 7, 7]
    assert scan(describe(path)) == []
    with h5py.File(path, "r+") as file:
        file["frames"][3] = 6
    assert [(f.sample, f.count, f.first_frame) for f in scan(describe(path))] == [(3, 240, 5)]


def test_samples_that_lie_between_one_another_are_checked_too(tmp_path):
    values = np.random.default_rng(0).normal(size=(12, 20, 9))
    values[3, 4, 6] = np.nan
    np.save(tmp_path / "a.npy", values)
    layout = describe(tmp_path / "a.npy", inputs=["data"], outputs=[], axes=["x", "y", "sample"])
    assert [(f.sample, f.count) for f in scan(layout)] == [(6, 1)]


def test_a_sample_that_cannot_be_read_is_listed_with_the_reason(tmp_path):
    path = tmp_path / "packed.h5"
    values = np.random.default_rng(0).normal(size=(5, 12, 20))
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("a", data=values, chunks=(1, 12, 20), compression="gzip", fletcher32=True)
        chunk = dataset.id.get_chunk_info(3)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        file.write(b"\xff\x00\xff\x00")
    layout = describe(path, inputs=["a"], outputs=[], axes=["sample", "x", "y"])
    (finding,) = scan(layout)
    assert (finding.sample, finding.channel, finding.count) == (3, "a", 0)
    assert "damaged" in finding.problem


def test_a_file_that_is_gone_is_an_error_and_no_list(steady):
    layout = describe(steady)
    steady.unlink()
    with pytest.raises(UserError, match="cannot be found now"):
        scan(layout)
