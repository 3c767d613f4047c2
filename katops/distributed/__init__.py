"""One job in several processes: which process this is, how they agree, and what happens when one of them is gone."""

from katops.distributed.launch import joined as joined
from katops.distributed.processes import current as current
