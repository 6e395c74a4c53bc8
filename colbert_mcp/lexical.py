"""What BM25 counts: from a passage to its terms, and from a query to the terms and exact texts that it asks for.

FTS5 computes Okapi BM25 (k1 = 1.2, b = 0.75) over the words that its porter and unicode61 tokenizers make of a text.
Two columns of their own hold what these do not see: ``names``, the words inside of camelCase and words that only a sign
tells from others (C++, .NET, --no-cache), and ``runs``, n-grams of scripts that put no spaces between words. Both are
computed again when a passage is deleted, so what they give for a text belongs to the index's format, like the
tokenizer: they go by fixed ranges of characters and by no table that changes with Python or Unicode.
Knows no database.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, starmap

# Marks belong to words, since Indic vowel signs are such; private characters stand for signs.
FTS_TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* M* Co'"
_MAX_WORDS = 64
_MAX_TERMS = 192
_MAX_EXACT = 16
_MAX_HUMPS = 8
# Words that stand in nearly every English passage: they cost a scan and order nothing.
STOP_WORDS = frozenset(
    "a an and are as at be been but by can could did do does for from had has have how i if in into is it its may me "
    "my no not of on or our shall should so such than that the their them then there these they this those to was we "
    "were what when where which who whom whose why will with would you your".split()
)

# Han, kana, bopomofo and Hangul are counted by two characters; Thai, Lao, Khmer and Burmese, whose vowels and tones are
# characters too, by three.
_BY_TWO = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_BY_THREE = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ecf\u0edc-\u0edf\u1000-\u103f\u1050-\u109f\u1780-\u17d3\u17d7\u17dc\u17dd"
)
# Vowel signs of Hebrew and Arabic, which most texts leave out.
_POINTS = "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
_MARKS = "\u0300-\u036f\u0483-\u0487\u0900-\u0dff\u200c\u200d" + _POINTS + _BY_THREE
_LOWER, _UPPER = "a-zß-öø-ÿ", "A-ZÀ-ÖØ-Þ"
_LATIN = f"{_LOWER}{_UPPER}0-9"
_W = rf"[\w{_MARKS}]"
_WORD = re.compile(rf"\w{_W}*")
_SPACELESS = re.compile(rf"[{_BY_TWO}{_BY_THREE}]")
# Runs of such scripts, and what stands beside them in letters of others: to FTS5 both are one word.
_STRETCH = re.compile(rf"(?P<two>[{_BY_TWO}]+)|(?P<three>[{_BY_THREE}]+)|[{_LATIN}]+")
_POINTED = re.compile(rf"[\u05d0-\u05ea\u0620-\u06d3]+(?:[{_POINTS}]+[\u05d0-\u05ea\u0620-\u06d3]*)+")
_HUMP = re.compile(
    rf"(?<=[{_LOWER}])(?=[{_UPPER}])|(?<=[{_LOWER}][0-9])(?=[{_UPPER}])|(?<=[{_UPPER}])(?=[{_UPPER}][{_LOWER}]{{2}})"
)
_HUMPED = re.compile(
    rf"(?<![{_LATIN}])(?=[{_LATIN}]{{0,63}}?(?:[{_LOWER}][0-9]?[{_UPPER}]|[{_UPPER}]{{2}}[{_LOWER}]{{2}}))"
    rf"[{_LATIN}]{{2,64}}(?![{_LATIN}])"
)
# Words that a sign tells from others: C++, C#; -Wall, --no-cache, .NET, @property, #include, $HOME, %timeit; __init__.
_SIGNED = re.compile(
    r"(?<![\w@#$%.\-])(?:--?|[.@#$%])[A-Za-z](?:[\w\-]{0,40}\w)?(?![\w\-])"
    r"|(?<!\w)__[A-Za-z0-9]\w{0,40}|(?<!\w)[A-Za-z]\w{0,24}(?:\+\+(?![A-Za-z_+#])|[+#](?![\w+#]))",
    re.ASCII,
)
_SIGNS = str.maketrans({sign: chr(0xE000 + ord(sign)) for sign in "-.@#$%+_"})


def names(text: str) -> str:
    """What the names of a text are counted by beside themselves, each name once, divided by blanks; mostly nothing."""
    humped = (part for name in dict.fromkeys(_HUMPED.findall(text)) for part in _humps(name))
    signed = (name.translate(_SIGNS) for name in dict.fromkeys(_SIGNED.findall(text)))
    pointed = () if text.isascii() else map(_unpointed, _POINTED.findall(text))
    return " ".join((*humped, *signed, *pointed))


def runs(text: str) -> str:
    """The n-grams of a text's runs in scripts without spaces, and Latin words beside them, divided by blanks."""
    if text.isascii() or not _SPACELESS.search(text):
        return ""
    return " ".join(piece for stretch, size in _stretches(text) for piece in _pieces(stretch, size))


def _pieces(stretch: str, size: int) -> list[str]:
    """One for every character of a run, so that anything that stands in it begins one; shorter ones at its end."""
    return [stretch[at : at + size] for at in range(len(stretch))] if size else [stretch]


