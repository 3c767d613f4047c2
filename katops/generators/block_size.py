"""How many samples to solve at once."""

import torch

POINTS_PER_BLOCK = {"cpu": 2**14, "cuda": 2**22}
"""More leave the cache of a processor and start threads inside of torch; fewer do not fill a GPU."""


def samples_per_block(points: int, device: torch.device) -> int:
    """At least 1; ``points`` are those of one sample."""
    return max(1, POINTS_PER_BLOCK[device.type] // points)
