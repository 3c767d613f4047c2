"""The radial dam break: symmetry, conservation, convergence, independence of batch, order and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from katops.errors import UserError
from katops.generators.shallow_water import ShallowWater
from katops.registry import PROBLEMS


@pytest.fixture(scope="module")
def three():
    return ShallowWater(resolution=32).samples(2, range(3))


def test_shallow_water_is_registered():
    assert PROBLEMS["shallow_water"].factory is ShallowWater


def test_the_first_frame_is_the_dam_and_its_radius_is_a_parameter(three):
    centres = (np.arange(32) + 0.5) * 5 / 32 - 2.5
    radius = np.hypot(centres[:, None], centres[None, :])
    for height, dam in zip(three.fields["height"], three.parameters["dam_radius"], strict=True):
        np.testing.assert_array_equal(height[0], np.where(radius < dam, 2, 1))


def test_radii_are_uniform_in_the_published_range():
    problem = ShallowWater(resolution=16)
    radii = np.array([problem.dam_radius(0, index) for index in range(500)])
    assert 0.3 <= radii.min() < 0.31
    assert 0.69 < radii.max() <= 0.7
    assert abs(radii.mean() - 0.5) < 4 * 0.4 / np.sqrt(12 * 500)


def test_no_water_is_lost_before_waves_reach_the_boundary(three):
    volume = three.fields["height"].astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(volume, volume[:, :1].repeat(101, 1), rtol=1e-7)


def test_a_dam_break_is_symmetric_under_quarter_turns_and_reflections(three):
    height = three.fields["height"]
    np.testing.assert_array_equal(height, height.swapaxes(2, 3))
    np.testing.assert_allclose(height, np.rot90(height, axes=(2, 3)), rtol=1e-6)


def test_the_height_stays_between_the_extremes_of_the_dam(three):
    """The focus of the inward wave may fall below the outer level, not far."""
    height = three.fields["height"]
    assert height.max() <= 2.0
    assert height.min() > 0.5


def test_refining_converges_with_first_order():
    """Relative L1 distance to 128 cells at t = 1, of 32 and of 64 cells."""
    last = [ShallowWater(32, refinement=factor).samples(0, [0]).fields["height"][0, -1] for factor in (1, 2, 4)]
    coarse, middle = (np.abs(values - last[2]).mean() for values in last[:2])
    assert coarse < 0.015
    assert middle < 0.55 * coarse


@pytest.mark.parametrize("indices", [[1], [2, 0, 1]])
def test_a_sample_is_the_same_bits_in_any_batch_and_order(same_bits, three, indices):
    same_bits(ShallowWater(resolution=32).samples(2, indices), three, indices)


def test_a_sample_is_the_same_bits_from_two_threads_at_once(same_bits, three):
    problem = ShallowWater(resolution=32)
    with ThreadPoolExecutor(2) as executor:
        found = list(executor.map(lambda index: problem.samples(2, [index]), range(3)))
    for index, samples in enumerate(found):
        same_bits(samples, three, [index])


def test_arrays_have_the_announced_shapes_and_the_recipe_is_json(three):
    problem = ShallowWater(resolution=32)
    assert three.fields["height"].shape == (3, *problem.fields["height"].shape)
    assert three.fields["height"].dtype == np.float32
    assert not three.quality["rejected"].any()
    assert not three.quality["repaired_steps"].any()
    assert json.loads(json.dumps(problem.recipe))["boundary"] == "open"
    assert [parameter.name for parameter in problem.meta.parameters] == list(three.parameters)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "shallow_water: resolution 4 is out of range"),
        ({"variant": "dam"}, "shallow_water: unknown variant 'dam'"),
        ({"refinement": True}, "shallow_water: refinement must be a whole number"),
        ({"limiter": "superbee"}, "shallow_water: unknown limiter 'superbee'"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        ShallowWater(**options)
