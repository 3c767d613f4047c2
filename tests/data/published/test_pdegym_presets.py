"""A configuration with a preset reads files as the published loader does: what the model sees is what it saw there."""

import numpy as np
import pytest
import torch

from katops.config import parse_config
from katops.data.formats import describe
from katops.data.normalize import Normalizer
from katops.data.stated import stated
from katops.errors import DataWarning, UserError
from katops.pdegym import SETS, preset
from katops.training.data import open_run_data

SHARES = {"train": 2, "validation": 1, "test": 1}
NS = ["density", "velocity_x", "velocity_y", "pressure"]
# Published: mean, standard deviation, and what is subtracted first.
FLUID = [(0.80, 0.31, 0.0), (0.0, 0.391, 0.0), (0.0, 0.356, 0.0), (0.0, 0.185, 0.0)]
TRACER = (0.19586183, 0.37, 0.0)


def _config(path, name, **keys):
    data = {"file": str(path), "preset": name, "split": SHARES, **keys}
    return parse_config({"name": "run", "data": data, "model": "scot_tiny", "train": {"batch_size": 2}})


def _opened(path, name, **keys):
    """The data of a run, and the normaliser with the stated statistics."""
    config = _config(path, name, **keys).data
    data = open_run_data(config, 2)
    normalizer = Normalizer(data.meta)
    normalizer.state(config.statistics)
    normalizer.time_scale.fill_(config.time_scale or 1.0)
    return data, normalizer


def _gas(offset):
    return [*FLUID[:3], (0.0, 0.185, offset)]


@pytest.mark.parametrize("name", SETS)
def test_a_preset_is_a_valid_configuration_that_is_saved_resolved(name):
    config = parse_config({"name": "run", "data": {"file": "a.nc", "preset": name}, "model": "scot_tiny"})
    saved = config.model_dump()
    assert saved["data"]["preset"] == name
    assert saved["data"]["inputs"] == preset(name)["inputs"]
    assert saved["data"]["statistics"] == preset(name)["statistics"]
    assert saved["data"]["split"]["preset"] == name
    assert parse_config(saved) == config


@pytest.mark.parametrize(
    "keys",
    [
        {"inputs": ["velocity"], "outputs": ["velocity"]},
        {"fill": {}, "mask": None, "pairs": None},
        {"pairs": {"last": 4, "frames": None}, "split": {"train": 100}},
        {"split": {"validation": 0.2, "test": 0.1}},
    ],
)
def test_a_saved_configuration_with_changes_stays_what_it_is(keys):
    config = parse_config({"name": "run", "data": {"file": "a.nc", "preset": "NS-PwC", **keys}, "model": "scot_tiny"})
    assert parse_config(config.model_dump()) == config


def test_an_unknown_preset_is_refused_where_it_is_written():
    with pytest.raises(UserError, match=r"^data\.preset: unknown data set 'NS-PvC'; did you mean 'NS-PwC'\?"):
        parse_config({"name": "run", "data": {"file": "a.nc", "preset": "NS-PvC"}, "model": "scot_tiny"})
    with pytest.raises(UserError, match=r"unknown key 'presets'; did you mean 'preset'\?"):
        parse_config({"name": "run", "data": {"file": "a.nc", "presets": "NS-PwC"}, "model": "scot_tiny"})
    with pytest.raises(UserError, match=r"data\.preset should be a string"):
        parse_config({"name": "run", "data": {"file": "a.nc", "preset": 3}, "model": "scot_tiny"})


def test_every_data_set_of_a_mix_has_its_own_preset_and_what_the_section_states_goes_first():
    entries = [{"file": "a.nc", "preset": "NS-Sines"}, {"file": "b.nc", "preset": "CE-RP", "weight": 2.0}]
    data = {"mix": entries, "pairs": {"identity": False}}
    config = parse_config({"name": "run", "data": data, "model": "scot_tiny"})
    sines, riemann = config.data.mix
    assert sines.fill == {"density": 1.0, "pressure": 0.0}
    assert riemann.fill == {}
    assert riemann.statistics["pressure"] == [0.215, 0.185]
    assert [entry.split.preset for entry in (sines, riemann)] == ["NS-Sines", "CE-RP"]
    assert [entry.pairs.identity for entry in (sines, riemann)] == [False, False]
    assert parse_config(config.model_dump()) == config


