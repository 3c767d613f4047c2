"""Scripts written for timm alone see the models of katops."""

import subprocess
import sys

import pytest


def run(*arguments, cwd):
    command = [sys.executable, "-m", "katops.timm", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_script_sees_the_models_its_arguments_and_its_own_name(tmp_path):
    script = tmp_path / "validate.py"
    script.write_text("import sys, timm\nprint(__name__, sys.argv[1:], timm.is_model('kat_small'))\n")
    result = run(script, "--model", "kat_small", cwd=tmp_path)
    assert result.stdout == "__main__ ['--model', 'kat_small'] True\n", result.stderr


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_without_a_script_the_usage_is_told(tmp_path, arguments):
    result = run(*arguments, cwd=tmp_path)
    assert result.returncode == 1
    assert "usage: python -m katops.timm SCRIPT.py" in result.stderr


def test_script_finds_the_files_beside_it(tmp_path):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "helper.py").write_text("answer = 42\n")
    (folder / "train.py").write_text("import helper\nprint(helper.answer)\n")
    assert run(folder / "train.py", cwd=tmp_path).stdout == "42\n"


def test_missing_script_is_named(tmp_path):
    result = run("nothing.py", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (1, "error: there is no script 'nothing.py'\n")
