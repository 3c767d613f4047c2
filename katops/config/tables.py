"""``task: tables``: fit KANs to the rows of a table and compare them with other models under the same folds."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from katops.config.base import (
    BaseRunConfig,
    Component,
    Locate,
    NamedComponent,
    NonNegativeInt,
    PositiveInt,
    Section,
    Seed,
)
from katops.errors import UserError, did_you_mean

RANDOM, COMPOSITION, SYSTEM, ELEMENT = "random", "composition", "system", "element"
FORMULA_SCHEMES = (COMPOSITION, SYSTEM, ELEMENT)
"""Schemes that need to know what a row is made of."""
TUNE, LABEL = "tune", "label"
BOUNDS = ("min", "max")

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_as_list)]


class FeatureConfig(Section):
    """What the models are given of each row.

    ``columns`` are used as they are (numbers, or text as categories); without them, all that have no other role. Of a
    table of materials, ``fractions`` gives the atomic fraction of each element and ``descriptors`` what is computed of
    them, by the names of :mod:`katops.materials.descriptors` or of its sets (phase, strength, elastic, statistics,
    moments, all), from a table of elements or, for the metals of carbides, of their carbides (``properties``);
    ``process`` uses the columns that the data set calls processing. ``absent_at_zero`` are columns whose 0 means
    that a step was left out: it is treated as a missing value, for which every model has an indicator. ``log1p`` are
    replaced by log(1 + x).
    """

    columns: Names | None = None
    drop: Names = Field(default=[])
    fractions: bool = True
    descriptors: Names = Field(default=[])
    properties: Literal["elements", "carbides"] = "elements"
    process: bool = True
    absent_at_zero: Names = Field(default=[])
    log1p: Names = Field(default=[])


class TableDataConfig(Section):
    """Which table, what is predicted, and from what.

    Either ``file``, a CSV file, or ``materials``, a data set of :mod:`katops.materials` by its name, which is looked
    for in ``root`` where it does not come with a package. ``formula`` is the column with chemical formulas, and
    ``composition`` are columns with amounts of elements, each named after its symbol ("Al", "Al_at_pct"). Rows are kept
    where all of ``filter`` hold: a value, a list of values, or ``{min: 20, max: 30}``; ``exclude`` leaves out rows by
    their number, from 0 below the header. A row without target is left out.
    """

    file: str | None = None
    materials: str | None = None
    root: Names = Field(default=[])
    target: Names = Field(min_length=1)
    problem: Literal["auto", "regression", "classification"] = "auto"
    positive: str | int | None = None
    formula: str | None = None
    composition: Names = Field(default=[])
    exclude: list[NonNegativeInt] = Field(default=[])
    filter: dict[str, Any] = Field(default_factory=dict)
    features: FeatureConfig = FeatureConfig()
    units: dict[str, str] = Field(default_factory=dict)


class FoldConfig(Section):
    """How rows are held out: each of ``schemes`` is a cross-validation of its own.

    "random" (stratified for classes), "composition" and "system" (no composition, or no set of elements, is on both
    sides), "element" (one element at a time is unknown to the training), or the name of a column whose values are kept
    together. Equal inputs are on one side in all of them. ``headline`` is the one that the report is about: the first
    one that keeps groups together where it is not given.
    """

    schemes: Names = Field(default=[RANDOM])
    splits: Annotated[int, Field(ge=2)] = 5
    repeats: PositiveInt = 1
    seed: Seed = 0
    headline: str | None = None


class TableReportConfig(Section):
    """What the report shows beside the comparison.

    ``learning_curve`` are shares of the training rows; ``curves`` the number of features whose learned curves are
    drawn; ``level`` is that of the prediction intervals and sets.
    """

    learning_curve: list[Share] = Field(default=[0.25, 0.5])
    curves: NonNegativeInt = 8
    listed: PositiveInt = 15
    level: Share = 0.9


class TableRunConfig(BaseRunConfig):
    """One study: a KAN and the models it is compared with, on every fold of every scheme, then the KAN on all rows.

    Every model may have ``label`` (how the report calls it) and ``tune``: lists of values per option, from which the
    best is chosen within the training rows of each fold (3 inner folds that keep the same groups together).
    """

    task: Literal["tables"]
    data: TableDataConfig
    folds: FoldConfig = FoldConfig()
    model: NamedComponent = Component(name="kan")
    compare: list[NamedComponent] = Field(
        default_factory=lambda: [
            Component(name=name)
            for name in ("dummy", "linear", "random_forest", "gradient_boosting", "mlp", "mlp_equal_size")
        ]
    )
    report: TableReportConfig = TableReportConfig()

    @property
    def headline(self) -> str:
        """The scheme that the report is about."""
        grouped = [scheme for scheme in self.folds.schemes if scheme != RANDOM]
        return self.folds.headline or (grouped or self.folds.schemes)[0]

    def check_together(self, locate: Locate) -> None:
        """See :meth:`BaseRunConfig.check_together`."""
        super().check_together(locate)
        self._check_data(locate)
        self._check_folds(locate)
        self._check_models(locate)

    def _check_data(self, locate: Locate) -> None:
        data = self.data
        if (data.file is None) == (data.materials is None):
            raise UserError(
                f"{locate(('data',))} needs one of file (a CSV file) and materials (a data set by name); given: "
                f"{'both' if data.file else 'neither'}"
            )
        if data.file and data.root:
            raise UserError(f"{locate(('data', 'root'))} is for data.materials; write the folder into data.file")
        used_twice = [name for name in data.target if name in (data.features.columns or ())]
        if used_twice:
            raise UserError(
                f"{locate(('data', 'features', 'columns'))} holds the target {used_twice[0]!r}, which would be "
                f"predicted from itself; take it out"
            )
        for column, condition in data.filter.items():
            if isinstance(condition, dict) and (not condition or set(condition) - set(BOUNDS)):
                raise UserError(
                    f"{locate(('data', 'filter', column))} is {condition}; write a value, a list of values, or bounds "
                    f"such as {{min: 20, max: 30}}"
                )
        if data.positive is not None and data.problem == "regression":
            raise UserError(f"{locate(('data', 'positive'))} is a class, but data.problem is 'regression'; drop it")

    def _check_folds(self, locate: Locate) -> None:
        folds = self.folds
        if not folds.schemes or len(set(folds.schemes)) < len(folds.schemes):
            raise UserError(
                f"{locate(('folds', 'schemes'))} should be names, each of them once; given: {folds.schemes}"
            )
        if folds.headline is not None and folds.headline not in folds.schemes:
            hint = did_you_mean(folds.headline, folds.schemes)
            raise UserError(
                f"{locate(('folds', 'headline'))} should be one of folds.schemes {folds.schemes}; given: "
                f"{folds.headline!r}{hint}"
            )

    def _check_models(self, locate: Locate) -> None:
        if self.model.name != "kan":
            raise UserError(
                f"{locate(('model', 'name'))} is {self.model.name!r}; a study is about a 'kan', and other models "
                f"belong under compare"
            )
        for place, model in (("model", self.model), *(("compare", entry) for entry in self.compare)):
            tune = model.options.get(TUNE, {})
            if not isinstance(tune, dict) or not all(isinstance(values, list) and values for values in tune.values()):
                raise UserError(
                    f"{locate((place, TUNE))} should be lists of values, such as {{alpha: [0.01, 0.1]}}; given: {tune}"
                )
