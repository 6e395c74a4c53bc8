"""Projections that need no training: orthonormal rows drawn with a fixed seed.

A random orthogonal projection keeps inner products better than PCA does for MaxSim (ARCHITECTURE.md, Encoder). Knows
numpy alone.
"""

import numpy as np
import numpy.typing as npt

SEED = 20


def orthogonal_head(hidden: int, dimension: int, seed: int = SEED) -> npt.NDArray[np.float16]:
    """``dimension`` orthonormal rows over ``hidden`` dimensions, float16 [dimension, hidden]; dimension <= hidden.

    The QR factorisation of a Gaussian matrix, its signs made unique by a positive diagonal (Mezzadri 2007).
    """
    gaussian = np.random.default_rng(seed).standard_normal((hidden, dimension))
    basis, triangle = np.linalg.qr(gaussian)
    return np.ascontiguousarray((basis * np.sign(np.diag(triangle))).T, np.float16)
