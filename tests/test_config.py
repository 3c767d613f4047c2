"""The configuration: strict, with suggestions, unable to run code."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.config import Component, RunConfig, TrainConfig, load_config, parse_config
from katops.errors import UserError

MINIMAL = {"name": "run", "data": {"file": "data.h5"}, "model": "mgno_tiny"}


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def leaves(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key path of nested dictionaries."""
    if not isinstance(value, dict):
        return []
    return [(*path, key) for key in value] + [leaf for key in value for leaf in leaves(value[key], (*path, key))]


def shipped_configs() -> list[Path]:
    return sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", shipped_configs(), ids=lambda path: path.name)
def test_every_shipped_config_is_valid_and_short(path: Path) -> None:
    config = load_config(path)
    assert config.name
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30


@pytest.mark.parametrize("path", shipped_configs(), ids=lambda path: path.name)
def test_every_mistyped_key_of_a_shipped_config_is_refused_with_the_right_suggestion(path: Path) -> None:
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for keys in leaves(values):
        if keys[0] == "model" or keys[:2] in {("data", "generate"), ("train", "loss"), ("train", "schedule")}:
            continue  # options of components are checked against signatures, when the component is built
        if len(keys) > 2 and keys[:2] in {("data", "fill"), ("train", "rates")}:
            continue  # names of channels and of parts of a model are checked when these are known
        mutated = yaml.safe_load(path.read_text(encoding="utf-8"))
        section = mutated
        for key in keys[:-1]:
            section = section[key]
        section[keys[-1] + "e"] = section.pop(keys[-1])
        with pytest.raises(UserError, match=f"unknown key '{keys[-1]}e'; did you mean '{keys[-1]}'"):
            parse_config(mutated)


def test_a_typo_names_file_line_path_and_the_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", "name: run\ndata:\n  file: a.h5\nmodel: mgno\ntrain:\n  epoch: 3\n")
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(error.value).startswith(f"train.epoch ({path}, line 6): unknown key 'epoch'; did you mean 'epochs'?")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", r"train\.epochs \(command line\) should be a valid integer; given: 'many'"),
        ("train.epochs=0", "should be greater than 0; given: 0"),
        ("train.epochs=2.5", "should be a valid integer"),
        ("train.ema_decay=1.5", "should be less than 1"),
        ("train.schedule=onecycle", "did you mean 'one_cycle'"),
        ("train.precision=bf16", "did you mean 'bf16-mixed'"),
        ("data.window.n_in=0", "should be greater than 0"),
        ("data.split.train=1.5", "should be"),
        ("data.boundary=3", "should be a string, or a list"),
        ("model={nam: x}", r"model\.name .* is missing"),
        ("data=nowhere", "data .* should be keys and values"),
        ("seed=-1", "should be greater than or equal to 0"),
        ("name=a/b", "name of a folder"),
        ("train.epochs=${nothing}", "not a valid configuration"),
    ],
)
def test_a_bad_value_is_refused_with_its_path_and_what_is_allowed(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path / "run.yaml", yaml.safe_dump(MINIMAL))
    with pytest.raises(UserError, match=message):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.split={train: 0.8, validation: 0.3}"], "add up to 1.1"),
        (["data.split.train=8", "train.batch_size=9"], "batch_size .* is 9, more than the 8 samples"),
        (["data.split.validation=0", "train.early_stopping=3"], "early_stopping .* needs validation samples"),
        (["data.test_files=[b.h5]", "data.split.test=0.1"], "test_files name the test data; keep one"),
    ],
)
def test_keys_that_contradict_each_other_are_named_together(tmp_path: Path, overrides: list[str], message: str) -> None:
    path = write(tmp_path / "run.yaml", yaml.safe_dump(MINIMAL))
    with pytest.raises(UserError, match=message):
        load_config(path, overrides)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "quickstart.yaml", yaml.safe_dump(MINIMAL))
    with pytest.raises(UserError, match=r"did you mean .*quickstart\.yaml"):
        load_config(tmp_path / "quickstrat.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "name: [", "name: a\nname: b\n", "\x00", "just text"])
def test_what_is_not_a_configuration_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        load_config(write(tmp_path / "run.yaml", text))


@pytest.mark.parametrize(
    "payload",
    ["!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "${eval:1+1}"],
)
def test_a_config_cannot_execute_code(tmp_path: Path, payload: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "run.yaml", f"name: {payload}\ndata: {{file: a.h5}}\nmodel: mgno\n")
    with pytest.raises(UserError):
        load_config(path)
    assert not (tmp_path / "pwned").exists()


def test_overrides_and_interpolation_resolve_before_the_schema(tmp_path: Path) -> None:
    values = {**MINIMAL, "seed": 3, "data": {"file": "data.h5", "split": {"seed": "${seed}"}}}
    path = write(tmp_path / "run.yaml", yaml.safe_dump(values))
    config = load_config(path, ["train.learning_rate=1e-4", "model.name=fno", "model.width=8"])
    assert config.data.split.seed == 3
    assert config.train.learning_rate == 1e-4
    assert config.model == Component(name="fno", width=8)
    assert config.model.options == {"width": 8}


def test_a_resolved_config_reads_back_as_itself(tmp_path: Path) -> None:
    config = parse_config({**MINIMAL, "train": {"loss": {"name": "h1", "max_wavenumber": 20}}})
    path = write(tmp_path / "config.yaml", config.to_yaml())
    assert load_config(path) == config


@settings(deadline=None, max_examples=50)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "epochs": st.integers(1, 10_000),
            "batch_size": st.integers(1, 512),
            "learning_rate": st.floats(1e-8, 10.0),
            "weight_decay": st.floats(0.0, 1.0),
            "gradient_clip": st.none() | st.floats(1e-3, 100.0),
            "ema_decay": st.none() | st.floats(0.01, 0.999),
            "max_steps": st.none() | st.integers(1, 1000),
        },
    )
)
def test_every_value_in_range_is_kept_exactly(train: dict) -> None:
    config = parse_config({**MINIMAL, "train": train})
    for key, value in train.items():
        assert getattr(config.train, key) == value
    again = parse_config(yaml.safe_load(config.to_yaml()))
    assert again == config


def test_defaults_are_the_same_object_for_nobody() -> None:
    assert RunConfig(**MINIMAL).train == TrainConfig()
    with pytest.raises(ValueError, match="frozen"):
        RunConfig(**MINIMAL).train.epochs = 3
