"""The table of PDEgym against the numbers of the paper and of the code that was published with it."""

from dataclasses import replace

import numpy as np
import pytest

from katops.data.analytic_fields import analytic_field
from katops.errors import UserError
from katops.pdegym import SETS, find_set, preset, resolve

FLUID = ["density", "velocity_x", "velocity_y", "pressure"]
# Name: identifier in the code, samples, training samples, channels in, channels out, frames, divisor of lead times.
ROWS = {
    "NS-Sines": ("fluids.incompressible.Sines", 20000, 19640, 4, 4, 21, 20),
    "NS-Gauss": ("fluids.incompressible.Gaussians", 20000, 19640, 4, 4, 21, 20),
    "CE-RP": ("fluids.compressible.Riemann", 10000, 9640, 4, 4, 21, 20),
    "CE-CRP": ("fluids.compressible.RiemannCurved", 10000, 9640, 4, 4, 21, 20),
    "CE-KH": ("fluids.compressible.KelvinHelmholtz", 10000, 9640, 4, 4, 21, 20),
    "CE-Gauss": ("fluids.compressible.Gaussians", 10000, 9640, 4, 4, 21, 20),
    "NS-PwC": ("fluids.incompressible.PiecewiseConstants", 20000, 19640, 4, 4, 21, 20),
    "NS-SVS": ("fluids.incompressible.VortexSheet", 20000, 19640, 4, 4, 21, 20),
    "NS-BB": ("fluids.incompressible.BrownianBridge", 20000, 19640, 4, 4, 21, 20),
    "NS-SL": ("fluids.incompressible.ShearLayer", 40000, 39640, 4, 4, 21, 20),
    "NS-Tracer-PwC": ("fluids.incompressible.PiecewiseConstants.tracer", 20000, 19640, 5, 5, 21, 20),
    "FNS-KF": ("fluids.incompressible.forcing.KolmogorovFlow", 20000, 19640, 5, 4, 21, 20),
    "CE-RPUI": ("fluids.compressible.RiemannKelvinHelmholtz", 10000, 9640, 4, 4, 21, 20),
    "CE-RM": ("fluids.compressible.RichtmyerMeshkov", 1260, 1030, 4, 4, 21, 20),
    "GCE-RT": ("fluids.compressible.gravity.RayleighTaylor", 1260, 1030, 5, 5, 11, 10),
    "Wave-Layer": ("wave.Layer", 10512, 10212, 2, 1, 21, 20),
    "Wave-Gauss": ("wave.Gaussians", 10512, 10212, 2, 1, 16, 15),
    "ACE": ("reaction_diffusion.AllenCahn", 15000, 14700, 1, 1, 20, 19),
    "SE-AF": ("fluids.compressible.steady.Airfoil", 10869, 10509, 1, 1, 1, None),
    "Poisson-Gauss": ("elliptic.poisson.Gaussians", 20000, 19640, 1, 1, 1, None),
    "Helmholtz": ("elliptic.Helmholtz", 19675, 19035, 2, 1, 1, None),
}
PRETRAINING = {"NS-Sines", "NS-Gauss", "CE-RP", "CE-CRP", "CE-KH", "CE-Gauss"}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_the_published_numbers_of_samples_channels_and_frames(name):
    code, samples, train, n_in, n_out, frames, divisor = ROWS[name]
    entry = SETS[name]
    assert find_set(code) is entry
    assert (entry.n_samples, entry.n_train) == (samples, train)
    assert len(entry.inputs) + len(entry.constants) + len(entry.condition) == n_in
    assert (len(entry.outputs), entry.frames, entry.normalising_frames) == (n_out, frames, divisor)
    assert entry.pretraining == (name in PRETRAINING)


def test_the_table_has_these_rows_and_no_other():
    assert list(SETS) == list(ROWS)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[-1]])
def test_lead_times_are_frames_by_the_published_divisor(name):
    entry = SETS[name]
    step = entry.time_step or entry.end_time / (entry.frames - 1)
    assert 2 * step / entry.time_scale == pytest.approx(2 / ROWS[name][-1], rel=1e-12)


