"""Models, each registered with timm and listed by :func:`list_models`."""

from timm import create_model as create_model

from katops.models.baselines import MeanField as MeanField
from katops.models.baselines import Persistence as Persistence
from katops.models.build import build_model as build_model
from katops.models.build import create_layer as create_layer
from katops.models.build import list_layers as list_layers
from katops.models.build import list_models as list_models
from katops.models.kan import KAN as KAN
from katops.models.kat import KAT as KAT
from katops.models.mgno import MgNO as MgNO
from katops.models.neural_operators import FNO as FNO
from katops.models.neural_operators import UNO as UNO
from katops.models.scot import ScOT as ScOT
from katops.models.unet import UNet as UNet
