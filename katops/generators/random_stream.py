"""Counter-based random numbers: every sample has its own stream, whoever draws it and when."""

import hashlib

import numpy as np

SEED_LIMIT = 2**64


def random_stream(recipe: str, seed: int, index: int, redraw: int = 0) -> np.random.Generator:
    """The random numbers of one sample.

    Philox4x64 with the key SHA-256(recipe, seed) and the 256-bit counter (0, redraw, index, 0), low word first. A draw
    advances the low word only, so that the streams of two samples never overlap.

    Args:
        recipe: name of the recipe; two recipes with the same seed share no numbers.
        seed: the seed of the data set, 0 <= seed < 2^64.
        index: the sample, 0 <= index < 2^64.
        redraw: how many draws of this sample were rejected before.

    Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    key = int.from_bytes(hashlib.sha256(f"{recipe}\n{seed}".encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key, counter=(index << 128) | (redraw << 64)))
