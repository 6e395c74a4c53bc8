"""From a path to text whose every character can be traced back to the bytes on disk.

``discovery`` finds files under a root, ``patterns`` matches ignore files and filters, ``policy`` says what may be
indexed, ``decoding`` turns bytes into text with a byte map, ``document`` reads one file, and one module a format
(``markdown``, ``restructuredtext``, ``code``, ``html``, ``notebook``) finds what its text says of itself: headings or
definitions, which ``outline`` nests, or its encoding. ``extraction`` gets text out of PDF, DOCX, HTML and notebooks in
a process of its own. Knows nothing of chunks, models or the index.
"""

from colbert_mcp.documents.discovery import Discovery, Found, Relevance, Unlisted, discover
from colbert_mcp.documents.document import (
    READER,
    Document,
    file_hash,
    file_stamp,
    open_file,
    os_reason,
    read_document,
    read_regular_file,
    seems_readable,
    text_span,
)
from colbert_mcp.documents.extraction import Extractor
from colbert_mcp.documents.paths import display_path, file_url, path_matches, real_path
from colbert_mcp.documents.patterns import compile_patterns
from colbert_mcp.documents.policy import check_root, in_scope, is_within

__all__ = [
    "READER",
    "Discovery",
    "Document",
    "Extractor",
    "Found",
    "Relevance",
    "Unlisted",
    "check_root",
    "compile_patterns",
    "discover",
    "display_path",
    "file_hash",
    "file_stamp",
    "file_url",
    "in_scope",
    "is_within",
    "open_file",
    "os_reason",
    "path_matches",
    "read_document",
    "read_regular_file",
    "real_path",
    "seems_readable",
    "text_span",
]
