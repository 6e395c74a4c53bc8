"""Whether an answer is about its question: weak evidence, and words that no result covers.

The evidence for a question is the mean of two bests over its candidates: MaxSim of its telling words alone, and the
dense cosine. It is *weak* where it is no higher than what unrelated questions get on the same index, so no number has
to suit every model or corpus. Knows snapshots and embeddings; nothing of ranking.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from colbert_mcp.encoder import Encoder, Query
from colbert_mcp.lexical import STOP_WORDS
from colbert_mcp.questions import UNRELATED
from colbert_mcp.scoring import Scorer
from colbert_mcp.store import Snapshot

META_KEY = "evidence"
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_VERSION = 1
_WORD = re.compile(r"\w[\w\u0300-\u036f]*")
_SHORTEST_STEM = 4
_COVERED = 1 / 3  # of the way from what a word gets from passages at random to 1
_BACKGROUND = 256
_SAMPLE = 4096
_EXACT = 16
_QUANTILE = 0.9
_SALADS, _SALAD_WORDS, _SHORTEST_WORD = 24, 5, 4
FEWEST = 20
_CHANGE = 0.1


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a query, and the rows of the query's token embeddings that stand for it (int64 [n])."""

    text: str
    rows: Ints


def telling_words(text: str, query: Query) -> list[Word]:
    """The words of a query that say what it is about: all but stop words, or all if there are no others."""
    words = []
    for match in _WORD.finditer(text):
        rows = np.flatnonzero((query.spans[:, 1] > match.start()) & (query.spans[:, 0] < match.end()))
        if len(rows):
            words.append(Word(match.group(), rows))
    return [word for word in words if word.text.casefold() not in STOP_WORDS] or words


def strength(words: Sequence[Word], matches: Floats, dense: Floats) -> float:
    """The evidence for a question among candidates, -1…1, higher is better.

    ``matches``: float32 [q, n], the best similarity of each row of the query with each candidate; ``dense``: float32
    [n]; n is at least 1.
    """
    return float((matches[_rows_of(words, len(matches))].mean(axis=0).max() + dense.max()) / 2)


