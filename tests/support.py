"""Names that tests in several folders use."""

from collections.abc import Callable
from pathlib import Path

from colbert_mcp.engine import Engine

PROJECT = Path(__file__).parent.parent
EngineFactory = Callable[..., Engine]
