"""The query path, from a question to an answer with citations. Loads no model: query embeddings come in."""

from colbert_mcp.retrieval.budget import count_tokens
from colbert_mcp.retrieval.passages import explained
from colbert_mcp.retrieval.request import Request
from colbert_mcp.retrieval.searching import search

__all__ = ["Request", "count_tokens", "explained", "search"]
