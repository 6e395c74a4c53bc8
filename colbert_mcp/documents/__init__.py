"""From a path to text whose every character can be traced back to the bytes on disk.

``discovery`` finds files under a root, ``patterns`` matches ignore files and filters, ``policy`` says what may be
indexed, ``decoding`` turns bytes into text with a byte map, ``document`` reads one file, and one module a format
(``markdown``, ``restructuredtext``, ``code``) finds its headings or definitions, which ``outline`` nests. Knows nothing
of chunks, models or the index.
"""

from colbert_mcp.documents.discovery import Discovery, Found, discover
from colbert_mcp.documents.document import READER, Document, file_stamp, read_document
from colbert_mcp.documents.paths import display_path, file_url, path_matches, real_path
from colbert_mcp.documents.patterns import compile_patterns
from colbert_mcp.documents.policy import check_root, in_scope, is_within

__all__ = [
    "READER",
    "Discovery",
    "Document",
    "Found",
    "check_root",
    "compile_patterns",
    "discover",
    "display_path",
    "file_stamp",
    "file_url",
    "in_scope",
    "is_within",
    "path_matches",
    "read_document",
    "real_path",
]
