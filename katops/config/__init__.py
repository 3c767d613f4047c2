"""The configuration of one run: YAML -> OmegaConf -> strict schema.

A configuration holds only what differs from the defaults. It cannot execute code: names resolve through registries, and
a user's own Python file (``plugins``) is refused unless the caller allows it. The key ``task`` chooses the schema.
"""

from katops.config.base import BaseRunConfig as BaseRunConfig
from katops.config.base import Component as Component
from katops.config.base import Optimisation as Optimisation
from katops.config.base import ReportConfig as ReportConfig
from katops.config.base import Section as Section
from katops.config.images import AugmentationConfig as AugmentationConfig
from katops.config.images import ImageDataConfig as ImageDataConfig
from katops.config.images import ImageRunConfig as ImageRunConfig
from katops.config.images import ImageTrainConfig as ImageTrainConfig
from katops.config.operators import DataConfig as DataConfig
from katops.config.operators import GenerateConfig as GenerateConfig
from katops.config.operators import PairsConfig as PairsConfig
from katops.config.operators import RunConfig as RunConfig
from katops.config.operators import SplitConfig as SplitConfig
from katops.config.operators import TrainConfig as TrainConfig
from katops.config.operators import WindowConfig as WindowConfig
from katops.config.reading import check_types as check_types
from katops.config.reading import load_config as load_config
from katops.config.reading import parse_config as parse_config
from katops.config.tables import TableRunConfig as TableRunConfig
