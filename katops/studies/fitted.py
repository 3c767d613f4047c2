"""What a study asks of a fitted model, whatever kind it is: its predictions and its size."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from katops.studies.study import Study


def outputs(estimator: BaseEstimator, study: Study, frame: pd.DataFrame) -> np.ndarray:
    """(n, J) numbers or (n, K) probabilities of all classes of the study, for rows of the design table."""
    if not study.classes:
        return np.asarray(estimator.predict(frame), dtype=float).reshape(len(frame), -1)
    probabilities = np.zeros((len(frame), len(study.classes)))
    probabilities[:, np.asarray(estimator.classes_, dtype=int)] = estimator.predict_proba(frame)
    return probabilities


def parameter_count(estimator: BaseEstimator) -> int | None:
    """Trainable numbers of one network; of others ``None``."""
    networks = getattr(estimator, "models_", None)
    if networks and hasattr(networks[0], "parameters"):
        return sum(parameter.numel() for parameter in networks[0].parameters())
    inner = estimator
    for name in ("steps", "regressor_", "models_"):
        found = getattr(inner, name, None)
        if found is not None:
            inner = found[-1][1] if name == "steps" else found[0] if name == "models_" else found
    if hasattr(inner, "coefs_"):
        return sum(array.size for array in (*inner.coefs_, *inner.intercepts_))
    return None
