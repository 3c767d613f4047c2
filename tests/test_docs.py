"""The configurations that the documentation shows are valid."""

import re

import pytest
import yaml
from omegaconf import OmegaConf

from katops.config import parse_config
from katops.generators import create_problem
from katops.registry import PROBLEMS


def blocks(repository, language):
    for path in [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]:
        for text in re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            yield path.name, text


def test_every_complete_configuration_in_the_documentation_is_accepted(repository):
    shown = [(page, OmegaConf.to_container(OmegaConf.create(text))) for page, text in blocks(repository, "yaml")]
    complete = [(page, values) for page, values in shown if "model" in values]
    assert {"README.md", "your_images.md"} <= {page for page, _ in complete}
    for _, values in complete:
        parse_config(values)


@pytest.mark.parametrize("row", range(4))
def test_overrides_in_the_table_of_images_are_accepted(repository, row):
    text = (repository / "docs" / "your_images.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| .* \| `(data: \{.*?\}|model: \{.*?\})`.* \|$", text, re.MULTILINE)
    assert len(cells) == 4
    values = {"task": "image_classification", "name": "mine", "data": {"root": "flowers"}, "model": "kat_tiny"}
    parse_config({**values, **yaml.safe_load(cells[row])})


@pytest.mark.parametrize("name", PROBLEMS.names())
def test_every_problem_has_a_section_with_its_variants_its_equation_and_a_picture(repository, name):
    problem = create_problem(name)
    page = (repository / "docs" / "generators.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
    assert [variant for variant in problem.variants if f"`{variant}`" not in section] == []
    assert problem.recipe["equation"].replace("*", "×") in section
    assert (repository / "docs" / "generators" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert f"docs/generators.md#{name}" in (repository / "README.md").read_text(encoding="utf-8")
