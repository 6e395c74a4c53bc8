"""What an index must hold of one folder, worked out by plain rules and none of the product's code.

Texts are made so that the rules are few: paragraphs of 21 to 35 words, of which no two fit into a chunk of the fake
encoder, so a chunk is a paragraph. Similarities are computed word by word in loops over Python floats, with the token
vectors stored as int8. Knows the fake encoder's vectors, as the one thing given.
"""

import hashlib
import random
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fake_encoder import _vector

FEWEST, MOST = 21, 35
MOST_FILES, MOST_PARAGRAPHS = 6, 4
_SHARED = 24


def _vocabulary() -> list[str]:
    """Words that are their own stem, in one script or with an accent."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprtvz" for vowel in "aou"]
    words = sorted(a + b for a in syllables for b in syllables)
    return random.Random(0).sample(words, 70) + ["naïvo", "dépôto"]


VOCABULARY = _vocabulary()


def shared_paragraphs() -> list[str]:
    """Paragraphs that any folder may hold, so that folders share rows of token embeddings."""
    source = random.Random(0)
    return [paragraph(source) for _ in range(_SHARED)]


def paragraph(source: random.Random, own_word: str = "") -> str:
    """A text of one chunk; spaces or line breaks between its words."""
    words = source.choices(VOCABULARY, k=source.randint(FEWEST, MOST) - bool(own_word))
    if own_word:
        words.insert(source.randrange(len(words)), own_word)
    text = words[0]
    for word in words[1:]:
        text += source.choice("     \n") + word
    return text


@dataclass(frozen=True)
class Expected:
    """A passage that an index must hold."""

    id: str
    path: Path
    text: str
    char_start: int
    byte_start: int
    line: int

    @property
    def sha256(self) -> str:
        return sha256(self.text)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def passages(path: Path, text: str) -> dict[str, Expected]:
    """The passages of a file, by id."""
    result: dict[str, Expected] = {}
    equal: dict[str, int] = {}
    at = 0
    for part in text.split("\n\n"):
        digest = sha256(part)
        ordinal = equal[digest] = equal.get(digest, -1) + 1
        key = bytes(path) + b"\0" + digest.encode() + b"\0" + str(ordinal).encode()
        passage_id = hashlib.sha256(key).hexdigest()[:16]
        result[passage_id] = Expected(passage_id, path, part, at, len(text[:at].encode()), text.count("\n", 0, at) + 1)
        at += len(part) + 2
    return result


@dataclass
class Folder:
    """A folder on disk, and what an index has acknowledged of it: ``disk`` and ``indexed`` are texts by file name.

    ``removed``: names that stay out until the folder itself was removed; ``former``: texts of passages that are not
    searched any more, by id.
    """

    path: Path
    disk: dict[str, str] = field(default_factory=dict)
    indexed: dict[str, str] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    former: dict[str, Expected] = field(default_factory=dict)
    is_root: bool = False

    def live(self) -> dict[str, Expected]:
        """The passages that are searched, by id."""
        result: dict[str, Expected] = {}
        for name, text in self.indexed.items():
            result |= passages(self.path / name, text)
        return result

    def due(self) -> dict[str, str]:
        """What a run would leave in the index."""
        return {name: text for name, text in self.disk.items() if name not in self.removed}

    def ran(self) -> None:
        """A run over the folder was acknowledged."""
        before = self.live()
        self.indexed = self.due()
        self.is_root = True
        now = self.live()
        self.former |= {key: passage for key, passage in before.items() if key not in now}
        self.former = {key: passage for key, passage in self.former.items() if key not in now}

    def took_out(self, name: str | None) -> None:
        """The removal of a file, or of the whole folder, was acknowledged."""
        if name is None:
            self.indexed, self.removed, self.former, self.is_root = {}, set(), {}, False
            return
        del self.indexed[name]
        self.removed.add(name)
        self.former = {key: passage for key, passage in self.former.items() if passage.path != self.path / name}

    def in_step(self) -> bool:
        """Whether every indexed file still says what was indexed."""
        return all(self.disk.get(name) == text for name, text in self.indexed.items())


def shares_a_word(query: str, text: str) -> bool:
    return not set(query.split()).isdisjoint(text.split())


def maxsim(query: str, text: str) -> float:
    """The mean over the query's words of the best inner product with a word of the text as stored."""
    words = set(text.split())
    asked = query.split()
    return sum(max(_similarity(q, word) for word in words) for q in asked) / len(asked)


@cache
def _similarity(query_word: str, word: str) -> float:
    return sum(a * b for a, b in zip(_as_floats(query_word), _as_stored(word), strict=True))


@cache
def _as_floats(word: str) -> tuple[float, ...]:
    return tuple(float(value) for value in _vector(word))


@cache
def _as_stored(word: str) -> tuple[float, ...]:
    """A vector after int8 storage: steps of the half-precision number just above a 127th of its largest value."""
    values = _as_floats(word)
    (bits,) = struct.unpack("<H", struct.pack("<e", max(map(abs, values)) / 127))
    (step,) = struct.unpack("<e", struct.pack("<H", bits + 1))
    return tuple(round(value / step) * step for value in values)
