"""The model: text to token embeddings. The only package that knows torch and pylate, loaded when first needed.

``base`` is what everyone else sees. ``checkpoint`` judges a model directory before anything in it is loaded, over
``weights`` and ``remote_code``; ``settings`` says how it encodes, and why; ``loading`` goes from the configuration to
an encoder. ``builtin`` assembles the embedded default, ``pylate_loading`` loads a checkpoint and tries it, ``colbert``
encodes with PyLate, ``hardware`` chooses what that runs on. ``tokenizing`` counts tokens without them. ``reranking``
and ``cross_encoder`` are the same for a reranker. Knows nothing of files or the index.
"""

from colbert_mcp.encoder.base import Encoded, Encoder, Fingerprint, Query, Reranker, Tokenized
from colbert_mcp.encoder.loading import check_outside, load_encoder
from colbert_mcp.encoder.reranking import LazyReranker, load_reranker

__all__ = [
    "Encoded",
    "Encoder",
    "Fingerprint",
    "LazyReranker",
    "Query",
    "Reranker",
    "Tokenized",
    "check_outside",
    "load_encoder",
    "load_reranker",
]
