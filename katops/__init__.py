"""katops: Kolmogorov-Arnold networks and operator learning in one PyTorch library.

``import katops`` registers every katops model with timm and changes nothing else. The names below are loaded when they
are first used, so that a kernel or a model runs where the parts for training are not installed.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

__version__ = "0.1.0"
