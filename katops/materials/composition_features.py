"""A scikit-learn transformer from formulas to numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from katops.errors import UserError
from katops.materials.compositions import composition_table
from katops.materials.descriptors import descriptor_table
from katops.materials.descriptors.catalogue import descriptor, descriptor_names
from katops.materials.elements import ElementTable, PairTable, element_table


class CompositionFeatures(TransformerMixin, BaseEstimator):
    """Formulas to atomic fractions and descriptors, as a step of a pipeline.

    ``make_pipeline(CompositionFeatures(descriptors="phase"), KANRegressor())`` fits on formulas; beside other columns:
    ``make_column_transformer((CompositionFeatures(), ["formula"]), remainder="passthrough")``.

    Args:
        fractions: give the atomic fraction of every element.
        descriptors: names or a set of names, see :func:`~katops.materials.descriptors.describe`.
        elements: the columns of fractions; default: the elements that occur in ``fit``, sorted.
        missing: "raise" or "nan", see :func:`~katops.materials.descriptors.describe`.
        properties: element table; default the shipped one.
        pairs: pair enthalpies; default the shipped ones.

    Attributes:
        elements_: columns of fractions.
        units_: unit of every output column.
        n_features_in_: 1.
    """

    def __init__(
        self,
        fractions: bool = True,
        descriptors: str | Iterable[str] = (),
        elements: Iterable[str] | None = None,
        missing: str = "raise",
        properties: ElementTable | None = None,
        pairs: PairTable | None = None,
    ) -> None:
        self.fractions = fractions
        self.descriptors = descriptors
        self.elements = elements
        self.missing = missing
        self.properties = properties
        self.pairs = pairs

    def fit(self, X: Any, y: Any = None) -> "CompositionFeatures":
        """Learn which elements there are.

        Args:
            X: formulas ``(n,)`` or ``(n, 1)``: a list, an array, a series or a frame with one column.
            y: ignored.

        Raises:
            UserError: a formula cannot be read, or nothing is to be computed.
        """
        formulas = _formulas(X)
        table = composition_table(formulas, None if self.elements is None else list(self.elements))
        source = self.properties or element_table()
        names = descriptor_names(self.descriptors, source)
        if not self.fractions and not names:
            raise UserError("CompositionFeatures computes nothing: set fractions=True or name descriptors")
        units = {name: descriptor(name, source).unit for name in names}
        self.elements_ = tuple(table.columns)
        self.units_ = {**(dict.fromkeys(self.elements_, "atomic fraction") if self.fractions else {}), **units}
        self.n_features_in_ = 1
        if hasattr(X, "columns"):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Numbers ``(n, columns)``, float64; :meth:`get_feature_names_out` names the columns.

        Raises:
            UserError: a formula cannot be read, holds an element that ``fit`` has not seen (where fractions are asked
                for), or lacks a property.
        """
        check_is_fitted(self)
        parts = []
        formulas = _formulas(X)
        if self.fractions:
            parts.append(composition_table(formulas, self.elements_).to_numpy())
        names = descriptor_names(self.descriptors, self.properties or element_table())
        if names:
            options = {"properties": self.properties, "pairs": self.pairs, "missing": self.missing}
            parts.append(descriptor_table(formulas, names, **options).to_numpy())
        return np.hstack(parts)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns: symbols, then descriptors."""
        check_is_fitted(self)
        return np.asarray(list(self.units_), dtype=object)


def _formulas(X: Any) -> list[str]:
    values = np.asarray(X, dtype=object)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1:
        raise UserError(
            f"formulas must be one column, (n,) or (n, 1), got the shape {values.shape}; select the column of formulas"
        )
    return values.tolist()
