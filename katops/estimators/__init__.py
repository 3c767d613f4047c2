"""Estimators for tables with the interface of scikit-learn, and what their predictions are worth.

They need the extra ``tables``: ``pip install "katops[tables]"``.
"""

import importlib.util

if importlib.util.find_spec("sklearn") is None:
    raise ImportError('the estimators of katops need scikit-learn; install it with: pip install "katops[tables]"')

from katops.estimators.classifier import KANClassifier as KANClassifier
from katops.estimators.regressor import KANRegressor as KANRegressor
