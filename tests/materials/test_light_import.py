"""Formulas and descriptors run where the extra `tables` is not installed; the rest says what to install."""

import subprocess
import sys

SCRIPT = """
import sys

sys.argv[0] = "katops"  # as the command, which imports katops without the models
sys.modules.update(dict.fromkeys(["pandas", "sklearn", "scipy", "matplotlib", "h5py", "lightning"]))
import numpy
import katops.materials
from katops.materials import describe, load_materials, parse_formula

assert parse_formula("CoNi").system == "Co-Ni"
print(describe(numpy.array([[0.5, 0.5]]), ["Co", "Ni"], ["radius_mean"]))
for use in (lambda: load_materials("phases_pei2020", "."), lambda: katops.materials.CompositionFeatures):
    try:
        use()
    except ValueError as error:
        print(error)
"""


def test_only_tables_need_the_extra(tmp_path):
    (tmp_path / "phases_pei2020.csv").write_text("Alloy,Phase\nNi,fcc\n")
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    values, *messages = done.stdout.splitlines()
    assert values == "[[125.]]"
    assert [message.split('"')[1] for message in messages] == ["katops[tables]"] * 2
