"""Writes the built-in encoder's head: 128 orthonormal rows over the backbone's 384 dimensions, as float16.

A random orthogonal projection keeps inner products better than PCA does for MaxSim (ARCHITECTURE.md, Encoder). The
file is the artefact; this script only says how it came about.

    python training/orthogonal_head.py colbert_mcp/encoder/builtin_head.safetensors
"""

import sys

import numpy as np
from safetensors.numpy import save_file

DIMENSION, HIDDEN, SEED = 128, 384, 20

if __name__ == "__main__":
    gaussian = np.random.default_rng(SEED).standard_normal((HIDDEN, DIMENSION))
    basis, triangle = np.linalg.qr(gaussian)
    weight = (basis * np.sign(np.diag(triangle))).T
    save_file({"linear.weight": np.ascontiguousarray(weight, np.float16)}, sys.argv[1])
