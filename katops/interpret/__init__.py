"""What fitted Kolmogorov-Arnold networks have learned: curves, importances, smaller networks, formulas."""

from katops.interpret.attribution import Attribution, attribution
from katops.interpret.curves import EffectCurve, edge_curve, effect_curves, plot_curves
from katops.interpret.find_formula import find_formula
from katops.interpret.formula import Formula
from katops.interpret.formula_plot import plot_formulas
from katops.interpret.formula_shapes import FormulaShape, standard_shapes
from katops.interpret.importance import feature_importance, plot_feature_scores, shap_values
from katops.interpret.iterative_pruning import PruningPath, plot_pareto, prune_estimator
from katops.interpret.network_plot import plot_network
from katops.interpret.pruning import compacted, mask_edges, prune
from katops.interpret.shapley import shapley_values
from katops.interpret.symbolic_fit import CurveFit, fit_curves, suggestion_table
from katops.interpret.symbolic_library import SymbolicFunction, SymbolicLibrary
from katops.interpret.symbolic_model import suggest, symbolic
from katops.interpret.symbolic_result import SymbolicResult

__all__ = [
    "Attribution",
    "CurveFit",
    "EffectCurve",
    "Formula",
    "FormulaShape",
    "PruningPath",
    "SymbolicFunction",
    "SymbolicLibrary",
    "SymbolicResult",
    "attribution",
    "compacted",
    "edge_curve",
    "effect_curves",
    "feature_importance",
    "find_formula",
    "fit_curves",
    "mask_edges",
    "plot_curves",
    "plot_feature_scores",
    "plot_formulas",
    "plot_network",
    "plot_pareto",
    "prune",
    "prune_estimator",
    "shap_values",
    "shapley_values",
    "standard_shapes",
    "suggest",
    "suggestion_table",
    "symbolic",
]
