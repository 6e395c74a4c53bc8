"""Writes the built-in encoder's head: 128 orthonormal rows over the backbone's 384 dimensions, as float16.

The file is the artefact; this script only says how it came about.

    python training/orthogonal_head.py colbert_mcp/encoder/builtin_head.safetensors
"""

import sys

from safetensors.numpy import save_file

from colbert_mcp.encoder.heads import orthogonal_head

DIMENSION, HIDDEN = 128, 384

if __name__ == "__main__":
    save_file({"linear.weight": orthogonal_head(HIDDEN, DIMENSION)}, sys.argv[1])
