"""BM25 queries for SQLite's FTS5: from what a person types to a MATCH expression. Knows no database.

FTS5 computes Okapi BM25 (k1 = 1.2, b = 0.75) over words that its porter and unicode61 tokenizers make.
"""

import re

# Raise it when the tokenizer changes: it is part of the index's format.
FTS_TOKENIZER = "porter unicode61 remove_diacritics 2"
# With combining accents, which the tokenizer takes as part of a word and then drops.
_WORD = re.compile(r"\w[\w\u0300-\u036f]*")
_MAX_WORDS = 64
# Words that stand in nearly every English passage: they cost a scan and order nothing.
STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me "
    "my no not of on or our shall should so such than that the their them then there these they this those to was we "
    "were what when where which who whom whose why will with would you your".split()
)


def words(query: str) -> list[str]:
    """The distinct words of a query, casefolded, in order; stop words only if there is nothing else; at most 64."""
    return [word.casefold() for word in _as_typed(query)]


def match_expression(query: str) -> str | None:
    """An FTS5 expression that any of the query's words satisfies; None if it has none. Each word is quoted."""
    # As typed: FTS5 folds case by its own rules, and to it "straße" is not "strasse".
    quoted = [f'"{word}"' for word in _as_typed(query)]
    return " OR ".join(quoted) or None


def _as_typed(query: str) -> list[str]:
    found: dict[str, str] = {}
    for word in _WORD.findall(query):
        found.setdefault(word.casefold(), word)
    telling = [word for folded, word in found.items() if folded not in STOP_WORDS]
    return (telling or list(found.values()))[:_MAX_WORDS]
