"""Descriptors: golden values, analytic limits, gradients, an independent package as oracle."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.materials import carbide_table, describe, element_table, pair_table
from katops.materials.descriptors import DESCRIPTORS, SETS
from katops.materials.descriptors.statistics import STATISTICS
from katops.materials.descriptors.thermodynamics import GAS_CONSTANT

CANTOR = ["Co", "Cr", "Fe", "Mn", "Ni"]
EQUIMOLAR = np.full((1, 5), 0.2)
NAMES = [
    "mixing_entropy",
    "size_mismatch",
    "mixing_enthalpy",
    "mean_melting_temperature",
    "omega",
    "valence_electron_concentration",
    "electronegativity_difference",
    "entropy_over_mismatch",
    "packing_misfit",
]


def one(name, elements, fractions, **options):
    return describe(np.array([fractions]), elements, [name], **options)[0, 0]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ("Co Cr Fe Mn Ni", [13.3816, 3.1641, -4.160, 1801.20, 5.794, 8.00, 0.1384, 1.3366, 1.0932]),
        ("Al Co Cr Fe Ni", [13.3816, 5.2921, -12.320, 1684.09, 1.8292, 7.20, 0.1206, 0.4778, 1.1581]),
        ("Hf Nb Ta Ti Zr", [13.3816, 4.0341, 2.720, 2523.00, 12.412, 4.40, 0.1183, 0.8223, 1.0960]),
        ("Mo Nb Ta V W", [13.3816, 3.2897, -4.640, 2962.80, 8.545, 5.40, 0.3434, 1.2365, 1.0958]),
    ],
)
def test_known_alloys_have_their_golden_values(elements, expected):
    values = describe(EQUIMOLAR, elements.split(), NAMES)[0]
    half_a_digit = [5e-5, 5.1e-5, 5e-4, 6e-3, 5.1e-4, 5e-3, 5.1e-5, 6e-5, 5.1e-5]
    assert (np.abs(values - expected) <= half_a_digit).all()


def test_the_entropy_of_n_equal_parts_is_r_ln_n():
    for count in (1, 2, 5):
        value = one("mixing_entropy", CANTOR[:count], [1 / count] * count)
        assert value == pytest.approx(GAS_CONSTANT * math.log(count), abs=1e-12)


def test_the_enthalpy_of_an_equiatomic_pair_is_that_of_the_table_with_its_sign():
    for first, second in [("Al", "Ni"), ("Cu", "Fe")]:
        expected = pair_table().pair(second, first)
        assert one("mixing_enthalpy", [first, second], [0.5, 0.5]) == pytest.approx(expected)
    assert pair_table().pair("Al", "Ni") < 0 < pair_table().pair("Cu", "Fe")


def test_voigt_is_above_hill_above_reuss_and_a_pure_element_has_its_own_modulus():
    voigt, hill, reuss = describe(EQUIMOLAR, CANTOR, ["bulk_modulus_voigt", "bulk_modulus_hill", "bulk_modulus_reuss"])[
        0
    ]
    assert voigt > hill > reuss
    for name in ("bulk_modulus_voigt", "bulk_modulus_hill", "bulk_modulus_reuss"):
        assert one(name, ["W"], [1.0]) == pytest.approx(323.3)


def test_a_pure_element_has_no_mismatch_and_finite_ratios():
    for name in ("size_mismatch", "local_strain", "local_modulus_mismatch", "shear_strengthening", "radius_range"):
        assert one(name, ["Fe", "Ni"], [0.0, 1.0]) == pytest.approx(0, abs=1e-12)
    assert one("omega", ["Ni"], [1.0]) == 1000
    assert one("inverse_omega", ["Ni"], [1.0]) == 0
    assert one("packing_misfit", ["Ni"], [1.0]) == 1
    assert one("density", ["Fe"], [1.0]) == pytest.approx(7.87, abs=0.01)


def test_statistics_are_those_of_the_elements_present():
    ends = ["mean", "deviation", "minimum", "maximum", "range"]
    values = describe(np.array([[0.25, 0.75, 0.0]]), ["Al", "Ni", "Mg"], [f"radius_{end}" for end in ends])[0]
    expected = [0.25 * 143 + 0.75 * 125, math.sqrt(0.25 * 0.75) * 18, 125, 143, 18]
    assert values == pytest.approx(expected)


def test_the_electron_ratio_is_that_of_the_table_it_was_solved_from(shared):
    pandas = pytest.importorskip("pandas")
    data = pandas.read_csv(shared / "data/materials/hea_hardness_gorsse2018.csv")
    fractions = data.iloc[:, :24]
    weights = fractions.to_numpy() / fractions.to_numpy().sum(axis=1, keepdims=True)
    values = describe(weights, list(fractions.columns), ["itinerant_electron_concentration"])[:, 0]
    assert np.abs(values - data["e/a"]).max() < 1e-7


def test_all_descriptors_agree_with_hea_bench():
    hea_bench = pytest.importorskip("hea_bench.descriptors")
    pytest.importorskip("pandas")
    from katops.materials import composition_table, descriptor_table

    formulas = ["CoCrFeMnNi", "Al0.3CoCrFeNi", "Cu47Ti33Zr11Si1Ni6Sn2", "MoNbTaVW", "Al8Mn5", "Fe40Mn40Co10Cr10"]
    oracle = {
        "mixing_entropy": hea_bench.smix,
        "mixing_enthalpy": hea_bench.mixing_enthalpy,
        "mean_melting_temperature": hea_bench.melting_temperature,
        "omega": hea_bench.omega,
        "size_mismatch": hea_bench.delta,
        "valence_electron_concentration": hea_bench.vec,
        "electronegativity_difference": hea_bench.delta_chi,
        "electronegativity_mean": hea_bench.mean_electronegativity,
        "entropy_over_mismatch": hea_bench.singh_lambda,
        "packing_misfit": hea_bench.wang_gamma,
        "gibbs_energy": hea_bench.delta_g_ss,
        "king_phi": hea_bench.phi_king,
        "excess_entropy": hea_bench.s_excess,
        "ye_phi": hea_bench.phi_ye,
    }
    table, fractions = descriptor_table(formulas, list(oracle)), composition_table(formulas)
    for row, formula in enumerate(formulas):
        present = {symbol: value for symbol, value in fractions.iloc[row].items() if value > 0}
        for name, function in oracle.items():
            # that package rounds R to 8.314, which is 6e-5 off
            assert table[name][row] == pytest.approx(function(present), rel=2e-4, abs=5e-4), (formula, name)


def test_every_descriptor_has_the_gradient_of_its_differences():
    generator = torch.Generator().manual_seed(0)
    elements = ["Al", "Co", "Cr", "Fe", "Ni"]
    logits = torch.randn(1, 5, dtype=torch.float64, generator=generator)
    fractions = torch.softmax(logits, -1).requires_grad_()
    names = [*DESCRIPTORS, *(f"radius_{statistic}" for statistic in STATISTICS)]
    assert torch.autograd.gradcheck(lambda values: describe(values, elements, names), fractions)


def test_values_and_gradients_are_finite_on_the_corners_of_the_simplex():
    corners = torch.eye(5, dtype=torch.float64).requires_grad_()
    values = describe(corners, CANTOR, "all")
    values.sum().backward()
    assert values.isfinite().all()
    assert corners.grad.isfinite().all()


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(5)), st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_the_order_of_elements_and_absent_ones_do_not_matter(order, weights):
    fractions = np.array([weights]) / sum(weights)
    expected = describe(fractions, CANTOR, "all")
    permuted = describe(fractions[:, order], [CANTOR[number] for number in order], "all")
    padded = describe(np.hstack([fractions, [[0.0]]]), [*CANTOR, "Xe"], "all")
    np.testing.assert_allclose(permuted, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(padded, expected, rtol=1e-9, atol=1e-9)


def test_arrays_in_pieces_are_what_tensors_are_at_once():
    generator = np.random.default_rng(0)
    fractions = generator.dirichlet(np.ones(5), size=600)
    fractions[::3, 0], fractions[::3] = 0, fractions[::3] / fractions[::3].sum(axis=1, keepdims=True)
    fractions /= fractions.sum(axis=1, keepdims=True)
    at_once = describe(torch.from_numpy(fractions), CANTOR, "phase").numpy()
    np.testing.assert_allclose(describe(fractions, CANTOR, "phase"), at_once, rtol=1e-12)


def test_what_the_tables_do_not_hold_is_refused_and_never_zero():
    with pytest.raises(UserError, match=r"row 1 \(Ni0.8P0.2\): element table 'katops-elements-1' has no radius for P"):
        describe(np.array([[1.0, 0.0], [0.8, 0.2]]), ["Ni", "P"], ["size_mismatch"])
    with pytest.raises(UserError, match=r"no enthalpy for (Th-U|U-Th)"):
        one("mixing_enthalpy", ["Th", "U"], [0.5, 0.5])
    with pytest.raises(UserError, match="no enthalpy for U-Th"):
        pair_table().pair("U", "Th")


def test_missing_rows_are_marked_where_that_is_asked_for():
    values = describe(np.array([[1.0, 0.0], [0.8, 0.2]]), ["Ni", "P"], ["radius_mean", "mixing_entropy"], missing="nan")
    assert values[0, 0] == 125
    assert np.isnan(values).tolist() == [[False, False], [True, False]]


def test_a_gradient_needs_the_absent_elements_too():
    fractions = torch.tensor([[1.0, 0.0]], requires_grad=True)
    with pytest.raises(UserError, match="has no radius for P"):
        describe(fractions, ["Ni", "P"], ["radius_mean"])


def test_a_property_of_ones_own_becomes_a_descriptor_and_part_of_the_name():
    table = element_table().with_property("price", {"Ni": 18, "Co": 30}, "USD/kg", "my list")
    assert one("price_mean", ["Co", "Ni"], [0.5, 0.5], properties=table) == 24
    assert table.name == "katops-elements-1 + price of my list"
    radii = element_table().with_property("radius", {"Ni": 100, "Co": 200}, "pm", "a test")
    assert one("size_mismatch", ["Co", "Ni"], [0.5, 0.5], properties=radii) == pytest.approx(100 / 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((EQUIMOLAR, CANTOR, ["mixing_entrpy"]), "did you mean 'mixing_entropy'"),
        ((EQUIMOLAR, CANTOR, "phases"), "did you mean 'phase'"),
        ((EQUIMOLAR, CANTOR, ["price_mean"]), "unknown descriptor 'price_mean'"),
        ((EQUIMOLAR * 100, CANTOR, "phase"), "sums to 100, atomic fractions must sum to 1"),
        ((-EQUIMOLAR, CANTOR, "phase"), "row 0 of the fractions is negative"),
        ((EQUIMOLAR, CANTOR[:4], "phase"), "must have the shape"),
        ((EQUIMOLAR, ["Co", "Cr", "Fe", "Mn", "Nx"], "phase"), "'Nx' is no chemical symbol"),
        ((torch.ones(5), CANTOR, "phase"), "must be a float tensor of the shape"),
    ],
)
def test_bad_input_is_told_in_one_sentence(arguments, message):
    with pytest.raises(UserError, match=message):
        describe(*arguments)


def test_a_table_names_its_units_and_the_tables_behind_it():
    pytest.importorskip("pandas")
    from katops.materials import descriptor_table

    table = descriptor_table(["CoCrFeMnNi"], ["mixing_enthalpy", "size_mismatch", "radius_mean"])
    assert table.attrs["units"] == {"mixing_enthalpy": "kJ/mol", "size_mismatch": "%", "radius_mean": "pm"}
    assert table.attrs["tables"] == {"elements": "katops-elements-1", "pairs": "miedema-pairs-matminer"}


def test_the_shipped_tables_are_the_published_ones(shared):
    pandas = pytest.importorskip("pandas")
    folder = shared / "data/materials"
    published = pandas.read_csv(folder / "elements_hea_bench.csv")
    columns = {
        "radius_pm": "radius",
        "melting_K": "melting_temperature",
        "valence_electrons": "valence_electrons",
        "pauling_chi": "electronegativity",
        "molar_volume_cm3": "molar_volume",
        "bulk_modulus_GPa": "bulk_modulus",
        "shear_modulus_GPa": "shear_modulus",
    }
    for source, name in columns.items():
        assert element_table().column(name, published["element"]).tolist() == published[source].tolist()
    pairs = pandas.read_csv(folder / "miedema_pair_enthalpies.tsv", sep=r"\s+")
    ours = [pair_table().pair(*names) for names in zip(pairs["elem_A"], pairs["elem_B"], strict=True)]
    assert ours == pairs["delta_Hf"].tolist()
    assert len(pair_table().values) == len(pairs)


def test_carbides_have_descriptors_of_their_precursors(shared):
    pandas = pytest.importorskip("pandas")
    published = pandas.read_csv(shared / "data/materials/carbide_precursors_zhang2024.csv").set_index("formula")
    names = ["carbide_bulk_modulus_mean", "carbide_volume_range", "carbide_hardness_minimum"]
    values = describe(np.array([[0.25, 0.75]]), ["Ti", "W"], names, properties=carbide_table())[0]
    titanium, tungsten = published.loc["TiC"], published.loc["WC"]
    expected = [
        0.25 * titanium["B"] + 0.75 * tungsten["B"],
        abs(titanium["volume_per_formula"] - tungsten["volume_per_formula"]),
        min(titanium["Hv"], tungsten["Hv"]),
    ]
    assert values == pytest.approx(expected)
    assert describe(np.array([[0.25, 0.75]]), ["Ti", "W"], "moments", properties=carbide_table()).shape == (1, 34)


def test_a_list_may_mix_sets_and_names_and_holds_each_once():
    pytest.importorskip("pandas")
    from katops.materials import descriptor_table

    table = descriptor_table(["CoNi"], ["radius_mean", "phase", "mixing_entropy", "radius_mean"])
    assert table.columns.tolist() == ["radius_mean", *SETS["phase"]]


def test_every_set_can_be_computed():
    for name in (*SETS, "statistics", "moments", "all"):
        assert np.isfinite(describe(EQUIMOLAR, CANTOR, name)).all()
    assert describe(EQUIMOLAR, CANTOR, []).shape == (1, 0)
