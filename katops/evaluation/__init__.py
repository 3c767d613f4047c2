"""Evaluation of a model and its baselines on a test set, in one pass and with memory that does not grow with the set.

Only predicted frames are scored: the given input frames never enter an error. All sums are float64. Every metric in
``katops.registry.METRICS`` is computed per sample and then averaged over the samples.
"""

from katops.evaluation.examples import Example as Example
from katops.evaluation.result import Evaluation as Evaluation
from katops.evaluation.result import Spectra as Spectra
from katops.evaluation.result import defined as defined
from katops.evaluation.result import finite_or_none as finite_or_none
from katops.evaluation.run import Predictor as Predictor
from katops.evaluation.run import evaluate as evaluate
from katops.evaluation.semigroup import Semigroup as Semigroup
from katops.evaluation.semigroup import semigroup as semigroup
