"""BM25 queries for SQLite's FTS5: from what a person types to a MATCH expression. Knows no database.

FTS5 computes Okapi BM25 (k1 = 1.2, b = 0.75) over words that its porter and unicode61 tokenizers make.
"""

import re

# Raise it when the tokenizer changes: it is part of the index's format.
FTS_TOKENIZER = "porter unicode61 remove_diacritics 2"
_WORD = re.compile(r"\w+")
_MAX_WORDS = 64
# Words that stand in nearly every English passage: they cost a scan and order nothing.
STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me "
    "my no not of on or our shall should so such than that the their them then there these they this those to was we "
    "were what when where which who whom whose why will with would you your".split()
)


def words(query: str) -> list[str]:
    """The distinct words of a query, casefolded, in order; stop words only if there is nothing else; at most 64."""
    found = list(dict.fromkeys(word.casefold() for word in _WORD.findall(query)))
    return ([word for word in found if word not in STOP_WORDS] or found)[:_MAX_WORDS]


def match_expression(query: str) -> str | None:
    """An FTS5 expression that any of the query's words satisfies; None if it has none. Each word is quoted."""
    quoted = [f'"{word}"' for word in words(query)]
    return " OR ".join(quoted) or None
