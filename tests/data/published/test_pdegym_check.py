"""A preset on the file of another data set ends in one sentence that names the right ones."""

from pathlib import Path

import h5py
import pytest

from katops.data.formats.provenance import NAME
from katops.data.preset_check import check_preset
from katops.errors import UserError
from katops.pdegym import SETS, preset


@pytest.mark.parametrize("name", SETS)
def test_the_file_of_a_set_is_accepted_for_it_and_for_those_that_look_alike(write_set, name):
    path, _ = write_set(name)
    alike = [other for other, entry in SETS.items() if list(entry.variables) == list(SETS[name].variables)]
    accepted = []
    for other in alike:
        try:
            check_preset(other, path)
        except UserError:
            continue
        accepted.append(other)
    assert name in accepted
    shapes = {tuple(shape[2:] for shape in SETS[other].variables.values()) for other in accepted}
    assert len(shapes) == 1


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        (
            "NS-PwC",
            "CE-RP",
            r"has the arrays velocity \(20000, 21, 3, 128, 128\), but .* holds data \(3, 21, 5, 12, 20\)",
        ),
        ("NS-PwC", "CE-RP", "as CE-RP, CE-CRP, CE-KH, CE-Gauss and CE-RPUI do"),
        ("CE-RM", "GCE-RT", r"holds solution \(3, 11, 6, 12, 20\) as GCE-RT does; .* give the file of CE-RM"),
        ("NS-PwC", "NS-SL", r"holds velocity \(3, 21, 2, 12, 20\) as NS-SL does"),
        ("NS-SL", "NS-PwC", "as NS-Sines, NS-Gauss, NS-PwC, NS-SVS, NS-BB and NS-Tracer-PwC do"),
        ("ACE", "Wave-Layer", "as Wave-Layer and Wave-Gauss do; name that preset, or give the file of ACE"),
        ("Poisson-Gauss", "Helmholtz", r"holds Sample_0/a \(12, 20\).* as Helmholtz does"),
        ("FNS-KF", "SE-AF", "as SE-AF does"),
    ],
)
def test_the_file_of_another_set_is_refused_with_its_arrays_and_its_presets(write_set, name, file, said):
    path, _ = write_set(file)
    with pytest.raises(UserError, match=said) as error:
        check_preset(name, path)
    assert "\n" not in str(error.value)


def test_files_of_other_formats_are_left_to_their_description(write_plain, fields):
    check_preset("NS-PwC", write_plain(coefficient=fields["coefficient"]))


@pytest.fixture
def generated(write_set) -> Path:
    """As ``katops generate`` writes a shear layer in this layout."""
    path, _ = write_set("NS-SL")
    with h5py.File(path, "r+") as file:
        file.attrs[NAME] = "{}"
    return path


def test_the_axes_of_a_generated_file_are_not_swapped_by_a_preset(generated):
    with pytest.raises(UserError, match=r"written by katops generate.*state data.axes: null beside data.preset: NS-SL"):
        check_preset("NS-SL", generated, preset("NS-SL")["axes"])
    check_preset("NS-SL", generated, None)


def test_a_generated_file_without_a_tracer_is_as_good_as_one_with_it(generated):
    check_preset("NS-PwC", generated)
