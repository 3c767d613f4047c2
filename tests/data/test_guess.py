"""What is proposed for a file works as it stands: the printed block describes the file."""

import numpy as np
import pytest
import yaml

from katops.data.containers.probe import probe
from katops.data.formats import describe
from katops.data.formats.guess import propose
from katops.data.formats.proposal import yaml_block


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape)


def _round_trip(path):
    """The layout that the proposal gives, after checking that the printed block gives the same."""
    proposal = propose(probe(path))
    layout = describe(path, **proposal.statement)
    data = yaml.safe_load(yaml_block(layout, proposal))["data"]
    data.pop("window", None)
    assert describe(data.pop("file"), **data) == layout
    return layout


def _roles(layout) -> tuple[list[str], list[str]]:
    return [array.name for array in layout.inputs], [array.name for array in layout.outputs]


@pytest.mark.parametrize(
    ("arrays", "inputs", "outputs", "frames", "space"),
    [
        ({"nu": (4, 12, 20), "sol": (4, 12, 20)}, ["nu"], ["sol"], 1, (12, 20)),
        ({"first": (4, 12), "second": (4, 12)}, ["first"], ["second"], 1, (12,)),
        ({"whatever": (4, 7, 12, 20)}, ["whatever"], ["whatever"], 7, (12, 20)),
        ({"density": (4, 7, 12, 20), "Vx": (4, 7, 12, 20)}, ["Vx", "density"], ["Vx", "density"], 7, (12, 20)),
        ({"a": (4, 12, 20), "u": (4, 7, 12, 20), "grid": (12, 2)}, ["a"], ["u"], 7, (12, 20)),
        ({"a": (4, 12, 20), "u": (4, 12, 20, 7)}, ["a"], ["u"], 7, (12, 20)),
        ({"group/in put": (4, 12, 20), "group/true": (4, 12, 20)}, ["group/in put"], ["group/true"], 1, (12, 20)),
        ({"data": (9, 7, 2, 12, 20)}, ["data_0", "data_1"], ["data_0", "data_1"], 7, (12, 20)),
        ({"data": (9, 7, 12, 20, 2)}, ["data_0", "data_1"], ["data_0", "data_1"], 7, (12, 20)),
        ({"pair": (9, 12, 20, 2)}, ["pair_0"], ["pair_1"], 1, (12, 20)),
    ],
)
def test_roles_and_axes_of_plain_arrays_are_guessed(write_plain, arrays, inputs, outputs, frames, space):
    layout = _round_trip(write_plain(**{name: _numbers(*shape) for name, shape in arrays.items()}))
    assert layout.format == "plain"
    assert _roles(layout) == (inputs, outputs)
    assert (set(layout.frames), layout.space) == ({frames}, space)


def test_numbers_beside_the_fields_are_proposed_as_parameters_and_coordinates_are_not(write_plain):
    path = write_plain(
        a=_numbers(4, 12, 20), u=_numbers(4, 12, 20), visc=np.ones((1, 1)), beta=np.ones(4), time=np.ones(4)
    )
    layout = _round_trip(path)
    assert [channel.name for channel in layout.meta.parameters] == ["beta", "visc"]


@pytest.mark.parametrize("name", ["darcy_train_16", "burgers_test_16"])
def test_real_files_are_guessed(shared, name):
    layout = _round_trip(shared / f"data/pde/{name}.h5")
    assert _roles(layout) == (["x"], ["y"])
    assert layout.time_dependent == name.startswith("burgers")


def test_matlab_trajectories_have_time_last(write_matlab5, write_matlab73):
    for write in (write_matlab5, write_matlab73):
        layout = _round_trip(write(w=_numbers(4, 12, 20, 7)))
        assert (layout.n_samples, set(layout.frames), layout.space) == (4, {7}, (12, 20))


def test_files_that_describe_themselves_need_no_statement(moving, write_pdegym, write_matlab5, write_torch):
    paths = [
        moving,
        write_pdegym(velocity=_numbers(3, 21, 3, 12, 20)),
        write_matlab5(coeff=_numbers(4, 12, 20), sol=_numbers(4, 12, 20)),
        write_torch(x=_numbers(4, 12, 20) > 0, y=_numbers(4, 12, 20)),
    ]
    for path in paths:
        assert propose(probe(path)).statement == {}
        assert _round_trip(path) == describe(path)