def _humps(word: str) -> list[str]:
    """The words inside of a word in camelCase; none where it has no humps or so many that it is no name."""
    found = _HUMP.split(word)
    return found if 1 < len(found) <= _MAX_HUMPS else []


def _unpointed(word: str) -> str:
    return re.sub(f"[{_POINTS}]+", "", word)


def _stretches(text: str) -> Iterator[tuple[str, int]]:
    """(stretch, n) of runs in scripts without spaces, to be counted by n characters; (stretch, 0) of Latin beside."""
    latin, before = None, -1  # a stretch not yet known to stand before a run, and where the last run ended
    for match in _STRETCH.finditer(text):
        if match.lastgroup is None:
            latin = match
            if match.start() == before:
                yield match.group(), 0
                latin = None
            continue
        if latin is not None and latin.end() == match.start():
            yield latin.group(), 0
        latin, before = None, match.end()
        yield match.group(), 2 if match.lastgroup == "two" else 3


@dataclass(frozen=True, slots=True)
class ExactText:
    """A piece of a query that passages are to hold as it is: a quoted phrase, an identifier, an error code.

    ``expression`` finds the passages (FTS5) that may hold it, ``pattern`` those that do: in any case and with any white
    space, quotation marks and dashes, not as a part of a longer word. ``quoted``: the query has it in quotation marks.
    """

    text: str
    expression: str
    pattern: re.Pattern[str]
    quoted: bool

    @property
    def is_plain(self) -> bool:
        """Whether it is a word like any other, and exact only because it is asked for alone."""
        return not self.quoted and self.text.isalpha() and self.text[1:].islower()


@dataclass(frozen=True, slots=True)
class LexicalQuery:
    """FTS5 expressions, any of which a passage may match, the whole names before their parts; and the exact texts."""

    terms: tuple[str, ...]
    exact: tuple[ExactText, ...]


_NAMES, _RUNS = "names : ", "{runs heading_runs} : "
# Names whose parts are joined by signs without a blank: os.path, std::vector, a->b, src/main.py, ORA-00942.
_JOINED = re.compile(rf"(?<!{_W}){_W}+(?:(?:::|->|[.:/\\\-]){_W}+)+")
_QUOTED = re.compile(
    r"(?<!\w)\"(?=\S)([^\"\n]{1,1000}?)(?<=\S)\"(?!\w)|“([^“”]{1,1000})”|„([^„“”]{1,1000})[“”]|«([^«»]{1,1000})»"
    r"|「([^「」]{1,1000})」|『([^『』]{1,1000})』|(?<!\w)‘([^‘]{1,1000}?)’(?!\w)|`([^`\n]{1,1000})`"
)
# snake_case, camelCase, NullPointerException, TypeError, ECONNREFUSED, E0308, 0x80070005, 10061.
_NAME = re.compile(
    r"[A-Za-z0-9]_[A-Za-z0-9]|^[a-z]{2,}[0-9]*[A-Z]|^(?:[A-Z][a-z0-9]+){3}|[a-z](?:Error|Exception|Warning)$"
    r"|^[A-Z]{6,}$|^[A-Za-z]+\d{3}|^0x[0-9A-Fa-f]|^\d{5,}$"
)
_IN_CODE = re.compile(r"\.|::|->|\\")
_VERSION = re.compile(r"\d+(?:\.\d+){2,}")  # and addresses
_CODE_NUMBER = re.compile(r"\d{3}")
_ALIKE = [re.compile(marks) for marks in ("['‘’‚‛]", '["“”„‟«»]', "[-‐‑‒–—−]")]


def words(query: str) -> list[str]:
    """The distinct words of a query, casefolded, in order; stop words only if there is nothing else; at most 64."""
    return [word.casefold() for word in _as_typed(query)]


def match_expression(query: str) -> str | None:
    """An FTS5 expression that any of the query's words satisfies; None if it has none. Each word is quoted."""
    # As typed: FTS5 folds case by its own rules, and to it "straße" is not "strasse".
    return " OR ".join(map(_phrase, _as_typed(query))) or None


def lexical_query(query: str) -> LexicalQuery:
    """What a query asks of BM25. No text of it can act as an operator of FTS5: every piece is quoted."""
    exact = list(islice(_exact_texts(query), _MAX_EXACT))
    terms = [text.expression for text in exact]
    terms += [_NAMES + _phrase(match.group().translate(_SIGNS)) for match in _SIGNED.finditer(query)]
    typed = _as_typed(query)
    for word in typed:
        terms += _terms_of(word, alone=len(typed) == 1)
    return LexicalQuery(tuple(dict.fromkeys(terms))[:_MAX_TERMS], tuple(exact))


def _as_typed(query: str) -> list[str]:
    found: dict[str, str] = {}
    for word in _WORD.findall(query):
        found.setdefault(word.casefold(), word)
    telling = [word for folded, word in found.items() if folded not in STOP_WORDS]
    return (telling or list(found.values()))[:_MAX_WORDS]


