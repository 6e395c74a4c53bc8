"""Passages from your own files that an assistant can quote and prove: the Python API of colbert-mcp."""

from importlib.metadata import version

from colbert_mcp.attach import Index
from colbert_mcp.errors import ColbertMCPError

__all__ = ["ColbertMCPError", "Index", "__version__"]

__version__ = version("colbert-mcp")
