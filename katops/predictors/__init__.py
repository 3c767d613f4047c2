"""Models with everything around them that a prediction from raw input needs; the model file holds one of them."""

from katops.predictors.fields import FieldPredictor as FieldPredictor
from katops.predictors.images import ImagePredictor as ImagePredictor
from katops.predictors.rollout import Rollout as Rollout
from katops.predictors.tables import TablePredictor as TablePredictor
