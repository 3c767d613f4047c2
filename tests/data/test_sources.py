"""Files, folders and patterns: what is data is told by its bytes, and all files must belong together."""

import os
import shutil

import h5py
import numpy as np
import pytest

from katops.data.sources import describe_all, find_files
from katops.errors import UserError


@pytest.fixture
def parts(write_katops, fields, tmp_path):
    """A folder with three files of different numbers of samples, a note and a folder."""
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    (folder / "README.md").write_text("a note")
    (folder / ".hidden.h5").write_text("not looked at")
    for number, count in ((10, 4), (2, 9), (1, 5)):
        channels = {
            "coefficient": ("input", fields["coefficient"][:count]),
            "p": ("output", fields["pressure"][:count]),
        }
        shutil.move(write_katops(channels), folder / f"part_{number}")
    return folder


def test_a_folder_stands_for_its_data_files_in_natural_order(parts):
    assert [path.name for path in find_files(parts)] == ["part_1", "part_2", "part_10"]
    assert [layout.n_samples for layout in describe_all(parts)] == [5, 9, 4]


def test_a_pattern_stands_for_what_matches(parts):
    assert [path.name for path in find_files(str(parts / "part_1*"))] == ["part_1", "part_10"]
    with pytest.raises(UserError, match=r"no file matches .*part_3\*"):
        find_files(parts / "part_3*")


def test_a_file_stands_for_itself_even_with_brackets_in_its_name(parts):
    strange = parts / "part[1].h5"
    shutil.copy(parts / "part_1", strange)
    assert find_files(strange) == [strange]


def test_a_list_may_mix_files_folders_and_patterns(parts):
    shutil.copytree(parts, parts.parent / "copies")
    assert len(describe_all([parts / "part_1", parts.parent / "copies", str(parts / "part_1?")])) == 5


def test_a_folder_without_data_is_refused(parts):
    with pytest.raises(UserError, match="is a folder in which no file is of a kind that is read"):
        find_files(parts / "deeper")


def test_a_damaged_file_in_a_folder_is_not_passed_over(parts):
    (parts / "part_3.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"part_3\.h5 is empty"):
        find_files(parts)


def test_a_missing_file_is_named(parts):
    with pytest.raises(UserError, match=r"no file .*part_4"):
        describe_all(parts / "part_4")


def test_no_file_at_all_is_refused():
    with pytest.raises(UserError, match="empty list"):
        describe_all([])


def test_a_file_counts_once_whatever_it_is_called(parts):
    os.symlink(parts / "part_1", parts / "part_again")
    with pytest.raises(UserError, match=r"part_again is given twice \(also as .*part_1\)"):
        describe_all(parts)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (lambda file: file["fields"].move("p", "pressure"), "outputs"),
        (lambda file: file["fields/p"].attrs.__setitem__("unit", "bar"), "bar"),
        (lambda file: file["axes/x"].attrs.__setitem__("boundary", ["neumann", "neumann"]), "neumann"),
        (lambda file: file.__setitem__("parameters/nu", np.ones(5)), "nu"),
    ],
)
def test_files_that_do_not_belong_together_are_named_with_the_difference(parts, change, difference):
    with h5py.File(parts / "part_1", "r+") as file:
        change(file)
    with pytest.raises(UserError, match="cannot be read as one data set") as caught:
        describe_all(parts)
    assert all(part in str(caught.value) for part in ("part_1", "part_2", difference))


def test_parameters_of_each_file_are_kept(write_katops, fields):
    paths = [
        write_katops(
            {"coefficient": ("input", fields["coefficient"]), "p": ("output", fields["pressure"])},
            name=f"{value}.h5",
            parameters={"beta": np.full(9, value)},
        )
        for value in (0.5, 1.5)
    ]
    assert [set(layout.parameters[:, 0]) for layout in describe_all(paths)] == [{0.5}, {1.5}]


def test_one_statement_holds_for_all_files(write_plain, plane):
    paths = [write_plain(name, a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20))) for name in ("one.h5", "two.h5")]
    layouts = describe_all(paths, **plane, boundary="periodic")
    assert {layout.meta.boundary for layout in layouts} == {(("periodic", "periodic"),) * 2}