@pytest.mark.parametrize("name", ROWS)
def test_pairs_and_tests_stay_inside_of_the_trajectories(name):
    entry = SETS[name]
    pairs = (entry.test_pair or (), entry.out_pair or ())
    assert all(frame < entry.frames for frame in (*entry.training_frames, *entry.out_frames, *pairs[0], *pairs[1]))
    if entry.is_steady:
        assert not entry.training_frames
    else:
        assert set(entry.training_frames) <= set(entry.out_frames or entry.training_frames)
        assert entry.test_pair == (0, 7 if name == "GCE-RT" else 14)
        expected = {"GCE-RT": (0, 10), "ACE": None, "Wave-Gauss": None}
        assert entry.out_pair == expected.get(name, (0, 20))
        assert entry.rollout_steps == (3 if name == "GCE-RT" else 7)


@pytest.mark.parametrize(
    ("name", "training", "out"),
    [("CE-RP", 66, 66), ("NS-PwC", 36, 66), ("GCE-RT", 36, 66), ("ACE", 36, 55), ("Wave-Gauss", 36, None)],
)
def test_trajectories_have_as_many_pairs_as_published(name, training, out):
    entry = SETS[name]
    assert _n_pairs(entry.training_frames) == training
    assert (_n_pairs(entry.out_frames) if entry.out_frames else None) == out


def test_components_of_a_vector_are_one_loss_group():
    assert SETS["CE-RP"].group_bounds == (0, 1, 3, 4)
    assert SETS["NS-Tracer-PwC"].group_bounds == (0, 1, 3, 4, 5)
    assert SETS["GCE-RT"].loss_groups[1] == ("velocity_x", "velocity_y")
    assert SETS["ACE"].group_bounds == (0, 1)


@pytest.mark.parametrize("name", ROWS)
def test_every_fed_channel_has_statistics_and_nothing_else_has(name):
    entry = SETS[name]
    fed = {channel.name for channel in (*entry.inputs, *entry.outputs)} | {*entry.constants, *entry.condition}
    assert set(entry.statistics) == fed
    assert all(std > 0 for _, std in entry.statistics.values())
    assert set(entry.fill) <= fed
    assert set(entry.mask) <= {channel.name for channel in entry.outputs}


@pytest.mark.parametrize(
    ("name", "offset"), [("CE-Gauss", 2.513), ("CE-KH", 1.0), ("CE-RP", 0.215), ("CE-CRP", 0.553), ("CE-RPUI", 1.33)]
)
def test_the_pressure_is_normalised_as_if_its_offset_was_subtracted_first(name, offset):
    mean, std = SETS[name].statistics["pressure"]
    pressure = np.linspace(0.1, 4.0, 7)
    np.testing.assert_allclose((pressure - mean) / std, ((pressure - offset) - 0.0) / 0.185, rtol=1e-12)


def test_density_of_incompressible_fluids_is_fed_as_published():
    mean, std = SETS["NS-PwC"].statistics["density"]
    assert (SETS["NS-PwC"].fill["density"] - mean) / std == pytest.approx(0.645161, abs=1e-6)


def test_the_force_is_that_of_a_grid_with_both_ends():
    points = (np.arange(128) + 0.5) / 128
    force = analytic_field(SETS["FNS-KF"].fill["forcing"])([points, points])
    x, y = np.meshgrid(np.linspace(0, 1, 128), np.linspace(0, 1, 128), indexing="ij")
    np.testing.assert_allclose(force, 0.1 * np.sin(2 * np.pi * (x + y)), atol=1e-14)
    mean, std = SETS["FNS-KF"].statistics["forcing"]
    # The published numbers are those of this very field, in single precision.
    assert force.mean() == pytest.approx(mean, abs=1e-8)
    assert force.std(ddof=1) == pytest.approx(std, rel=1e-6)


def test_an_unknown_field_is_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"'kolmogorov_force', which is not known; did you mean 'kolmogorov_forcing'\?"):
        analytic_field("kolmogorov_force")
    with pytest.raises(UserError, match="needs two axes"):
        analytic_field("kolmogorov_forcing")([np.arange(3.0)])


@pytest.mark.parametrize(("given", "meant"), [("NS-PwV", "NS-PwC"), ("Poisson", "Poisson-Gauss")])
def test_an_unknown_set_is_refused_with_the_nearest_and_all(given, meant):
    with pytest.raises(UserError, match=f"unknown data set '{given}'; did you mean '{meant}'.*NS-Sines.*Helmholtz"):
        preset(given)