def _terms_of(word: str, *, alone: bool) -> Iterator[str]:
    """A word, and what of it may stand in another form or alone; of one such as JavaScript, only if it is ``alone``."""
    if _SPACELESS.search(word):
        for stretch, size in _stretches(word):
            yield from _ngrams(stretch, size) if size else [_phrase(stretch)]
        return
    yield _phrase(word)
    if _POINTED.search(word):
        yield _phrase(_unpointed(word))
    inner = [part for piece in word.split("_") if piece for part in _humps(piece) or [piece]]
    if len(inner) > 1:
        yield _phrase(" ".join(inner))
    if len(inner) > 1 and (alone or "_" in word or word[0].islower()):
        yield from (_phrase(part) for part in inner if len(part) > 1 and part.casefold() not in STOP_WORDS)


def _ngrams(run: str, size: int) -> list[str]:
    """What finds a run of a script without spaces: its n-grams or, if it is shorter, what begins with it."""
    if len(run) < size:
        return [f"{_RUNS}{_phrase(run)} *"]
    return [_RUNS + _phrase(gram) for gram in _grams(run, size)]


def _grams(run: str, size: int) -> list[str]:
    return [run[at : at + size] for at in range(len(run) - size + 1)]


def _exact_texts(query: str) -> Iterator[ExactText]:
    """The quoted phrases of a query, then its names and codes outside of them."""
    quoted = (next(filter(None, match.groups())) for match in _QUOTED.finditer(query))
    for phrase in dict.fromkeys(quoted):
        yield from _exact_text(phrase, quoted=True)
    for name in dict.fromkeys(_names_in(_QUOTED.sub(" ", query))):
        yield from _exact_text(name, quoted=False)


def _names_in(query: str) -> Iterator[str]:
    """What a person would not say in other words: identifiers, paths, options, error codes, and a query of one word."""
    found = _WORD.findall(query)
    if len(found) == 1 and not _SIGNED.search(query):
        yield found[0]
        return
    for is_name, pattern in ((bool, _SIGNED), (_is_joined, _JOINED), (_is_name, _WORD)):
        names = list(filter(is_name, pattern.findall(query)))
        yield from names
        for name in names:  # and nothing inside of it
            query = query.replace(name, " ")


def _is_joined(name: str) -> bool:
    """Whether words that signs join are a name: ORA-00942, os.path and a/b.py, but not well-known, e.g., or GPT-4."""
    if _VERSION.fullmatch(name):
        return True
    pieces = _WORD.findall(name)
    if all(len(piece) == 1 for piece in pieces) or not any(piece[0].isalpha() for piece in pieces):
        return False
    return _IN_CODE.search(name) is not None or any(map(_is_name, pieces)) or _CODE_NUMBER.search(name) is not None


def _is_name(word: str) -> bool:
    """Whether a word is a name in code or a code: not JSON, GitHub, IPv4 or 1990s, which any question may have."""
    return word.isascii() and _NAME.search(word) is not None


def _exact_text(text: str, *, quoted: bool) -> Iterator[ExactText]:
    if _WORD.search(text):
        yield ExactText(text, _all_of(text), _pattern(text), quoted)


def _all_of(text: str) -> str:
    """An FTS5 expression for the passages in which a text may stand."""
    if _SIGNED.fullmatch(text):
        return _NAMES + _phrase(text.translate(_SIGNS))
    if not _SPACELESS.search(text):
        return _phrase(text)
    stretches = (pair for word in _WORD.findall(text) for pair in _stretches_of(word))
    return f"({' AND '.join(dict.fromkeys(starmap(_together, stretches)))})"


def _stretches_of(word: str) -> Iterable[tuple[str, int]]:
    return _stretches(word) if _SPACELESS.search(word) else [(word, 0)]


def _together(stretch: str, size: int) -> str:
    """What finds a stretch as a whole: the n-grams of a run one behind the other."""
    if not size:
        return _phrase(stretch)
    return _RUNS + _phrase(" ".join(_grams(stretch, size))) if len(stretch) >= size else _ngrams(stretch, size)[0]


def _pattern(text: str) -> re.Pattern[str]:
    """What finds a text as it is, but for case, white space and the forms of quotation marks and dashes."""
    pieces = []
    for piece in text.split():
        escaped = [next((marks.pattern for marks in _ALIKE if marks.match(sign)), re.escape(sign)) for sign in piece]
        pieces.append("".join(escaped))
    stripped = text.strip()
    return re.compile(_before(stripped[0]) + r"\s+".join(pieces) + _after(stripped[-1]), re.IGNORECASE)


def _before(first: str) -> str:
    """Not inside of a word, nor behind the hyphen of one; a sign is not the last of several."""
    if _SPACELESS.match(first):
        return ""
    return r"(?<!\w)(?<!\w-)" if first.isalnum() else rf"(?<![\w{re.escape(first)}])"


def _after(last: str) -> str:
    if _SPACELESS.match(last):
        return ""
    return rf"(?!{_W}|-\w)" if last.isalnum() else f"(?!{re.escape(last)})"


def _phrase(text: str) -> str:
    quoted = text.replace('"', " ").replace("\0", " ")
    return f'"{quoted}"'
