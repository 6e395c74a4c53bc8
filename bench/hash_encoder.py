"""An encoder at next to no cost, for benchmarks in which the model plays no part."""

import re
from collections.abc import Sequence

import numpy as np

from colbert_mcp.encoder import Encoded, Fingerprint, Query, Tokenized
from colbert_mcp.encoder.base import count_coverage
from colbert_mcp.scoring import NumpyScorer
from colbert_mcp.types import Coverage

_WORD = re.compile(r"\w+|[^\w\s]")


class HashEncoder:
    """Satisfies the Encoder protocol without a model: every word is a fixed direction."""

    device, dtype, content_length, window = "cpu", "float32", 160, 162
    notices = ()
    scorer = NumpyScorer()
    fingerprint = Fingerprint("hash", "hash", 8, 8, "", 162, ())

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """One token a word or mark."""
        result = []
        for text in texts:
            found = list(_WORD.finditer(text))
            spans = np.array([match.span() for match in found], np.int64).reshape(-1, 2)
            ids = np.array([sum(map(ord, match.group())) for match in found], np.int64)
            result.append(Tokenized(ids, spans[:, 0], spans[:, 1]))
        return result

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        """Eight numbers a token."""
        return [
            Encoded(np.eye(8, dtype=np.float32)[document.ids % 8], np.ones(8, np.float32) / 8**0.5)
            for document in documents
        ]

    def encode_query(self, text: str) -> Query:
        """Like a document."""
        tokens = self.tokenize([text])[0]
        encoded = self.encode_documents([tokens])[0]
        return Query(encoded.token_embeddings, encoded.dense, "", self.kept_spans(tokens), self.kept_tokens(tokens))

    def encode_queries(self, texts: Sequence[str]) -> list[Query]:
        """One by one."""
        return [self.encode_query(text) for text in texts]

    def kept_spans(self, document: Tokenized) -> np.ndarray:
        """Every token is kept."""
        return np.stack([document.starts, document.ends], axis=1)

    def kept_tokens(self, document: Tokenized) -> tuple[str, ...]:
        """By their numbers."""
        return tuple(map(str, document.ids.tolist()))

    def coverage(self, document: Tokenized, text: str) -> Coverage:
        """Nothing is unknown or skipped."""
        nothing = np.zeros(len(document.ids), np.bool_)
        return count_coverage(document, text, nothing, nothing)
