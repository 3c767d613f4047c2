"""Spaces: what is drawn from them, and the sentence for each mistake."""

from pathlib import Path

import optuna
import pytest

from katops.config import load_config, parse_config
from katops.errors import UserError
from katops.sweeps.space import read_space

OPERATOR = {"name": "small", "data": {"file": "darcy.h5"}, "model": "mgno_tiny"}


def drawn(space, count: int = 30) -> list[dict]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]


def test_values_are_drawn_from_lists_and_ranges_and_put_into_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(
        "train.learning_rate: {low: 1e-4, high: 1e-2, log: true}\n"
        "train.batch_size: {low: 4, high: 16, step: 4}\n"
        "model.hidden_channels: [16, 24]\n"
        "train.weight_decay: {low: 0, high: 1}\n"
        "train.schedule: [cosine, {name: step, every: 5}]\n",
        encoding="utf-8",
    )
    config = parse_config(OPERATOR)
    space = read_space(path, config)
    found = drawn(space)
    assert all(1e-4 <= one["train.learning_rate"] <= 1e-2 for one in found)
    assert sum(one["train.learning_rate"] < 1e-3 for one in found) > 8  # half of them: the logarithm is uniform
    assert {one["train.batch_size"] for one in found} == {4, 8, 12, 16}
    assert {one["model.hidden_channels"] for one in found} == {16, 24}
    # Written as whole numbers, but the key takes fractions.
    assert any(0 < one["train.weight_decay"] < 1 for one in found)
    one = next(one for one in found if one["train.schedule"] != "cosine")
    made = parse_config(space.apply(config.spelled_out(), one))
    assert made.train.schedule.options == {"every": 5}
    assert made.model.options["hidden_channels"] == one["model.hidden_channels"]
    assert made.train.batch_size == one["train.batch_size"]


def test_a_key_with_a_condition_is_drawn_only_where_it_holds() -> None:
    space = read_space(
        {
            "model.name": ["mgno", "unet"],
            "model.hidden_channels": {"low": 8, "high": 16, "when": {"model.name": "mgno"}},
        },
        parse_config(OPERATOR),
    )
    assert space.is_conditional
    for one in drawn(space):
        assert ("model.hidden_channels" in one) == (one["model.name"] == "mgno")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train.learning_rat: [1e-3]", r"line 1\): unknown key 'learning_rat'; did you mean 'learning_rate'"),
        ("trian.epochs: [3]", r"trian.epochs \(.*space.yaml, line 1\): unknown key 'trian'; did you mean 'train'"),
        (
            "seed: [0]\ntrain.epochs: {low: 0, high: 5}",
            r"train.epochs \(.*space.yaml, line 2\) should be greater than 0",
        ),
        ("train.precision: [32-true, 8-bit]", "train.precision .* should be '32-true', .* given: '8-bit'"),
        ("model.hidden_chanels: [8]", "'mgno_tiny' has no option 'hidden_chanels'; did you mean 'hidden_channels'"),
        ("train: {learning_rate: [1e-3]}", "write the whole key with dots, such as train.learning_rate"),
        ("train.epochs: 3", r"should be a list of values, or a range such as \{low: 1e-4"),
        ("train.epochs: []", "train.epochs.choices .* should be a list of at least 1 value"),
        ("train.epochs: {low: 3}", "train.epochs.high .* is missing"),
        ("train.epochs: {low: 3, hihg: 4}", "unknown key 'hihg'; did you mean 'high'"),
        ("train.epochs: {low: 5, high: 3}", "low is 5 and high 3"),
        ("train.weight_decay: {low: 0.0, high: 0.1, log: true}", "which has no logarithm"),
        ("train.epochs: {low: 1, high: 10, step: 4}", "steps of 4 do not lead from 1 to 10"),
        ("train.epochs: {low: 1, high: 9, step: 4, log: true}", "exclude each other"),
        ("train.epochs: [3, 3]", "lists 3 twice"),
        ("output: [a, b]", "'output' is not for sweeps"),
        ("model.name: [mgno]\nmodel: [unet]", "vary one of them"),
        ("seed: {low: 0, high: 3, when: {model.name: mgno}}", "a key with listed values that stands before it"),
        ("model.name: [mgno]\nseed: {low: 0, high: 3, when: {model.name: fno}}", "which is none of"),
        ("seed.of: [3]", "'seed' is 0 in the configuration, which holds no keys"),
        ("[1, 2]", "must hold keys of the configuration"),
        ("a: [", "is not a valid space"),
    ],
)
def test_a_mistake_is_told_in_one_sentence_with_file_and_key(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        read_space(path, parse_config(OPERATOR))
    assert "space.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").touch()
    with pytest.raises(UserError, match=r"did you mean '.*space.yaml'"):
        read_space(tmp_path / "spaec.yaml", parse_config(OPERATOR))


def test_options_of_the_kan_of_a_table_are_known(values: dict) -> None:
    with pytest.raises(UserError, match="'kan' has no option 'weight_deacy'; did you mean 'weight_decay'"):
        read_space({"model.weight_deacy": [1e-3]}, parse_config(values))


def test_the_space_of_the_documentation_fits_the_configuration_beside_it(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (tmp_path / "space.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    config = load_config(repository / "configs" / "quickstart.yaml")
    space = read_space(tmp_path / "space.yaml", config)
    assert set(space.domains) == {
        "train.learning_rate",
        "train.batch_size",
        "model.hidden_channels",
        "train.schedule",
    }
    for one in drawn(space, 5):
        parse_config(space.apply(config.spelled_out(), one))
