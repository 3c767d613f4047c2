"""Fixtures for the generators: a small problem, and ways to look at files and to run other processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from katops.generators import Darcy


@pytest.fixture
def problem():
    return Darcy(resolution=8)


@pytest.fixture
def output(tmp_path):
    """A file in a folder that does not exist yet."""
    return tmp_path / "data" / "darcy.h5"


@pytest.fixture(scope="session")
def contents():
    """Function: all datasets of a file, to the bit, and all its attributes, by path."""

    def read(path):
        found = {}
        with h5py.File(path) as file:
            found["/"] = dict(file.attrs)

            def visit(name, item):
                found[f"{name}@"] = {key: np.asarray(value).tolist() for key, value in item.attrs.items()}
                if isinstance(item, h5py.Dataset):
                    found[name] = (item.dtype.str, item.shape, item[()].tobytes())

            file.visititems(visit)
        return found

    return read


@pytest.fixture(scope="session")
def start(repository: Path):
    """Function: start code in a fresh interpreter, as the command line tool does."""

    def start(code, *arguments):
        program = "import sys; sys.argv[0] = 'katops'\n" + textwrap.dedent(code)
        return subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(repository)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def same_bits():
    """Function: assert that every array of some samples is the chosen part of the same array of other samples."""

    def check(one, other, chosen=slice(None)):
        for group, arrays in one._asdict().items():
            for name, values in arrays.items():
                np.testing.assert_array_equal(values, getattr(other, group)[name][chosen])

    return check
