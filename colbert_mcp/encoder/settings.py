"""How a model encodes: each setting, and whether it is the checkpoint's, the configuration's or a default.

PyLate keeps its settings in ``config_sentence_transformers.json``, Stanford ColBERT in ``artifact.metadata``; a
Sentence Transformers model with a projection has none, and is used as it was trained: without markers and expansion.
Everything is resolved here and handed to PyLate, so that what is shown is what is used. Loads neither torch nor pylate.
"""

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tokenizers import Tokenizer

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.checkpoint import SETTINGS, Checkpoint
from colbert_mcp.encoder.json_files import read_json, wrong_value
from colbert_mcp.encoder.tokenizing import (
    DOCUMENT_LENGTH,
    QUERY_LENGTH,
    builtin_directory,
    special_tokens,
    without_limits,
)
from colbert_mcp.errors import EncoderError

METADATA = "artifact.metadata"
_CONFIG = "config.json"
_MIN_CONTENT = 8
_PYLATE, _STANFORD, _PLAIN = "PyLate's default", "Stanford ColBERT's default", "default without markers and expansion"
# Models that number positions from behind their padding token: their tables hold that many more than they can read.
_COUNT_FROM_PADDING = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta"}
    | {"xlm-roberta-xl", "xmod"}
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Setting(Generic[T]):
    """A value, and where it comes from: a file of the checkpoint, a key of the configuration, or a default."""

    value: T
    source: str


@dataclass(frozen=True, slots=True)
class Settings:
    """How texts become token embeddings. Lengths count tokens, special ones included.

    ``window`` is the longest input of the backbone, None without a limit; ``trained_*`` are the checkpoint's own
    lengths, None where it does not tell.
    """

    document_length: Setting[int]
    query_length: Setting[int]
    document_prefix: Setting[str]
    query_prefix: Setting[str]
    do_query_expansion: Setting[bool]
    attend_to_expansion_tokens: Setting[bool]
    skiplist_words: Setting[tuple[str, ...]]
    window: Setting[int | None]
    trained_document_length: Setting[int | None]
    trained_query_length: Setting[int | None]

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know: lengths beyond those that the model was trained for."""
        found = []
        measures = "; `colbert-mcp model lengths` measures it"
        for name, used, trained, measured in (
            ("document_length", self.document_length, self.trained_document_length, measures),
            ("query_length", self.query_length, self.trained_query_length, ""),
        ):
            if trained.value is not None and used.value > trained.value:
                found.append(
                    f"{name} = {used.value} is longer than the {trained.value} tokens that the model was trained for "
                    f"({trained.source}): how well it ranks is not known{measured}."
                )
        return tuple(found)


def resolve(checkpoint: Checkpoint, config: ModelConfig) -> Settings:
    """The settings of a checkpoint under those of ``[model]``.

    Raises EncoderError for values that are none, for lengths beyond the window, for a marker that is no token, and for
    what is not how this program encodes.
    """
    tokenizer = _read_tokenizer(checkpoint.backbone / "tokenizer.json")
    own = {"pylate": _pylate, "stanford": _stanford, "sentence-transformers": _plain}[checkpoint.layout]
    settings = overridden(own(checkpoint, tokenizer), config)
    for prefix in (settings.document_prefix, settings.query_prefix):
        if prefix.value and tokenizer.token_to_id(prefix.value) is None:
            raise EncoderError(
                f"The marker {prefix.value!r} ({prefix.source}) is no token of the model in {checkpoint.directory}, so "
                "it was never trained."
            )
    _check_room(settings, tokenizer)
    return settings


def resolve_builtin(config: ModelConfig) -> Settings:
    """The settings of the built-in model under those of ``[model]``; raises EncoderError for what cannot be."""
    directory = builtin_directory()
    settings = overridden(_builtin(directory), config)
    _check_room(settings, _read_tokenizer(directory / "tokenizer.json"))
    return settings


def _check_room(settings: Settings, tokenizer: Tokenizer) -> None:
    """Raise EncoderError where special tokens leave too little of a length for text."""
    special = sum(map(len, special_tokens(tokenizer)))
    for name, length, prefix, fewest in (
        ("document_length", settings.document_length, settings.document_prefix, _MIN_CONTENT),
        ("query_length", settings.query_length, settings.query_prefix, 1),
    ):
        least = special + bool(prefix.value) + fewest
        if length.value < least:
            raise EncoderError(
                f"{name} is {length.value} ({length.source}), which is too little for text beside the special tokens. "
                f"Set [model] {name} to at least {least}."
            )


def overridden(own: Settings, config: ModelConfig) -> Settings:
    """A model's own settings under those of ``[model]``; raises EncoderError for what cannot be."""
    document = _length(own.document_length, config.document_length, "document_length")
    query = _length(own.query_length, config.query_length, "query_length")
    attend = own.attend_to_expansion_tokens
    if config.attend_to_expansion_tokens != "auto":
        attend = Setting(bool(config.attend_to_expansion_tokens), "[model] attend_to_expansion_tokens")
    if attend.value and not own.do_query_expansion.value:
        raise EncoderError(
            f"attend_to_expansion_tokens is true ({attend.source}), and the model does without query expansion "
            f'({own.do_query_expansion.source}); set [model] attend_to_expansion_tokens = "auto".'
        )
    for name, length in (("document_length", document), ("query_length", query)):
        if own.window.value is not None and length.value > own.window.value:
            raise EncoderError(
                f"The model reads {own.window.value} tokens ({own.window.source}); {name} is {length.value} "
                f"({length.source}). Set [model] {name} to at most {own.window.value}."
            )
    return Settings(
        document,
        query,
        own.document_prefix,
        own.query_prefix,
        own.do_query_expansion,
        attend,
        own.skiplist_words,
        own.window,
        own.trained_document_length,
        own.trained_query_length,
    )


