"""Formulas: what they mean, exactly, and where they are wrong."""

import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from katops.errors import UserError
from katops.materials import atomic_fractions, composition_table, parse_formula
from katops.materials.formula import SYMBOLS

amounts = st.dictionaries(
    st.sampled_from(SYMBOLS), st.integers(1, 999).map(lambda number: Fraction(number, 10)), min_size=1, max_size=7
)


def written(composition):
    return "".join(f"{symbol}{float(amount):g}" for symbol, amount in composition.items())


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("CoCrNi", {"Co": "1/3", "Cr": "1/3", "Ni": "1/3"}),
        ("Al0.3CoCrFeNi", {"Al": "3/43", "Co": "10/43", "Cr": "10/43", "Fe": "10/43", "Ni": "10/43"}),
        ("(CoCr)0.5Ni", {"Co": "1/4", "Cr": "1/4", "Ni": "1/2"}),
        ("Al0.25 Co1 Fe1 Ni1", {"Al": "1/13", "Co": "4/13", "Fe": "4/13", "Ni": "4/13"}),
        ("Cu25Al10 Ni25 Fe20 Co 20 ", {"Cu": "1/4", "Al": "1/10", "Ni": "1/4", "Fe": "1/5", "Co": "1/5"}),
        ("[(CoCr)2{Ni}]0.5Fe", {"Co": "2/7", "Cr": "2/7", "Ni": "1/7", "Fe": "2/7"}),
        ("Ni60Al10Ni10Cu20", {"Ni": "7/10", "Al": "1/10", "Cu": "1/5"}),
        ("Al0CoNi", {"Co": "1/2", "Ni": "1/2"}),
        ("Al₀.₅Co", {"Al": "1/3", "Co": "2/3"}),
        ("Fe.5Ni1.", {"Fe": "1/3", "Ni": "2/3"}),
        ("CO2", {"C": "1/3", "O": "2/3"}),
    ],
)
def test_a_formula_means_these_exact_fractions(text, meaning):
    assert dict(parse_formula(text).fractions) == {symbol: Fraction(value) for symbol, value in meaning.items()}


def test_a_bracket_in_a_percentage_shares_it():
    fractions = parse_formula("(CoCrNi)94Al3Ti3").fractions
    assert fractions["Co"] == Fraction(94, 300)
    assert fractions["Al"] == Fraction(3, 100)


def test_a_bracket_elsewhere_is_multiplied():
    assert parse_formula("(CoCrNi)2Al").fractions["Al"] == Fraction(1, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CoXxNi", r"position 3: 'Xx' is no chemical symbol; did you mean 'Xe'"),
        ("Al0.3co", r"position 6: 'c' begins no chemical symbol.*did you mean 'Co'"),
        ("Ta_Th", r"position 3: unexpected '_'"),
        ("Ni(CoCr", r"position 3: the bracket '\(' is not closed"),
        ("CoCr)2", r"position 5: unexpected '\)'"),
        ("(CoCr]", r"position 6: unexpected '\]'"),
        ("2Al", r"position 1: an amount stands before its element"),
        ("Ni()", r"position 3: there is nothing in the bracket"),
        ("(" * 30 + "Ni" + ")" * 30, "more than 20 brackets"),
        ("  ", "names no element"),
        ("Al0", "names no element"),
        (3, "must be text"),
    ],
)
def test_a_wrong_formula_is_refused_with_its_place(text, message):
    with pytest.raises(UserError, match=message):
        parse_formula(text)


@given(amounts, st.integers(2, 50), st.randoms())
def test_order_and_scale_change_neither_fractions_nor_keys(composition, factor, random):
    shuffled = list(composition.items())
    random.shuffle(shuffled)
    first = parse_formula(written(composition))
    second = parse_formula(written({symbol: amount * factor for symbol, amount in shuffled}))
    assert first.fractions == second.fractions
    assert (first.key, first.system) == (second.key, second.system)
    assert sum(first.fractions.values()) == 1


def read_or_refuse(text):
    try:
        return parse_formula(text)
    except UserError as error:
        return str(error)


@given(st.text(alphabet="AlCoNi()[]0123456789. x_", max_size=20))
def test_any_text_is_read_or_refused_in_one_sentence(text):
    result = read_or_refuse(text)
    assert "\n" not in result if isinstance(result, str) else sum(result.fractions.values()) == 1


def test_keys_are_sorted_and_rounded_to_four_digits():
    composition = parse_formula("NiAl0.3CoCrFe")
    assert composition.key == "Al0.0698Co0.2326Cr0.2326Fe0.2326Ni0.2326"
    assert composition.system == "Al-Co-Cr-Fe-Ni"


def test_the_metals_of_a_carbide_are_what_is_left_without_carbon():
    assert parse_formula("(TiZrHfV)C").without("C").fractions["Ti"] == Fraction(1, 4)
    with pytest.raises(UserError, match="nothing but C"):
        parse_formula("C").without("C")


def test_a_composition_survives_pickling():
    composition = parse_formula("CoCrNi2")
    assert pickle.loads(pickle.dumps(composition)) == composition


def test_a_table_has_a_row_a_formula_and_a_column_an_element():
    pandas = pytest.importorskip("pandas")
    table = composition_table(pandas.Series(["CoNi", "Al"], index=[7, 9]))
    assert table.columns.tolist() == ["Al", "Co", "Ni"]
    assert table.index.tolist() == [7, 9]
    assert table.to_numpy().tolist() == [[0, 0.5, 0.5], [1, 0, 0]]
    assert set(table.attrs["units"].values()) == {"atomic fraction"}


def test_a_table_tells_the_first_bad_formula_and_how_many_more():
    pytest.importorskip("pandas")
    with pytest.raises(UserError, match=r"row 1: formula 'Xq'.*1 more formulas cannot"):
        composition_table(["Ni", "Xq", "Yq9z"])
    with pytest.raises(UserError, match="row 0: formula 'CoNi' holds Co, which is not among the elements Ni"):
        composition_table(["CoNi"], elements=["Ni"])
    with pytest.raises(UserError, match="named twice"):
        composition_table(["Ni"], elements=["Ni", "Ni"])


def test_weights_become_atomic_fractions():
    fractions = atomic_fractions([[95.99, 95.95]], ["Ti", "Mo"])  # 95.99 g of Ti are twice as many atoms
    assert fractions[0] == pytest.approx([2 / 3, 1 / 3], abs=2e-3)
    assert atomic_fractions([[0.5, 0.5]], ["Fe", "Ni"])[0, 0] == pytest.approx(58.6934 / (58.6934 + 55.845))
    with pytest.raises(UserError, match="has no atomic_mass for Xe"):
        atomic_fractions([[1, 1]], ["Fe", "Xe"])
    with pytest.raises(UserError, match="sums to 0"):
        atomic_fractions([[0, 0]], ["Fe", "Ni"])
