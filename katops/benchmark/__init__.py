"""Measurements of speed, memory and accuracy: ``katops bench`` and the scripts in ``benchmarks/``."""

from katops.benchmark.competitors import CannotRun as CannotRun
from katops.benchmark.competitors import Competitor as Competitor
from katops.benchmark.competitors import standard as standard
from katops.benchmark.layers import LayerMeasurement as LayerMeasurement
from katops.benchmark.layers import measure_layers as measure_layers
from katops.benchmark.machine import Machine as Machine
from katops.benchmark.machine import describe as describe
from katops.benchmark.machine import present_device as present_device
from katops.benchmark.rational import Case as Case
from katops.benchmark.rational import Measurement as Measurement
from katops.benchmark.rational import measure as measure
from katops.benchmark.results import as_text as as_text
from katops.benchmark.results import read_csv as read_csv
from katops.benchmark.results import write_csv as write_csv
