"""The citation invariant on every chunk of a tree, checked against the bytes on disk.

    python bench/invariant.py TREE

For each chunk: the bytes at its span (of the extracted text in UTF-8, where text was extracted) hash to its SHA-256 and
decode to its text, it fits the built-in encoder, and the chunks of a file together hold every non-blank character
exactly once.
"""

import argparse
import hashlib
import time
from collections import Counter
from pathlib import Path

from colbert_mcp.chunking import CHARACTERS_PER_TOKEN, cut_document
from colbert_mcp.config import Config
from colbert_mcp.documents import Discovery, Document, Extractor, Found, discover, read_document, real_path
from colbert_mcp.encoder import Encoder, load_encoder
from colbert_mcp.errors import DocumentError


def check(document: Document, raw: bytes, encoder: Encoder) -> Counter[str]:
    """Cut one document and count what holds and what does not."""
    limit = encoder.content_length
    pieces = cut_document(document, encoder)
    encoding = "utf-8" if document.extracted else document.record.encoding
    counts = Counter(chunks=len(pieces), tokens=sum(len(piece.tokens.ids) for piece in pieces))
    shown = []
    for piece in pieces:
        chunk = document.chunk(piece.start, piece.end, piece.headings)
        if document.extracted:
            source = document.text[chunk.span.char_start : chunk.span.char_end].encode()
        else:
            source = raw[chunk.span.byte_start : chunk.span.byte_end]
        counts["wrong hash"] += hashlib.sha256(source).hexdigest() != chunk.sha256
        counts["wrong text"] += source.decode(encoding) != chunk.text
        counts["too long"] += len(piece.tokens.ids) > limit or len(chunk.text) > CHARACTERS_PER_TOKEN * limit
        shown.append(chunk.text)
    counts["files not covered"] += "".join("".join(shown).split()) != "".join(document.text.split())
    return counts


def main() -> None:
    """Check a tree and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path)
    options = parser.parse_args()
    config = Config()
    encoder = load_encoder(config.model)
    started = time.monotonic()
    total: Counter[str] = Counter()
    extractor = Extractor(config.documents)
    for found in discover(real_path(options.tree), Discovery(config.documents.max_file_bytes, hidden=False)):
        if not isinstance(found, Found):
            total["files skipped"] += 1
            continue
        try:
            document = read_document(found.path, config.documents.max_file_bytes, extractor)
        except DocumentError:
            total["files skipped"] += 1
            continue
        total["files"] += 1
        total["bytes"] += found.stamp.size
        with open(found.path, "rb") as file:  # noqa: PTH123  # the path is bytes
            total += check(document, file.read(), encoder)
    extractor.close()
    print(f"{time.monotonic() - started:.1f} s")
    for name in ("files", "files skipped", "bytes", "chunks", "tokens"):
        print(f"{name:18}{total[name]:>12,}")
    for name in ("wrong hash", "wrong text", "too long", "files not covered"):
        print(f"{name:18}{total[name]:>12,}")


if __name__ == "__main__":
    main()