def _rows_of(words: Sequence[Word], count: int) -> Ints:
    """Which of ``count`` rows of a query stand for words; all of them if none does."""
    return np.unique(np.concatenate([word.rows for word in words])) if words else np.arange(count)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What unrelated questions got on the index: ``threshold``, the evidence that most of them stay below.

    ``passages`` were in the index then, and ``changed`` have come or gone in runs since.
    """

    threshold: float
    passages: int
    changed: int = 0
    version: int = _VERSION

    def is_stale(self, passages: int) -> bool:
        """Whether too much of the index has changed, which holds ``passages`` now."""
        return max(self.changed, abs(passages - self.passages)) > _CHANGE * self.passages

    def as_json(self) -> str:
        """For the catalogue."""
        return json.dumps(asdict(self))


def read_calibration(stored: str | None) -> Calibration | None:
    """The calibration that the catalogue keeps; None if there is none, or one of another version."""
    if stored is None:
        return None
    try:
        found = Calibration(**json.loads(stored))
    except (TypeError, ValueError):
        return None
    numbers = isinstance(found.threshold, float) and isinstance(found.passages, int) and isinstance(found.changed, int)
    return found if numbers and found.version == _VERSION else None


def calibrate(snapshot: Snapshot, encoder: Encoder) -> Calibration | None:
    """Ask the index what it does not answer; None where it holds too few passages to tell.

    The threshold is the lower of two: what nine in ten of forty general questions stay below, and what half of the word
    salads do, each made of words of five passages of the index. A broad index does answer some general questions, and a
    narrow one is near to any salad of its words; neither is both. A large index is represented by passages drawn with
    a fixed seed, so the cost is bounded and the result repeatable.
    """
    if len(snapshot) < FEWEST:
        return None
    salads = _salads(snapshot)
    found = _ask([*UNRELATED, *salads], snapshot, encoder)
    general = float(np.quantile(found[: len(UNRELATED)], _QUANTILE))
    own = float(np.median(found[len(UNRELATED) :])) if salads else general
    return Calibration(round(min(general, own), 4), len(snapshot))


def _ask(questions: Sequence[str], snapshot: Snapshot, encoder: Encoder) -> list[float]:
    """The evidence for each question among passages drawn, all scanned at once; the best are scored exactly."""
    queries = encoder.encode_queries(questions)
    rows = [
        _rows_of(telling_words(text, query), len(query.token_embeddings))
        for text, query in zip(questions, queries, strict=True)
    ]
    asked = [query.token_embeddings[own] for query, own in zip(queries, rows, strict=True)]
    positions = drawn(len(snapshot), _SAMPLE)
    pooled = snapshot.pooled_matches(encoder.scorer, np.concatenate(asked), positions)
    snapshot.release()
    starts = np.cumsum([0, *(len(own) for own in asked[:-1])])
    best = np.argsort(-np.add.reduceat(pooled, starts, axis=0), axis=1, kind="stable")[:, :_EXACT]
    dense = snapshot.dense(positions) @ np.stack([query.dense for query in queries], axis=1)
    found = []
    for index, own in enumerate(asked):
        exact = snapshot.best_matches(encoder.scorer, own, positions[best[index]]).mean(axis=0).max()
        snapshot.release()
        found.append(float(exact + dense[:, index].max()) / 2)
    return found


def _salads(snapshot: Snapshot) -> list[str]:
    """Questions of words that stand in the index, each in another passage: nothing answers them but by chance."""
    draw = np.random.default_rng(0)
    chunks = snapshot.chunks[draw.integers(len(snapshot), size=_SALADS * _SALAD_WORDS)].tolist()
    passages = snapshot.reader.passages(sorted(set(chunks)))
    drawn_words = []
    for chunk in chunks:
        words = [word for word in _WORD.findall(passages[chunk].chunk.text) if _is_telling(word)]
        if words:
            drawn_words.append(words[int(draw.integers(len(words)))])
    whole = range(0, len(drawn_words) - _SALAD_WORDS + 1, _SALAD_WORDS)
    return [" ".join(drawn_words[at : at + _SALAD_WORDS]) for at in whole]


def _is_telling(word: str) -> bool:
    return word.isalpha() and len(word) >= _SHORTEST_WORD and word.casefold() not in STOP_WORDS


def drawn(count: int, most: int) -> Ints:
    """At most ``most`` of the positions below ``count``, sorted, the same at every call."""
    chosen: Ints = np.sort(np.random.default_rng(0).choice(count, min(count, most), replace=False)).astype(np.int64)
    return chosen


@dataclass(frozen=True, slots=True)
class Covered:
    """Which words of a query (bool [w, n]) which results are about, the best result first."""

    words: tuple[str, ...]
    by_result: Mask

    def missing(self, results: int) -> list[str]:
        """The words that none of the first ``results`` results is about, each once, in the query's order."""
        rows = zip(self.words, self.by_result[:, :results], strict=True)
        return list(dict.fromkeys(word for word, found in rows if not found.any()))


def background(query: Query, scorer: Scorer, snapshot: Snapshot, allowed: Mask) -> Floats:
    """What each row of a query gets from passages drawn at random, on average; float32 [q]."""
    positions = np.flatnonzero(allowed)
    sample = positions[drawn(len(positions), _BACKGROUND)]
    means: Floats = snapshot.best_matches(scorer, query.token_embeddings, sample).mean(axis=1)
    return means


def cover(words: Sequence[Word], matches: Floats, usual: Floats, texts: Sequence[str]) -> Covered:
    """Which words each result is about: it has the word (its first letters), or tokens that are clearly nearer to it
    than those of passages at random (``usual``, float32 [q]): by a third of the distance from there to 1.

    ``matches``: float32 [q, n] of the results; ``texts``: what they say.
    """
    vocabularies = [{word.casefold() for word in _WORD.findall(text)} for text in texts]
    table = np.zeros((len(words), len(texts)), np.bool_)
    for index, word in enumerate(words):
        least = usual[word.rows].mean()
        near: Mask = matches[word.rows].mean(axis=0) >= least + _COVERED * (1 - least)
        table[index] = [
            bool(close) or _has(word.text.casefold(), vocabulary)
            for close, vocabulary in zip(near, vocabularies, strict=True)
        ]
    return Covered(tuple(word.text for word in words), table)


def _has(word: str, vocabulary: set[str]) -> bool:
    """Whether a text has a word or, if that is of letters alone, one of the same stem (a crude one: first letters)."""
    if word in vocabulary or not word.isalpha():
        return word in vocabulary
    stem = word[: max(_SHORTEST_STEM, len(word) - 3)]
    return any(found.startswith(stem) for found in vocabulary)
