"""Registries: names, suggestions, duplicates."""

import pytest

from katops.errors import UserError
from katops.registry import Registry


@pytest.fixture
def registry() -> Registry:
    registry = Registry("layer")
    registry.register("kan_linear", summary="B-spline layer", paper="arXiv 2404.19756")(dict)
    registry.register("gelu", summary="activation")(list)
    return registry


def test_a_record_keeps_the_factory_unchanged(registry: Registry) -> None:
    assert registry["kan_linear"].factory is dict
    assert registry["kan_linear"].paper == "arXiv 2404.19756"
    assert "kan_linear" in registry
    assert len(registry) == 2


def test_an_unknown_name_suggests_the_nearest_and_lists_all(registry: Registry) -> None:
    with pytest.raises(UserError, match=r"unknown layer 'kan_liner'; did you mean 'kan_linear'\? Registered: gelu"):
        registry["kan_liner"]


def test_a_name_like_no_other_gets_no_suggestion(registry: Registry) -> None:
    with pytest.raises(UserError, match=r"^unknown layer 'zzz'\. Registered: gelu, kan_linear\.$"):
        registry["zzz"]


def test_a_duplicate_name_raises(registry: Registry) -> None:
    with pytest.raises(ValueError, match="the layer 'gelu' is registered already"):
        registry.register("gelu", summary="again")


def test_names_are_sorted_and_match_shell_patterns(registry: Registry) -> None:
    assert registry.names() == ["gelu", "kan_linear"]
    assert registry.names("kan*") == ["kan_linear"]
    assert [record.name for record in registry] == ["gelu", "kan_linear"]
