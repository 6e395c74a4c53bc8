"""An encoder that needs no model: each word is a fixed random direction. For tests that are not about the model."""

import hashlib
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from colbert_mcp.encoder import Encoded, Fingerprint, Query, Tokenized
from colbert_mcp.encoder.base import count_coverage, uncovered_parts
from colbert_mcp.scoring import NumpyScorer
from colbert_mcp.types import Coverage

DIMENSION = 32
_TOKEN = re.compile(r"\w+|[^\w\s]")


def _vector(token: str) -> npt.NDArray[np.float32]:
    seed = int.from_bytes(hashlib.sha256(token.casefold().encode("utf-8", "surrogatepass")).digest()[:4], "little")
    vector = np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)
    return vector / np.linalg.norm(vector)


class FakeEncoder:
    """Satisfies the Encoder protocol; ``before_batch`` is called before each batch of documents."""

    device = "cpu"
    dtype = "float32"
    notices: tuple[str, ...] = ()
    scorer = NumpyScorer()

    def __init__(self, content_length: int = 40, name: str = "fake", before_batch: Callable[[], None] = lambda: None):
        self.content_length = content_length
        self.window = content_length + 2
        self.before_batch = before_batch
        self.encoded = 0
        self._words: dict[int, str] = {}
        self.fingerprint = Fingerprint(name, f"digest of {name}", DIMENSION, DIMENSION, "", content_length + 2, ())

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        return [self._tokenized(text) for text in texts]

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        self.before_batch()
        self.encoded += len(documents)
        return [self._encoded(document) for document in documents]

    def encode_query(self, text: str) -> Query:
        tokenized = self._tokenized(text)
        encoded = self._encoded(tokenized)
        spans, tokens = self.kept_spans(tokenized), self.kept_tokens(tokenized)
        unknown = uncovered_parts(tokenized, text, self._is_unknown(tokenized))
        return Query(encoded.token_embeddings, encoded.dense, "", spans, tokens, unknown)

    def encode_queries(self, texts: Sequence[str]) -> list[Query]:
        return [self.encode_query(text) for text in texts]

    def kept_spans(self, document: Tokenized) -> npt.NDArray[np.int64]:
        return np.stack([document.starts, document.ends], axis=1)

    def kept_tokens(self, document: Tokenized) -> tuple[str, ...]:
        return tuple(self._words[token] for token in document.ids.tolist())

    def coverage(self, document: Tokenized, text: str) -> Coverage:
        unknown = self._is_unknown(document)
        return count_coverage(document, text, unknown, np.zeros(len(unknown), np.bool_))

    def _is_unknown(self, document: Tokenized) -> npt.NDArray[np.bool_]:
        """U+FFFD and runes are not known; nothing is skipped."""
        words = [self._words[token] for token in document.ids.tolist()]
        return np.array([word[0] == "\ufffd" or "\u16a0" <= word[0] <= "\u16f8" for word in words], np.bool_)

    def _encoded(self, document: Tokenized) -> Encoded:
        rows = np.array([_vector(self._words[token]) for token in document.ids.tolist()], np.float32)
        rows = rows.reshape(-1, DIMENSION)
        mean = rows.mean(axis=0) if len(rows) else np.ones(DIMENSION, np.float32)
        return Encoded(rows, (mean / np.linalg.norm(mean)).astype(np.float32))

    def _tokenized(self, text: str) -> Tokenized:
        matches = list(_TOKEN.finditer(text))
        ids = []
        for match in matches:
            token = int.from_bytes(hashlib.sha256(match.group().encode("utf-8", "surrogatepass")).digest()[:6], "big")
            self._words[token] = match.group()
            ids.append(token)
        spans = np.array([match.span() for match in matches], np.int64).reshape(-1, 2)
        return Tokenized(np.array(ids, np.int64), spans[:, 0], spans[:, 1])
