"""Which characters each token stands for, where the tokenizers library does not tell it exactly.

WordPiece needs none of this. Elsewhere the library gives the space that it puts before a text the first letter, leaves
out marks that a normaliser composes with their letter, gives each byte of a run of unknown characters the whole run,
shifts everything after characters that SentencePiece's map deletes at the beginning, and counts the blank before a word
as part of it. Knows one tokenizer and one text at a time; nothing of models.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import groupby, pairwise

import numpy as np
import numpy.typing as npt
import regex
from tokenizers import Encoding, Tokenizer, models, normalizers, pre_tokenizers

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Spans = tuple[Ints, Ints]
_COMPOSING = (normalizers.NFC, normalizers.NFKC, normalizers.Precompiled)
_BYTE_LEVEL = (pre_tokenizers.ByteLevel, normalizers.ByteLevel)
_LONGEST_BLANK = 64
_MOST_TRIALS = 16
# How far apart characters may stand and still be normalised together.
_CONTEXT = 16
# A letter with all that belongs to it: accents, vowel signs, the further letters of a Korean syllable.
_LETTER = regex.compile(
    # Some normalisers delete control characters, and then join what they divide; not those that Python calls blanks.
    r"[^\s▁\p{Cc}\p{Cf}]"
    r"(?:[\p{Cc}--[\s\x1c-\x1f]]*+[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=V}\p{GCB=T}\p{GCB=ZWJ}])++",
    regex.VERSION1,
)
_SPACES = regex.compile(" {2,}")
_REMEMBERED = 65_536


def offsets(encoding: Encoding) -> Spans:
    """What the library tells, int64 [n] each."""
    array = np.array(encoding.offsets, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


class SpanMender:
    """Makes the spans that one tokenizer gives exact.

    A span is what its token says, without the blanks around it, as few characters of the text as say it: a token of one
    byte has the whole character. A token of blanks has these; one that was put before the text has an empty span.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        steps = list(_steps(tokenizer.normalizer))
        self._composes = any(isinstance(step, _COMPOSING) for step in steps)
        self._deletes = any(isinstance(step, normalizers.Precompiled) for step in steps)
        self._normalise: Callable[[str], str] = tokenizer.normalizer.normalize_str if steps else str
        self._kept: set[str] = set()
        self._together = lru_cache(_REMEMBERED)(self._joined)
        self._said = lru_cache(_REMEMBERED)(lambda letter: self._normalise(letter).encode())
        by_bytes = any(isinstance(step, _BYTE_LEVEL) for step in [*steps, *_steps(tokenizer.pre_tokenizer)])
        self._space = "Ġ" if by_bytes else "▁"
        self._blanks = _ids(tokenizer, (self._space * count for count in range(1, _LONGEST_BLANK)))
        # BPE gives each byte its own place; only Unigram gives it that of the whole run.
        self._bytes = _bytes(tokenizer) if isinstance(tokenizer.model, models.Unigram) else {}
        self._byte_tokens = np.array(list(self._bytes), np.int64)

    def mend(self, text: str, encoding: Encoding) -> Spans:
        """The characters ``[starts, ends)`` of each token of the text, int64 [n] each, starts in order."""
        ids = np.array(encoding.ids, np.int64)
        starts, ends = self._without_deleted(text, encoding) if self._deletes else offsets(encoding)
        starts, ends = starts.copy(), ends.copy()
        seen = ~_is_blank(text)
        if self._composes and not text.isascii():
            self._widen_to_letters(text, starts, ends)
        if self._bytes:
            self._spread_bytes(text, ids, starts, ends)
        added = np.isin(ids, self._blanks) & (ends > starts)
        added[added] = [not (text[at].isspace() or text[at] == self._space == "▁") for at in starts[added].tolist()]
        ends[added] = starts[added]
        first, last = _next(seen)[starts], _previous(seen)[ends]
        visible = first < last
        starts[visible], ends[visible] = first[visible], last[visible]
        np.maximum.accumulate(starts, out=starts)
        return starts, np.maximum(starts, ends)

    def _without_deleted(self, text: str, encoding: Encoding) -> Spans:
        """The library's offsets, of the text without the characters that its normaliser deletes, brought back."""
        letters = set(text)
        self._kept.update(letter for letter in letters - self._kept if self._is_kept(letter))
        if letters <= self._kept:
            return offsets(encoding)
        kept = np.ones(len(text) + 1, np.bool_)
        needed = []
        for start, end in self._deleted_runs(text):
            before, after = text[max(0, start - _CONTEXT) : start], text[end : end + _CONTEXT]
            if self._normalise(before + after) == self._normalise(before + text[start:end] + after):
                kept[start:end] = False
            elif start > 0:
                needed.append((start, end))
        starts, ends = self._spans_without(text, encoding, kept) or self._one_by_one(text, encoding, kept)
        for start, end in needed:
            # What the character before it became more than one of was given the place of the deleted one.
            starts[(starts >= start) & (starts < end)] = start - 1
            ends[(ends > start) & (ends <= end)] = start
        return starts, ends

    def _spans_without(self, text: str, encoding: Encoding, kept: Mask) -> Spans | None:
        """Spans by the text without some characters; None where its tokens are then others."""
        places = np.flatnonzero(kept)
        shorter = self._tokenizer.encode("".join(text[at] for at in places[:-1].tolist()), add_special_tokens=False)
        if shorter.ids != encoding.ids:
            return None
        starts, ends = offsets(shorter)
        return places[starts], np.where(ends > starts, places[ends - 1] + 1, places[starts])

    def _one_by_one(self, text: str, encoding: Encoding, kept: Mask) -> Spans:
        """Spans by the text without those characters whose absence changes no token: beside special ones, some do."""
        spans, left = offsets(encoding), np.ones_like(kept)
        for at in np.flatnonzero(~kept)[:_MOST_TRIALS].tolist():
            left[at] = False
            found = self._spans_without(text, encoding, left)
            left[at] = found is None
            spans = found or spans
        return spans

    def _is_kept(self, letter: str) -> bool:
        # Between others, because some normalisers strip blanks at the ends.
        return self._normalise(f"a{letter}a") != self._normalise("aa")

    def _deleted_runs(self, text: str) -> Iterator[tuple[int, int]]:
        at = 0
        for is_kept, run in groupby(text, self._kept.__contains__):
            end = at + len(list(run))
            if not is_kept:
                yield at, end
            at = end

    def _spread_bytes(self, text: str, ids: Ints, starts: Ints, ends: Ints) -> None:
        """Give each byte of a run of unknown characters the character that it belongs to, in place."""
        among = np.flatnonzero(np.isin(ids, self._byte_tokens) & (ends - starts > 1))
        for (start, end), found in groupby(among.tolist(), lambda at: (int(starts[at]), int(ends[at]))):
            run = list(found)
            places = self._places(text[start:end], bytes(self._bytes[token] for token in ids[run].tolist()))
            if places is not None:
                starts[run], ends[run] = start + places[0], start + places[1]

    def _widen_to_letters(self, text: str, starts: Ints, ends: Ints) -> None:
        """Let tokens of a part of a letter that is normalised as a whole have all of it, in place."""
        first, last = np.arange(len(text) + 1), np.arange(len(text) + 1)
        found = False
        for start, end in self._whole_letters(text):
            first[start:end], last[start + 1 : end + 1] = start, end
            found = True
        if found:
            ends[:] = np.where(ends > starts, last[ends], ends)
            starts[:] = first[starts]

    def _whole_letters(self, text: str) -> Iterator[tuple[int, int]]:
        """Letters whose characters are normalised together, not each on its own."""
        for match in _LETTER.finditer(text):
            first, last = self._together(match.group())
            if last:
                yield match.start() + first, match.start() + last

    def _joined(self, letter: str) -> tuple[int, int]:
        """Which characters of a letter and what belongs to it are normalised together; (0, 0) if each is on its own."""
        whole = self._normalise(letter)
        alone = "".join(map(self._normalise, letter))
        if _SPACES.sub(" ", whole) == _SPACES.sub(" ", alone):
            return 0, 0
        # Two vowel signs become one beside any letter, and leave that as it is.
        first = 0
        while whole == "".join(map(self._normalise, letter[: first + 1])) + self._normalise(letter[first + 1 :]):
            first += 1
        # What divides letters without being seen counts as an extension of them; as a space it is none.
        return first, len(letter.rstrip("\u200c") if whole.endswith(" ") else letter)

    def _places(self, text: str, said: bytes) -> Spans | None:
        """The characters that each byte of a text's normalised form comes from; None if it does not say that."""
        edges = {*range(len(text) + 1)}
        for start, end in self._whole_letters(text):
            edges.difference_update(range(start + 1, end))
        parts = [(self._said(text[a:b]), a, b) for a, b in pairwise(sorted(edges))]
        whole = b"".join(part for part, _, _ in parts)
        # A run may begin and end inside of what one character is normalised to.
        within = range(len(parts[0][0]))
        shift = next((at for at in within if whole.startswith(said, at)), None)
        if shift is None or len(whole) - shift - len(said) > len(parts[-1][0]):
            return None
        places = [(start, end) for part, start, end in parts for _ in part][shift : shift + len(said)]
        starts, ends = np.array(places, np.int64).T
        return starts, ends