def _length(own: Setting[int], wanted: int, name: str) -> Setting[int]:
    return Setting(wanted, f"[model] {name}") if wanted else own


def _pylate(checkpoint: Checkpoint, _: Tokenizer) -> Settings:
    own = _Source(checkpoint.directory / SETTINGS, _PYLATE)
    if own.text("similarity_fn_name", "MaxSim").value != "MaxSim":
        raise EncoderError(f"The model in {checkpoint.directory} was not trained for MaxSim ({SETTINGS}).")
    document, query = own.number("document_length", 180), own.number("query_length", 32)
    expansion = own.flag("do_query_expansion", True)
    attend = own.flag("attend_to_expansion_tokens", False)
    if attend.value and not expansion.value:
        attend = Setting(False, f"no query expansion ({expansion.source})")
    return Settings(
        document,
        query,
        own.text("document_prefix", "[D] "),
        own.text("query_prefix", "[Q] "),
        expansion,
        attend,
        own.words("skiplist_words", tuple(string.punctuation)),
        backbone_window(checkpoint.backbone),
        _told(document),
        _told(query),
    )


def _stanford(checkpoint: Checkpoint, tokenizer: Tokenizer) -> Settings:
    own = _Source(checkpoint.directory / METADATA, _STANFORD)
    for key, known in (("similarity", "cosine"), ("interaction", "colbert")):
        value = own.text(key, known).value
        if value != known:
            raise EncoderError(f"{own.file} sets {key} to {value!r}; only {known!r} is what this program computes.")
    dimension = own.number("dim", checkpoint.dimension).value
    if dimension != checkpoint.dimension:
        raise EncoderError(
            f"{own.file} tells of {dimension} dimensions, and the projection has {checkpoint.dimension}."
        )
    document, query = own.number("doc_maxlen", 220), own.number("query_maxlen", 32)
    mask = own.flag("mask_punctuation", True)
    return Settings(
        document,
        query,
        own.text("doc_token_id", "[unused1]"),
        own.text("query_token_id", "[unused0]"),
        Setting(True, "Stanford ColBERT's definition"),
        own.flag("attend_to_mask_tokens", False),
        Setting(_punctuation(tokenizer) if mask.value else (), mask.source),
        backbone_window(checkpoint.backbone),
        _told(document),
        _told(query),
    )


def _plain(checkpoint: Checkpoint, _: Tokenizer) -> Settings:
    files = sorted(checkpoint.backbone.glob("sentence_*_config.json"))
    own = _Source(files[0] if files else checkpoint.backbone / "sentence_bert_config.json", _PLAIN)
    window = backbone_window(checkpoint.backbone)
    length = own.number("max_seq_length", window.value or 512)
    return plain_settings(length, length, checkpoint.backbone)


