"""Scripts written for timm alone see the models of katops."""

import subprocess
import sys

import pytest

from katops.timm import main


def test_script_sees_the_models_its_arguments_its_own_name_and_the_files_beside_it(tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("answer = 42\n")
    (folder / "validate.py").write_text(
        "import sys, timm, helper\nprint(__name__, sys.argv[1:], timm.is_model('kat_small'), helper.answer)\n"
    )
    command = [sys.executable, "-m", "katops.timm", folder / "validate.py", "--model", "kat_small"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.stdout == "__main__ ['--model', 'kat_small'] True 42\n", result.stderr


def refusal(monkeypatch, *arguments):
    """How the command ends without running a script; it sees the arguments as if started with them."""
    monkeypatch.setattr(sys, "argv", ["timm.py", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_script_the_usage_is_told(monkeypatch, arguments):
    assert refusal(monkeypatch, *arguments).startswith("usage: python -m katops.timm SCRIPT.py")


def test_missing_script_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert refusal(monkeypatch, "nothing.py") == "error: there is no script 'nothing.py'"
