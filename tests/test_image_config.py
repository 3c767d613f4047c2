"""The configuration of image runs: its own schema, the same kind of sentences."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.config import Component, ImageRunConfig, RunConfig, load_config, parse_config
from katops.errors import UserError

MINIMAL = {
    "task": "image_classification",
    "name": "run",
    "data": {"dataset": "digits"},
    "model": "vit_tiny_patch16_224",
}


def write(path: Path, values: dict) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return path


def test_the_task_chooses_the_schema_and_fields_are_the_default() -> None:
    assert isinstance(parse_config(MINIMAL), ImageRunConfig)
    operator = parse_config({"name": "run", "data": {"file": "a.h5"}, "model": "mgno"})
    assert isinstance(operator, RunConfig)
    assert operator.task == "operator"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("image", r"task \(.*line 1\) should be 'operator' or 'image_classification' or 'tables'; given: 'image'"),
        ("image_clasification", "did you mean 'image_classification'"),
        (3, "given: 3"),
    ],
)
def test_an_unknown_task_gets_one_sentence(tmp_path: Path, task: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path / "run.yaml", {**MINIMAL, "task": task}))


def test_a_typo_in_an_image_section_names_line_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", {**MINIMAL, "train": {"label_smothing": 0.1}})
    with pytest.raises(UserError) as error:
        load_config(path)
    expected = f"train.label_smothing ({path}, line 7): unknown key 'label_smothing'; did you mean 'label_smoothing'?"
    assert str(error.value).startswith(expected)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.file=a.h5", "unknown key 'file'"),
        ("train.loss=h1", "unknown key 'loss'"),
        ("train.schedule=one_cycle", "should be 'cosine' or 'constant'"),
        ("train.label_smoothing=1.0", "should be less than 1"),
        ("train.layer_decay=0", "should be greater than 0"),
        ("data.input_size=[8,8]", r"should be a list of at least 3 values; given: \[8, 8\]"),
        ("data.input_size=[3,8,8,8]", "should be a list of at most 3 values; given"),
        ("data.mean=[]", "should be a list of at least 1 value; given"),
        ("data.interpolation=bicubik", "did you mean 'bicubic'"),
        ("data.augmentation.hflip=2", "less than or equal to 1"),
        ("data.augmentation.hfilp=0.5", r"data\.augmentation\.hfilp .*did you mean 'hflip'"),
        ("data.validation_split=1.5", "should be a number less than 1, or a string; given: 1.5"),
        ("compare=[{nam: vit}]", r"compare\.0\.name .* is missing"),
        ("repeats=0", "should be greater than 0"),
        ("name=a/b", "name of a folder"),
    ],
)
def test_a_bad_value_is_refused_with_its_path_and_what_is_allowed(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path / "run.yaml", MINIMAL), [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.root=images"], "come with scikit-learn; drop root"),
        (["data.dataset=folder"], r"needs data\.root"),
        (["data.validation_split=val"], "no named splits; give a fraction"),
        (["data.validation_split=0.5", "data.test_split=0.5"], "take 1 of the training images"),
        (["data.validation_split=null"], "both null"),
        (["data.validation_split=null", "data.test_split=0.2", "train.early_stopping=3"], "needs validation images"),
        (["data.input_size=[3,8,8]", "data.mean=[0.5,0.5]"], "has 2 values, but data.input_size has 3"),
        (["data.input_size=[2,8,8]"], "1 .grey. or 3 .colour."),
        (["data.std=[0.0]"], "greater than 0"),
        (["data.augmentation.scale=[1.0,0.5]"], "smallest, largest"),
        (["train.epochs=5"], "warm-up must end before"),
        (["train.min_learning_rate=0.1"], "less than train.min_learning_rate"),
        (["train.mixup=0.5", "train.batch_size=33"], "give an even number"),
        (["train.mixup_off_epoch=3"], "drop it or give one of them"),
        (["data.download=true"], "the images of 'digits' are not downloaded; drop download"),
        (["data.dataset=folder", "data.root=a", "data.download=true"], "'folder' are not downloaded; drop download"),
        (
            ["data.dataset=folder", "data.root=a", "data.validation_split=val", "data.split_seed=3"],
            r"split_seed .* is 3, but no split is a fraction .*; drop split_seed",
        ),
        (
            ["train.warmup_epochs=0", "train.warmup_learning_rate=0.0"],
            r"warmup_learning_rate .* is 0, but train\.warmup_epochs is 0; drop it or give warm-up epochs",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_named_together(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config(write(tmp_path / "run.yaml", MINIMAL), overrides)


def test_without_warm_up_its_default_rate_may_be_above_the_learning_rate() -> None:
    config = parse_config({**MINIMAL, "train": {"warmup_epochs": 0, "learning_rate": 1e-6}})
    assert parse_config(yaml.safe_load(config.to_yaml())) == config


def test_compared_models_are_components_like_the_model(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path / "run.yaml", {**MINIMAL, "compare": ["resnet18", {"name": "vit", "depth": 4}]})
    )
    assert config.compare == [Component(name="resnet18"), Component(name="vit", depth=4)]


def test_a_resolved_image_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = parse_config({**MINIMAL, "repeats": 2, "data": {"dataset": "digits", "augmentation": None}})
    path = tmp_path / "config.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config


@settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(6, 1000),
            "batch_size": st.integers(1, 256).map(lambda half: 2 * half),
            "learning_rate": st.floats(1e-4, 1.0),
            "label_smoothing": st.floats(0.0, 0.9),
            "layer_decay": st.none() | st.floats(0.1, 1.0),
            "mixup": st.floats(0.0, 2.0),
            "cutmix": st.floats(0.0, 2.0),
            "accumulate": st.integers(1, 64),
        },
    )
)
def test_every_value_in_range_is_kept_exactly(train: dict) -> None:
    config = parse_config({**MINIMAL, "train": train})
    for key, value in train.items():
        assert getattr(config.train, key) == value
    assert parse_config(yaml.safe_load(config.to_yaml())) == config
