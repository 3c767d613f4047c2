"""The page on materials names everything that there is."""

import pytest

from katops.materials import DESCRIPTORS, data_cards
from katops.materials.cleaning import RULES


@pytest.fixture(scope="module")
def page(repository):
    return (repository / "docs" / "materials.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", data_cards())
def test_every_data_set_is_there_with_its_rows_licence_citation_and_defects(page, name):
    card = data_cards()[name]
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
    assert f"| {card.rows} |" in row
    assert card.licence in row
    assert card.citation in row
    assert [defect for defect in card.defects if f"- {defect}\n" not in page] == []


def test_every_descriptor_is_there_with_its_unit_and_equation(page):
    for name, entry in DESCRIPTORS.items():
        equation = entry.equation.replace("|", "\\|")
        assert f"| `{name}` | {entry.unit or '-'} | `{equation}` | {entry.rule} |" in page


def test_every_cleaning_rule_is_there(page):
    assert [rule for rule in (*RULES, "unreadable_formula", "repeated_inputs") if f"| `{rule}` |" not in page] == []
