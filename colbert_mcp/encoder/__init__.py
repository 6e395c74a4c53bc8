"""The model: text to token embeddings. The only package that knows torch and pylate, loaded when first needed.

``base`` is what everyone else sees, ``checkpoint`` judges a model directory before anything in it is loaded,
``builtin`` assembles the embedded default, ``colbert`` encodes with PyLate, ``hardware`` chooses what that runs on,
``tokenizing`` counts tokens without them.
Knows nothing of files or the index.
"""

from colbert_mcp.encoder.base import Encoded, Encoder, Fingerprint, Query, Tokenized
from colbert_mcp.encoder.loading import load_encoder

__all__ = ["Encoded", "Encoder", "Fingerprint", "Query", "Tokenized", "load_encoder"]
