"""Small fitted estimators that several tests look at."""

import numpy as np
import pandas
import pytest

from katops.estimators import KANClassifier, KANRegressor


@pytest.fixture(scope="session")
def alloys() -> tuple[pandas.DataFrame, pandas.Series]:
    """Strength as a straight line in the temperature and a parabola in the nickel content; one column is noise."""
    generator = np.random.default_rng(0)
    table = pandas.DataFrame(
        {
            "T [K]": generator.uniform(300, 1200, 240),
            "Ni": generator.uniform(5, 40, 240),
            "noise": generator.standard_normal(240),
        }
    )
    strength = 900 - 0.4 * table["T [K]"] + 0.4 * (table["Ni"] - 20) ** 2
    return table, pandas.Series(strength, name="strength [MPa]")


@pytest.fixture(scope="session")
def additive(alloys) -> KANRegressor:
    """A sum of functions of single columns, two members."""
    return KANRegressor(hidden=(), ensemble=2, epochs=60, random_state=0).fit(*alloys)


@pytest.fixture(scope="session")
def deep(alloys) -> KANRegressor:
    """With hidden nodes."""
    return KANRegressor(hidden=(3,), ensemble=2, epochs=40, penalty=1e-3, random_state=0).fit(*alloys)


@pytest.fixture(scope="session")
def classifier(alloys) -> KANClassifier:
    """Soft and hard alloys."""
    table, strength = alloys
    return KANClassifier(hidden=(), ensemble=1, epochs=30, random_state=0).fit(
        table, np.where(strength > strength.median(), "hard", "soft")
    )
