"""PDEgym, the published data sets of Poseidon: what their files do not say, as a table.

A file holds arrays and nothing else; which channels are fed to a model in which order, by what they are divided, which
samples test and which pairs of frames are trained on is in the paper and in the code that was published with it. The
table stands below :mod:`katops.config`, so that a name in a configuration becomes plain keys before it is checked; the
reader of the files is :mod:`katops.data.formats.pdegym`.
"""

from katops.pdegym.preset import preset as preset
from katops.pdegym.preset import resolve as resolve
from katops.pdegym.published_set import CITATION as CITATION
from katops.pdegym.published_set import LICENCE as LICENCE
from katops.pdegym.published_set import PublishedSet as PublishedSet
from katops.pdegym.table import SETS as SETS
from katops.pdegym.table import find_set as find_set
