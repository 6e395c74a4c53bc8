"""What is asked of an index, and which questions cannot be."""

from dataclasses import dataclass

from colbert_mcp.documents import compile_patterns
from colbert_mcp.errors import EmptyQueryError, QueryError
from colbert_mcp.types import Mode

MAX_QUERY_CHARACTERS = 10_000
MAX_LIMIT = 50
MIN_MAX_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked. ``scope`` holds real paths outside of which nothing is searched (empty: everywhere); ``notice`` is
    passed on with the answer.
    """

    query: str
    limit: int
    paths: tuple[str, ...]
    types: tuple[str, ...]
    mode: Mode
    max_tokens: int
    scope: tuple[bytes, ...] = ()
    notice: str | None = None
    explain: bool = False

    def check(self) -> None:
        """Raise EmptyQueryError or QueryError for what cannot be asked."""
        try:
            self.query.encode()
        except UnicodeEncodeError:
            raise QueryError("The query holds bytes that are no text; write it in UTF-8.") from None
        for pattern in self.paths:
            try:
                compile_patterns([pattern])
            except ValueError as error:
                raise QueryError(f"The path filter {error}.") from None
        if not self.query.strip():
            raise EmptyQueryError("The query is empty; ask in a few words or a sentence.")
        if len(self.query) > MAX_QUERY_CHARACTERS:
            raise QueryError(
                f"The query has {len(self.query)} characters; at most {MAX_QUERY_CHARACTERS} are taken. Shorten it."
            )
        if not 1 <= self.limit <= MAX_LIMIT:
            raise QueryError(f"limit is {self.limit}; it must be between 1 and {MAX_LIMIT}.")
        if self.max_tokens < MIN_MAX_TOKENS:
            raise QueryError(f"max_tokens is {self.max_tokens}; it must be at least {MIN_MAX_TOKENS}.")