@pytest.mark.parametrize(
    ("name", "arrays", "published"),
    [
        *((name, "velocity", FLUID) for name in ("NS-Sines", "NS-Gauss", "NS-PwC", "NS-SVS", "NS-BB", "NS-SL")),
        ("NS-Tracer-PwC", "velocity", [*FLUID, TRACER]),
        ("CE-RP", "data", _gas(0.215)),
        ("CE-CRP", "data", _gas(0.553)),
        ("CE-KH", "data", _gas(1.0)),
        ("CE-Gauss", "data", _gas(2.513)),
        ("CE-RPUI", "data", _gas(1.33)),
        (
            "CE-RM",
            "solution",
            [
                (1.1964245, 0.5543239, 0.0),
                (-7.164812e-06, 0.24304213, 0.0),
                (2.8968952e-06, 0.2430597, 0.0),
                (1.5648036, 0.89639103, 0.0),
            ],
        ),
    ],
)
def test_fluids_are_fed_and_compared_as_published(write_set, name, arrays, published):
    path, stored = write_set(name, samples=4)
    data, normalizer = _opened(path, name)
    fields = stored[arrays].swapaxes(-1, -2) if name == "NS-SL" else stored[arrays]
    if arrays == "velocity":
        density, pressure = np.ones_like(fields[:, :, :1]), np.zeros_like(fields[:, :, :1])
        tracer = fields[:, :, 2:3] if name == "NS-Tracer-PwC" else fields[:, :, :0]
        fields = np.concatenate([density, fields[:, :, :2], pressure, tracer], axis=2)
    else:
        fields = fields[:, :, :4]
    mean, std, offset = (np.array(values)[:, None, None] for values in zip(*published, strict=True))
    expected = (fields - offset - mean) / std
    for window in data.train_windows[[1, -2]]:
        sample = data.dataset.read([window])
        _, number, first, distance = sample.index[0].tolist()
        sides = ((sample.x, first, normalizer.encode_input), (sample.y, first + distance, normalizer.encode_output))
        for values, frame, encode in sides:
            np.testing.assert_allclose(encode(values)[0, 0], expected[number, frame], rtol=1e-4, atol=1e-5)
        assert (sample.mask is None) == (arrays != "velocity")
        if sample.mask is not None:
            assert sample.mask[0].tolist() == [False, False, False, True, False][: len(published)]


@pytest.mark.parametrize(
    ("name", "count", "divisor"),
    [("NS-Sines", 66, 20), ("NS-PwC", 36, 20), ("CE-RM", 36, 20), ("GCE-RT", 36, 10), ("Wave-Layer", 36, 20),
     ("Wave-Gauss", 36, 15), ("ACE", 36, 19)],
)  # fmt: skip
def test_pairs_and_lead_times_are_the_published_ones(write_set, name, count, divisor):
    path, _ = write_set(name, samples=4)
    data, normalizer = _opened(path, name)
    assert len(data.dataset.of_samples([0])) == count
    sample = data.dataset.read(data.train_windows)
    frames = sample.index[:, 3].numpy()
    assert frames.min() == 0
    assert frames.max() == SETS[name].training_frames[-1]
    np.testing.assert_allclose(normalizer.encode_time(sample.time), frames / divisor, rtol=1e-5, atol=1e-7)


def test_the_later_pairs_of_allen_cahn_are_55(write_set):
    path, _ = write_set("ACE", samples=4)
    data, _ = _opened(path, "ACE", pairs={"frames": list(SETS["ACE"].out_frames)})
    assert len(data.dataset.of_samples([0])) == 55


def test_the_force_of_kolmogorov_flow_is_the_published_field_behind_the_state(write_set):
    path, _ = write_set("FNS-KF", samples=4, space=(128, 128))
    data, normalizer = _opened(path, "FNS-KF")
    sample = data.dataset.read(data.train_windows[:2])
    x, y = np.meshgrid(np.linspace(0, 1, 128), np.linspace(0, 1, 128), indexing="ij")
    force = 0.1 * np.sin(2 * np.pi * (x + y))
    np.testing.assert_allclose(sample.constants[:, 0], np.stack([force] * 2), atol=1e-7)
    assert [channel.name for channel in data.meta.inputs] == NS
    encoded = normalizer.encode_constants(sample.constants)[0, 0]
    np.testing.assert_allclose(encoded, (force + 1.2996679288335145e-09) / 0.0707106739282608, atol=1e-5)