def test_a_preset_states_what_differs_from_the_defaults_only():
    assert preset("ACE") == {
        "inputs": ["solution"],
        "outputs": ["solution"],
        "statistics": {"solution": [0.002484262, 0.65351176]},
        "pairs": {"frames": [0, 2, 4, 6, 8, 10, 12, 14], "identity": True},
        "time_scale": 2e-4,
        "split": {"preset": "ACE"},
    }
    assert preset("elliptic.Helmholtz.time") == preset("Helmholtz")
    assert preset("Helmholtz")["lead_time"] == 1.0
    assert preset("Helmholtz")["condition"] == ["boundary_value"]
    assert preset("SE-AF")["mask"] == {"density": "airfoil"}
    assert preset("NS-SL")["axes"] == ["sample", "time", "channel", "y", "x"]
    assert preset("Wave-Gauss")["time_step"] == pytest.approx(1 / 15)
    assert preset("Wave-Layer")["constants"] == ["wave_speed"]


def test_stated_keys_and_stated_entries_go_before_those_of_the_preset():
    found = resolve(
        {
            "file": "a.nc",
            "preset": "NS-PwC",
            "pairs": {"identity": False},
            "split": {"train": 8},
            "statistics": {"density": [1.0, 1.0]},
            "mask": [],
            "time_scale": None,
        }
    )
    assert found["inputs"] == found["outputs"] == FLUID
    assert found["pairs"] == {"frames": list(range(0, 15, 2)), "identity": False}
    assert found["split"] == {"preset": "NS-PwC", "train": 8}
    assert found["statistics"] == {**preset("NS-PwC")["statistics"], "density": [1.0, 1.0]}
    assert found["mask"] == []
    assert "time_scale" not in found


@pytest.mark.parametrize("nothing", [{}, None])
def test_an_empty_entry_takes_a_key_of_the_preset_away(nothing):
    found = resolve({"preset": "NS-PwC", "fill": nothing, "pairs": None})
    assert not found.get("fill")
    assert "pairs" not in found
    assert "mask" in found


@pytest.mark.parametrize("velocity", [["velocity"], ["velocity_x", "velocity_y"], ["u", "v"]])
def test_what_a_preset_says_of_channels_that_are_not_used_is_left_out(velocity):
    found = resolve({"preset": "NS-PwC", "inputs": velocity, "outputs": velocity})
    assert "fill" not in found
    assert "mask" not in found
    assert set(found["statistics"]) == {"velocity_x", "velocity_y"}


def test_a_masked_channel_that_is_only_an_input_is_not_masked():
    assert "mask" not in resolve({"preset": "NS-PwC", "outputs": ["velocity"]})


@pytest.mark.parametrize("split", [{"validation": 0.1, "test": 0.1}, {"preset": None, "test": 5}])
def test_a_split_with_sizes_of_its_own_replaces_the_published_one(split):
    assert resolve({"preset": "NS-PwC", "split": split})["split"] == split


@pytest.mark.parametrize("name", ROWS)
def test_resolving_twice_changes_nothing(name):
    once = resolve({"file": "a.nc", "preset": name, "split": {"train": 4}})
    assert resolve(once) == once


def test_without_a_preset_nothing_is_added():
    assert resolve({"file": "a.h5"}) == {"file": "a.h5"}


def test_a_set_without_time_has_no_time_scale():
    assert replace(SETS["ACE"], end_time=None).time_scale is None


def _n_pairs(frames):
    return sum(first <= second for first in frames for second in frames)


def test_the_page_has_a_row_with_the_facts_of_every_set(repository):
    page = (repository / "docs" / "pdegym.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    table = {row[0]: row for row in rows}
    assert list(SETS) == [name for name in table if name in SETS]
    for name, entry in SETS.items():
        use, equation, channels, boundary, time, pairs, split = table[name][1:]
        assert (use == "pretraining", equation, boundary) == (entry.pretraining, entry.equation, entry.boundary)
        fed = [channel.name for channel in entry.inputs] + [*entry.constants, *entry.condition]
        written = channels.split(" to ")[0].replace("velocity", "velocity_x, velocity_y").split(", ")
        assert written == fed
        assert split == f"{entry.n_train} / {entry.n_validation} / {entry.n_test}"
        if entry.is_steady:
            assert (time, pairs) == ("steady", "-")
        else:
            assert time == f"{entry.frames} to {entry.end_time:g}"
            assert pairs == f"0 to {entry.training_frames[-1]} by {entry.training_frames[1]}"


def test_frames_stated_in_words_replace_those_of_a_preset():
    assert resolve({"preset": "NS-PwC", "pairs": {"every": 4, "last": 20}})["pairs"] == {"every": 4, "last": 20}
    assert "frames" in resolve({"preset": "NS-PwC", "pairs": {"together": 8}})["pairs"]