def plain_settings(document_length: Setting[int], query_length: Setting[int], backbone: Path) -> Settings:
    """Settings of a model that was not trained for late interaction: without markers and expansion."""
    return Settings(
        document_length,
        query_length,
        Setting("", _PLAIN),
        Setting("", _PLAIN),
        Setting(False, _PLAIN),
        Setting(False, _PLAIN),
        Setting(tuple(string.punctuation), _PYLATE),
        backbone_window(backbone),
        _told(document_length),
        _told(query_length),
    )


def _builtin(backbone: Path) -> Settings:
    """The embedded default's own settings; ``backbone`` is the folder of its package."""
    default = "default of builtin"
    trained: Setting[int | None] = Setting(256, "max_seq_length of all-MiniLM-L6-v2")
    return Settings(
        Setting(DOCUMENT_LENGTH, default),
        Setting(QUERY_LENGTH, default),
        Setting("", default),
        Setting("", default),
        Setting(False, default),
        Setting(False, default),
        Setting(tuple(string.punctuation), default),
        backbone_window(backbone),
        trained,
        trained,
    )


def backbone_window(directory: Path) -> Setting[int | None]:
    """The longest input of the backbone in a directory, as its config.json tells."""
    config = read_json(directory / _CONFIG)
    if not isinstance(config, dict):
        return Setting(None, f"{_CONFIG} does not tell")
    for key in ("max_position_embeddings", "n_positions"):
        size = config.get(key)
        if isinstance(size, int) and size > 0:
            if str(config.get("model_type")) in _COUNT_FROM_PADDING:
                padding = config.get("pad_token_id")
                size -= (padding if isinstance(padding, int) else 1) + 1
            return Setting(size, f"{_CONFIG}: {key}")
    return Setting(None, f"{_CONFIG} sets no limit")


def _told(length: Setting[int]) -> Setting[int | None]:
    """A length as the one that the model was trained for, if its checkpoint tells it."""
    named = not length.source.endswith("default") and length.source != _PLAIN
    return Setting(length.value if named else None, length.source)


def _punctuation(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Stanford's skiplist: of each mark of ASCII punctuation, the first token that the tokenizer makes of it."""
    first = (tokenizer.encode(mark, add_special_tokens=False).tokens[:1] for mark in string.punctuation)
    return tuple(dict.fromkeys(token for tokens in first for token in tokens))


def _read_tokenizer(file: Path) -> Tokenizer:
    try:
        return without_limits(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises nothing narrower
        raise EncoderError(f"Cannot read {file}: {error}.") from error


class _Source:
    """The settings in a file of the checkpoint, read with their types."""

    def __init__(self, file: Path, default: str) -> None:
        values = read_json(file)
        if values is not None and not isinstance(values, dict):
            raise EncoderError(f"{file} holds no settings.")
        self.file = file
        self._values = values or {}
        self._default = default

    def number(self, key: str, default: int) -> Setting[int]:
        """A count above 0."""
        found = self._found(key, default)
        if isinstance(found.value, bool) or not isinstance(found.value, int) or found.value < 1:
            raise wrong_value(self.file, key, found.value)
        return Setting(found.value, found.source)

    def text(self, key: str, default: str) -> Setting[str]:
        """A string."""
        found = self._found(key, default)
        if not isinstance(found.value, str):
            raise wrong_value(self.file, key, found.value)
        return Setting(found.value, found.source)

    def flag(self, key: str, default: bool) -> Setting[bool]:
        """True or false."""
        found = self._found(key, default)
        if not isinstance(found.value, bool):
            raise wrong_value(self.file, key, found.value)
        return Setting(found.value, found.source)

    def words(self, key: str, default: tuple[str, ...]) -> Setting[tuple[str, ...]]:
        """A list of strings."""
        found = self._found(key, list(default))
        if not isinstance(found.value, list) or not all(isinstance(word, str) for word in found.value):
            raise wrong_value(self.file, key, found.value)
        return Setting(tuple(found.value), found.source)

    def _found(self, key: str, default: object) -> Setting[object]:
        value = self._values.get(key)
        return Setting(default, self._default) if value is None else Setting(value, f"{self.file.name}: {key}")