def test_named_dimensions_are_proposed_as_they_are(write_netcdf):
    dimensions = ("member", "time", "south", "east")
    layout = _round_trip(write_netcdf({"u": (dimensions, _numbers(4, 7, 12, 20))}))
    assert [axis.name for axis in layout.meta.axes] == ["south", "east"]


def test_of_several_formats_the_first_is_proposed_and_the_others_are_named(write_torch):
    path = write_torch(x=_numbers(4, 12, 20), y=_numbers(4, 12, 20))
    proposal = propose(probe(path))
    block = yaml_block(describe(path, **proposal.statement), proposal)
    assert "format: neuraloperator_darcy  # check: or neuraloperator_navier_stokes" in block
    assert _round_trip(path).format == "neuraloperator_darcy"


def test_predictions_are_looked_at_as_inputs(write_katops, fields):
    path = write_katops({"pressure": ("output", fields["pressure"])})
    layout = describe(path, **propose(probe(path)).statement)
    assert _roles(layout) == (["pressure"], [])


def test_nothing_is_proposed_where_nothing_looks_like_a_field(write_plain):
    assert propose(probe(write_plain(a=np.ones(4), b=np.ones((4, 1))))) is None
    assert propose(probe(write_plain("line.h5", a=np.ones((4, 12))))) is None


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_of_two_equal_sizes_and_another_one_the_latter_counts_samples(write_numpy, write_matlab73, order):
    values = _numbers(30, 16, 16).transpose(order)
    for path in (write_numpy(name="set.npz", perm=values, head=values), write_matlab73(perm=values, head=values)):
        layout = _round_trip(path)
        assert (layout.n_samples, layout.space, layout.time_dependent) == (30, (16, 16), False)
        proposal = propose(probe(path))
        assert "axes: [" in (block := yaml_block(layout, proposal))
        assert "# check: two sizes are equal, so the other one counts the samples" in block


@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_trajectory_beside_fields_with_the_samples_last_is_found(write_plain, place):
    shape = (16, 16, 30)
    layout = _round_trip(write_plain(a=_numbers(*shape), u=_numbers(*shape[:place], 7, *shape[place:])))
    assert (layout.n_samples, set(layout.frames), layout.space) == (30, {7}, (16, 16))
    assert _roles(layout) == (["a"], ["u"])


def test_the_block_says_why_arrays_are_inputs_or_outputs(write_plain):
    values = _numbers(4, 12, 20)
    by_name, by_order = write_plain("a.h5", a=values, u=values), write_plain("b.h5", one=values, two=values)
    blocks = [yaml_block(_round_trip(path), propose(probe(path))) for path in (by_name, by_order)]
    assert "inputs: [a]  # check: by the names" in blocks[0]
    assert "inputs: [one]  # check: the first array" in blocks[1]
    assert "outputs: [two]  # check: the last array" in blocks[1]


def test_coordinates_give_grid_domain_and_the_names_of_the_axes(write_plain):
    values = _numbers(9, 12, 20)
    arrays = {"grid/x": np.linspace(0, 2, 20), "grid/y": (np.arange(12) + 0.5) / 12}
    layout = _round_trip(write_plain(a=values, u=values, **arrays))
    assert [(axis.name, axis.grid, axis.upper) for axis in layout.meta.axes] == [
        ("y", "cell_centres", 1.0),
        ("x", "nodes", 2.0),
    ]


def test_only_what_is_not_stated_is_guessed(write_plain):
    path = write_plain(a=_numbers(9, 12, 20), b=_numbers(9, 12, 20), c=_numbers(9, 12, 20))
    proposal = propose(probe(path), {"inputs": ["b"], "outputs": ["a"]})
    assert (proposal.statement["inputs"], proposal.statement["outputs"]) == (["b"], ["a"])
    assert set(proposal.reasons) == {"axes"}


def test_letters_of_other_alphabets_are_printed_as_they_are(write_plain):
    path = write_plain(κ=_numbers(4, 12, 20), ψ=_numbers(4, 12, 20))
    block = yaml_block(_round_trip(path), propose(probe(path)))
    assert 'inputs: ["κ"]' in block
    assert 'outputs: ["ψ"]' in block
