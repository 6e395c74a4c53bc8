"""Text out of formats that are not text, parsed in a child process with limits.

``extractor`` keeps the child and holds it to its limits, ``reply`` judges what it says, ``worker/`` is what runs there.
Knows bytes and formats; nothing of paths or the index.
"""

from colbert_mcp.documents.extraction.extractor import Extractor
from colbert_mcp.documents.extraction.reply import Extracted

__all__ = ["Extracted", "Extractor"]
