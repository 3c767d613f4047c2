"""Descriptions of published layouts that contradict themselves end in one clear sentence, never in another error."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from katops.data.containers.probe import probe
from katops.data.formats import describe_tree
from katops.data.layout import FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

ODD_VALUES = [
    None,
    "",
    "x",
    "OPEN",
    0,
    -1,
    7,
    2**70,
    1.5,
    float("nan"),
    True,
    [],
    ["x"],
    ["x", "x"],
    [True],
    [[0]],
    [None],
]
ODD_ELEMENTS = [
    np.zeros((0,)),
    np.zeros(()),
    np.zeros((2, 3)),
    np.full(12, np.nan),
    np.arange(12.0)[::-1],
    np.zeros(12, dtype=bool),
    np.array(["a"], dtype=object),
]


@pytest.fixture(scope="module")
def seen() -> dict[str, StoredTree]:
    """What was found in the files, so that hypothesis can work on them after the fixtures are gone."""
    return {}


@pytest.fixture
def trees(
    seen, write_flat, write_seeds, write_incompressible, write_well, well_field, write_arena, smoke_arrays, plane
):
    """One file of each layout, as the formats see it."""
    if not seen:
        grid = {"x": (np.arange(12) + 0.5) / 12, "y": (np.arange(20) + 0.5) / 20}
        times = 0.1 * np.arange(6)
        velocity = np.stack([plane["velocity_x"], plane["velocity_y"]], axis=-1)
        nu = plane["density"][:, 0]
        mask = np.array([True, *[False] * 10, True])
        fields = {"density": well_field(plane["density"]), "mask": well_field(nu, time=False)}
        config = "sim:\n  gravity: 1.0\n  dam_radius: 0.5\n  inner_height: 2.0\n"
        paths = {
            "flat": write_flat({"density": plane["density"], "Vx": plane["velocity_x"]}, {**grid, "t": times}, M=0.1),
            "darcy": write_flat({"nu": nu, "tensor": nu[:, None]}, grid, "darcy.hdf5", beta=1.0),
            "seeds": write_seeds({i: (plane["density"][i][..., None], {**grid, "t": times}, config) for i in range(2)}),
            "ns": write_incompressible(
                plane["density"][..., None], velocity, velocity[:, 0], np.tile(times, (4, 1)), latest=4
            ),
            "well": write_well(
                (fields, {"velocity": well_field(velocity)}),
                grid,
                times,
                4,
                {"wall": ("WALL", ["x"], mask)},
                {"F": (np.arange(4.0), True, False), "drive": (times, False, True)},
                {"Re": 5.0},
            ),
            "arena": write_arena(smoke_arrays),
            "maxwell": write_arena(
                {"d_field": np.stack([velocity] * 3, axis=-1)[..., 0, :][..., None, :]}, name="d.h5"
            ),
            "ks": write_arena({"pde_9": nu, "dt": np.ones(4), "dx": np.ones(4)}, name="ks.h5"),
        }
        seen.update({name: _with_values(probe(path)) for name, path in paths.items()})
    return seen


def _with_values(tree: StoredTree) -> StoredTree:
    small = {path: array for path, array in tree.arrays.items() if len(array.shape) <= 2}
    arrays = {path: replace(array, values=tree.values(path)) for path, array in small.items()}
    return replace(tree, arrays={**tree.arrays, **arrays}, fetch=lambda path: np.zeros(tree.arrays[path].shape))


def _changed(random: Random, tree: StoredTree) -> StoredTree:
    """The tree with one to three things in it changed or taken away."""
    attributes, groups, arrays = dict(tree.attributes), dict(tree.groups), dict(tree.arrays)
    for _ in range(random.randint(1, 3)):
        target = random.choice(["root", "group", "array", "array"])
        if target == "root":
            attributes = _spoiled(random, attributes)
        elif target == "group" and groups:
            path = random.choice(sorted(groups))
            groups[path] = _spoiled(random, groups[path])
            if random.random() < 0.2:
                del groups[path]
        elif arrays:
            path = random.choice(sorted(arrays))
            changed = _array(random, arrays.pop(path))
            arrays.update({path: changed} if changed else {})
    return replace(tree, attributes=attributes, groups=groups, arrays=arrays)


def _spoiled(random: Random, attributes: dict) -> dict:
    if not attributes:
        return {}
    name = random.choice(sorted(attributes))
    others = {key: value for key, value in attributes.items() if key != name}
    return others if random.random() < 0.3 else {**others, name: random.choice(ODD_VALUES)}


def _array(random: Random, array: StoredArray) -> StoredArray | None:
    kind = random.choice(["gone", "shape", "type", "attributes", "elements", "unwritten"])
    if kind == "gone":
        return None
    if kind == "shape":
        shape = random.choice([(), (1,), (0, 3), array.shape[1:], array.shape[::-1], (*array.shape, 1)])
        return replace(array, shape=shape, values=None if array.values is None else np.zeros(shape))
    if kind == "type":
        return replace(array, dtype=random.choice(["|O", "<c8", "|b1", ">f8"]))
    if kind == "attributes":
        return replace(array, attributes=_spoiled(random, array.attributes))
    if kind == "elements" and array.values is not None:
        values = random.choice(ODD_ELEMENTS)
        return replace(array, values=values, shape=values.shape, dtype=values.dtype.str)
    return replace(array, nothing_written=True)


@pytest.mark.parametrize("name", ["flat", "darcy", "seeds", "ns", "well", "arena", "maxwell", "ks"])
def test_a_contradictory_file_is_described_or_refused(trees, name):
    tree = trees[name]
    assert describe_tree(tree, Statement()).format != "plain"

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.randoms(use_true_random=False))
    def check(random: Random) -> None:
        try:
            layout = describe_tree(_changed(random, tree), Statement())
        except UserError:
            return
        assert isinstance(layout, FileLayout)
        assert len(layout.frames) == len(layout.parameters)
        for array in layout.arrays:
            assert len(array.axes) == len(array.shape)
            sizes = [array.size(axis.name) for axis in layout.meta.axes]
            assert all(size in (None, points) for size, points in zip(sizes, layout.space, strict=True))

    check()
