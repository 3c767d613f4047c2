"""The public function: names and options are checked, the rest is the writer's."""

import h5py
import numpy as np
import pytest

from katops.errors import UserError
from katops.generators import Darcy, create_problem, generate


def test_generate_writes_what_the_problem_draws(tmp_path):
    path = generate(
        "darcy", tmp_path / "rough.h5", samples=3, seed=5, resolution=12, variant="rough", scheme="harmonic"
    )
    expected = Darcy(12, "rough", "harmonic").samples(5, range(3))
    with h5py.File(path) as file:
        for name, values in expected.fields.items():
            np.testing.assert_array_equal(file["fields"][name], values)


def test_the_first_samples_of_a_larger_file_are_those_of_a_smaller_one(tmp_path):
    small = generate("darcy", tmp_path / "small.h5", samples=3, resolution=8)
    large = generate("darcy", tmp_path / "large.h5", samples=70, resolution=8)
    with h5py.File(small) as few, h5py.File(large) as many:
        np.testing.assert_array_equal(few["fields/pressure"], many["fields/pressure"][:3])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("darcey", {}, "unknown problem 'darcey'; did you mean 'darcy'"),
        ("darcy", {"resolutoin": 32}, "darcy: unknown option 'resolutoin'; did you mean 'resolution'.*Allowed: resol"),
        ("darcy", {"resolution": "32"}, "darcy: resolution must be a whole number"),
        ("darcy", {"variant": "smothe"}, "darcy: unknown variant 'smothe'; did you mean 'smooth'"),
    ],
)
def test_a_bad_name_or_option_is_told_before_anything_is_written(tmp_path, name, options, message):
    with pytest.raises(UserError, match=message):
        generate(name, tmp_path / "x.h5", samples=1, **options)
    assert not list(tmp_path.iterdir())


def test_create_problem_passes_its_options_on():
    problem = create_problem("darcy", resolution=16, scheme="harmonic")
    assert (problem.resolution, problem.variant, problem.scheme) == (16, "smooth", "harmonic")
