"""What every registered problem promises (:class:`katops.generators.problem.Problem`), in all its variants."""

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from katops.errors import UserError
from katops.generators import create_problem
from katops.generators.command import listing
from katops.registry import PROBLEMS

REQUIRED = {
    "recipe", "variant", "recipe_version", "equation", "solver", "solver_tolerance", "scheme", "native_resolution",
    "downsampling", "domain", "grid", "boundary",
}  # fmt: skip
EVERY = [(name, variant) for name in PROBLEMS.names("*") for variant in PROBLEMS[name].factory.variants]


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_the_recipe_says_what_decides_the_numbers_in_plain_values(name: str, variant: str) -> None:
    recipe = create_problem(name, variant=variant).recipe
    assert not REQUIRED - recipe.keys()
    assert (recipe["recipe"], recipe["variant"]) == (name, variant)
    assert "device" not in recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert all(isinstance(value, str | int | float) for value in recipe.values())


@pytest.mark.parametrize(("name", "variant"), EVERY)
def test_the_stored_fields_are_the_announced_channels_on_the_announced_axes(name: str, variant: str) -> None:
    problem = create_problem(name, variant=variant)
    meta = problem.meta
    channels = {channel.name for channel in (*meta.inputs, *meta.outputs, *meta.constants)}
    assert channels == set(problem.fields)
    for field in problem.fields.values():
        moving = field.role == "state"
        assert len(field.shape) == len(meta.axes) + moving
        assert not moving or field.shape[0] == len(problem.times)
    if problem.times is not None:
        assert np.diff(problem.times).min() > 0


@pytest.mark.parametrize("name", PROBLEMS.names("*"))
def test_the_resolution_is_that_of_the_stored_fields_and_a_wrong_one_is_one_sentence(name: str) -> None:
    default = inspect.signature(PROBLEMS[name].factory).parameters["resolution"].default or 128
    if name != "helmholtz":
        half = create_problem(name, resolution=default // 2)
        assert next(iter(half.fields.values())).shape[-1] == default // 2
    for wrong in (1, 2.5, "many", True):
        with pytest.raises(UserError, match=rf"^{name}: .*resolution"):
            create_problem(name, resolution=wrong)
    with pytest.raises(UserError, match=rf"^{name}: unknown variant 'nonsense'.* Allowed: "):
        create_problem(name, variant="nonsense")


@pytest.mark.parametrize("name", [n for n in PROBLEMS.names("*") if "device" in
                                  inspect.signature(PROBLEMS[n].factory).parameters])  # fmt: skip
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^{name}: device 'abacus' cannot be used"):
        create_problem(name, device="abacus")


def test_the_list_shows_every_variant_and_the_readme_every_problem(repository: Path) -> None:
    console = Console(width=400)
    with console.capture() as captured:
        console.print(listing())
    shown = captured.get()
    readme = (repository / "README.md").read_text(encoding="utf-8")
    for name, variant in EVERY:
        assert variant in shown, (name, variant)
        assert f"| [`{name}`](docs/generators.md#{name}) |" in readme, name
