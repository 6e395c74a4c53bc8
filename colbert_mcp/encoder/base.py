"""What an encoder is to everyone else: shapes, and the fingerprint that ties an index to it. Loads no model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from colbert_mcp.scoring import Scorer
from colbert_mcp.types import Coverage

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A text's tokens without special tokens: ``ids``, and the characters ``[starts, ends)`` each stands for.

    All three are int64 [n], starts in order; offsets count code points of the text. A span has what its token says and
    no blanks around it: a token of some bytes of a character has the whole character, a token of blanks has these, and
    one that the tokenizer put there itself (the space before a text) has an empty span.
    """

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A document's ``token_embeddings`` (float32 [n, d]) and ``dense`` vector (float32 [e]), all of length 1.

    Rows are the document's tokens in order, special tokens included, without those on the model's skiplist.
    """

    token_embeddings: Floats
    dense: Floats


@dataclass(frozen=True, slots=True)
class Query:
    """A query's ``token_embeddings`` (float32 [q, d], rows of length 1) and ``dense`` vector (float32 [e], length 1).

    ``unread`` is the tail of the query beyond ``query_length``, "" if all of it was encoded. ``spans`` (int64 [q, 2])
    are the characters of the query that each row stands for, (0, 0) for special, prefix and expansion tokens, and some
    empty span for others that the tokenizer put there; ``tokens`` are the rows' names in the vocabulary. ``unknown``
    are the words, or parts of words, that the model has no token for: all of them are the same to it.
    """

    token_embeddings: Floats
    dense: Floats
    unread: str
    spans: npt.NDArray[np.int64]
    tokens: tuple[str, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What must be equal for stored embeddings to be compared with new ones; device, dtype and batch are not in it.

    ``model`` is the name shown to people; ``digest`` covers weights, projection and tokenizer.
    """

    model: str
    digest: str
    dimension: int
    dense_dimension: int
    document_prefix: str
    document_length: int
    skiplist: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """The fields in a form that equals itself after a round trip through JSON."""
        return {**asdict(self), "skiplist": list(self.skiplist)}


class Encoder(Protocol):
    """Turns text into embeddings. Safe to call from several threads."""

    @property
    def fingerprint(self) -> Fingerprint:
        """What ties an index to this encoder."""

    @property
    def content_length(self) -> int:
        """Tokens of its own text that a document may have: ``document_length`` less the special tokens."""

    @property
    def window(self) -> int:
        """The longest input of the model, in tokens, special ones included."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know of the settings, such as a length that the model was not trained for."""

    @property
    def dtype(self) -> str:
        """The backbone's number format."""

    @property
    def scorer(self) -> Scorer:
        """Scores its queries where it encodes them."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Each text's tokens, tokenized on its own, without truncation."""

    def encode_documents(self, documents: Sequence[Tokenized]) -> list[Encoded]:
        """Embeddings of documents in the order given; raises EncoderError for one longer than ``content_length``."""

    def encode_query(self, text: str) -> Query:
        """Embeddings of a query."""

    def encode_queries(self, texts: Sequence[str]) -> list[Query]:
        """Embeddings of some queries, encoded together."""

    def kept_spans(self, document: Tokenized) -> npt.NDArray[np.int64]:
        """int64 [n, 2]: the characters each row of the document's token embeddings stands for; (0, 0) for special."""

    def kept_tokens(self, document: Tokenized) -> tuple[str, ...]:
        """The names in the vocabulary of the rows of the document's token embeddings."""

    def coverage(self, document: Tokenized, text: str) -> Coverage:
        """How much of a text, of which these are the tokens, its embeddings do not hold."""


class Reranker(Protocol):
    """A cross-encoder: reads a query and a passage together. Safe to call from several threads."""

    @property
    def name(self) -> str:
        """The name shown to people."""

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""

    @property
    def dtype(self) -> str:
        """The backbone's number format."""

    @property
    def window(self) -> int:
        """The longest input of the model, in tokens: query, passage and special tokens."""

    def scores(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [n]: how well each passage answers the query, higher is better; raises EncoderError."""

    def unread(self, query: str) -> str:
        """The tail of a query that is longer than the model reads beside a passage, "" if all of it is read."""


def count_coverage(
    document: Tokenized, text: str, unknown: npt.NDArray[np.bool_], skipped: npt.NDArray[np.bool_]
) -> Coverage:
    """Coverage from two bool [n] masks over the tokens, in time linear in the text."""
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    left = ~_IS_BLANK[np.minimum(code_points, len(_IS_BLANK) - 1)]
    counts = []
    # A character under several tokens counts for the first kind that holds it.
    for mask in (~(unknown | skipped), unknown, skipped):
        under = left & _under(document, mask, len(text))
        counts.append(int(under.sum()))
        left &= ~under
    return Coverage(counts[1], counts[2], int(left.sum()))


def uncovered_parts(document: Tokenized, text: str, unknown: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    """Runs of characters with a letter or digit that no token stands for, or only an ``unknown`` one (bool [n])."""
    known = _under(document, ~unknown, len(text)).tolist()
    gone = "".join(" " if is_known else letter for letter, is_known in zip(text, known, strict=True))
    return tuple(dict.fromkeys(part for part in gone.split() if any(map(str.isalnum, part))))


# By code point of the basic plane, in which every blank lies; the last stands for all beyond.
_IS_BLANK = np.array([*(chr(point).isspace() for point in range(0x10000)), False])


def _under(document: Tokenized, mask: npt.NDArray[np.bool_], length: int) -> npt.NDArray[np.bool_]:
    """Which of ``length`` characters lie under one of the tokens chosen."""
    edges = np.bincount(document.starts[mask], minlength=length + 1)
    edges -= np.bincount(document.ends[mask], minlength=length + 1)
    covered: npt.NDArray[np.bool_] = np.cumsum(edges)[:length] > 0
    return covered