def mender_for(tokenizer: Tokenizer) -> SpanMender | None:
    """What makes the spans of a tokenizer exact; None where they are."""
    steps = _steps(tokenizer.normalizer)
    if isinstance(tokenizer.model, models.WordPiece) and not any(isinstance(step, _COMPOSING) for step in steps):
        return None
    return SpanMender(tokenizer)


def _steps(part: object) -> Iterator[object]:
    """The steps of a normaliser or pre-tokenizer, those of sequences one by one; none of None."""
    if isinstance(part, normalizers.Sequence | pre_tokenizers.Sequence):
        for step in part:
            yield from _steps(step)
    elif part is not None:
        yield part


def _ids(tokenizer: Tokenizer, names: Iterator[str]) -> Ints:
    found = (tokenizer.token_to_id(name) for name in names)
    return np.array([token for token in found if token is not None], np.int64)


def _bytes(tokenizer: Tokenizer) -> dict[int, int]:
    """The bytes that tokens stand for, by the tokens."""
    found = {tokenizer.token_to_id(f"<0x{byte:02X}>"): byte for byte in range(256)}
    return {token: byte for token, byte in found.items() if token is not None}


_BLANK = np.zeros(0x3001, np.bool_)
_BLANK[[code for code in range(0x3001) if chr(code).isspace()]] = True


def _is_blank(text: str) -> Mask:
    """Which characters are blanks; bool [len(text)]. All of them lie below U+3001."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    blank: Mask = _BLANK[np.minimum(codes, 0x3000)] & (codes <= 0x3000)
    return blank


def _next(mask: Mask) -> Ints:
    """For each place of a text and its end, the first place from there on for which the mask holds; int64 [n + 1]."""
    places = np.append(np.where(mask, np.arange(len(mask)), len(mask)), len(mask))
    found: Ints = np.minimum.accumulate(places[::-1])[::-1]
    return found


def _previous(mask: Mask) -> Ints:
    """For each place of a text and its end, the end of the last character before it for which the mask holds."""
    places = np.append(0, np.where(mask, np.arange(1, len(mask) + 1), 0))
    found: Ints = np.maximum.accumulate(places)
    return found