def test_potential_and_speed_are_normalised_as_published(write_set):
    path, stored = write_set("GCE-RT", samples=4)
    data, normalizer = _opened(path, "GCE-RT")
    sample = data.dataset.read(data.train_windows[:1])
    encoded = normalizer.encode_input(sample.x)[0, 0, 4]
    number, frame = sample.index[0, 1:3].tolist()
    np.testing.assert_allclose(
        encoded, (stored["solution"][number, frame, 5] + 1.7055787) / 0.40131348, rtol=1e-4, atol=1e-5
    )
    path, stored = write_set("Wave-Layer", samples=4)
    data, normalizer = _opened(path, "Wave-Layer")
    sample = data.dataset.read(data.train_windows[:1])
    encoded = normalizer.encode_constants(sample.constants)[0, 0]
    expected = (stored["c"][sample.index[0, 1]] - 3498.5644380917424) / 647.843958567462
    np.testing.assert_allclose(encoded, expected, rtol=1e-3, atol=1e-5)


def test_the_airfoil_is_fed_raw_and_masks_the_density(write_set):
    path, stored = write_set("SE-AF", samples=4)
    data, normalizer = _opened(path, "SE-AF")
    sample = data.dataset.read([0, 1])
    inside = torch.from_numpy(stored["solution"][:2, :1] == 1)
    np.testing.assert_array_equal(normalizer.encode_input(sample.x)[:, 0], stored["solution"][:2, :1])
    assert torch.equal(sample.mask, inside)
    assert sample.time.tolist() == [1.0, 1.0]
    expected = (stored["solution"][:2, 1] - 0.92984116) / 0.10864315
    np.testing.assert_allclose(normalizer.encode_output(sample.y)[:, 0, 0], expected, rtol=1e-4, atol=1e-5)


def test_elliptic_problems_have_the_lead_time_one_and_the_boundary_value_as_a_channel(write_set):
    path, stored = write_set("Helmholtz", samples=4)
    data, normalizer = _opened(path, "Helmholtz")
    sample = data.dataset.read([2])
    np.testing.assert_allclose(normalizer.encode_input(sample.x)[0, 0, 0], stored["a"][2] - 1, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(normalizer.encode_constants(sample.constants)[0, 0], stored["bc"][2], rtol=1e-6)
    expected = (stored["u"][2] - 0.11523915668552) / 0.8279975746000605
    np.testing.assert_allclose(normalizer.encode_output(sample.y)[0, 0, 0], expected, rtol=1e-4, atol=1e-5)
    assert sample.time.tolist() == [1.0]
    path, stored = write_set("Poisson-Gauss", samples=4)
    data, normalizer = _opened(path, "Poisson-Gauss")
    sample = data.dataset.read([3])
    expected = (stored["source"][3] - 0.014822142414492256) / 4.755138816607612
    np.testing.assert_allclose(normalizer.encode_input(sample.x)[0, 0, 0], expected, rtol=1e-4, atol=1e-6)
    assert sample.time.tolist() == [1.0]


def test_the_file_of_another_set_is_refused_before_its_channels_are_looked_for(write_set):
    path, _ = write_set("CE-RP", samples=4)
    with pytest.raises(
        UserError, match=r"data\.preset is 'NS-PwC', .* as CE-RP, CE-CRP, CE-KH, CE-Gauss and CE-RPUI do"
    ):
        _opened(path, "NS-PwC")
    path, _ = write_set("NS-PwC", samples=4)
    with pytest.raises(UserError, match="give the file of Wave-Layer"):
        _opened(path, "Wave-Layer")


def test_the_published_split_of_too_few_samples_is_refused(write_set):
    path, _ = write_set("ACE", samples=4)
    with pytest.raises(UserError, match="the split 'ACE' needs at least 301 samples, but there are 4"):
        _opened(path, "ACE", split={"seed": 0})


def test_a_partial_download_is_split_from_its_end_with_a_warning_and_a_few_of_its_first_samples_train(write_set):
    path, _ = write_set("ACE", samples=310, space=(4, 4))
    with pytest.warns(DataWarning, match="ACE was published with 15000 samples and there are 310"):
        data, _ = _opened(path, "ACE", split={"train": 8})
    assert data.split.train.tolist() == list(range(8))
    assert data.split.validation.tolist() == list(range(10, 70))
    assert data.split.test.tolist() == list(range(70, 310))


def test_a_configuration_with_a_preset_describes_the_file_without_the_channels_that_it_lacks(write_set, tmp_path):
    path, _ = write_set("FNS-KF")
    config = tmp_path / "run.yaml"
    config.write_text(f"data:\n  file: {path}\n  preset: FNS-KF\n", encoding="utf-8")
    files, statement = stated(config)
    layout = describe(files, **statement)
    assert [array.name for array in layout.inputs] == ["velocity_x", "velocity_y"]
    assert layout.constants == ()
