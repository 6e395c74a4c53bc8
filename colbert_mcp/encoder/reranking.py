"""From the ``[search]`` settings to a reranker: a cross-encoder in a directory or in the hub's cache, judged before
anything of it is loaded.

It is a stranger's folder, as a checkpoint of the encoder is: only safetensors weights are read, no code of its own ever
runs, its activation must be on a list, and it must have been trained to give a pair of texts one score: the head that a
plain transformer lacks would be made up while loading. Never downloads. Knows files only, and loads torch when asked
for the model itself.
"""

import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from colbert_mcp.config import ModelConfig, SearchConfig
from colbert_mcp.encoder.base import Reranker
from colbert_mcp.encoder.checkpoint import SETTINGS, TOKENIZER_SETTINGS, backbone_config, check_kinds, tokenizer_file
from colbert_mcp.encoder.json_files import read_json
from colbert_mcp.encoder.loading import WANTED, snapshot
from colbert_mcp.encoder.remote_code import remote_code
from colbert_mcp.encoder.settings import backbone_window
from colbert_mcp.encoder.weights import check_sizes, weights_file
from colbert_mcp.errors import EncoderError, ModelNotFoundError

Activation: TypeAlias = Literal["Sigmoid", "Identity"]
_ACTIVATIONS: tuple[Activation, ...] = ("Sigmoid", "Identity")
_CLASSIFIER = "ForSequenceClassification"
_LABELS = 2  # of a configuration that does not tell


@dataclass(frozen=True, slots=True)
class CrossEncoderCheckpoint:
    """A cross-encoder that may be loaded; ``window`` counts the tokens of a pair with its special tokens."""

    directory: Path
    activation: Activation
    window: int


class LazyReranker:
    """The reranker that the settings name, loaded once, when it is first asked for. Safe to share among threads."""

    def __init__(self, search: SearchConfig, model: ModelConfig) -> None:
        self._search, self._model = search, model
        self._loaded: Reranker | None = None
        self._lock = threading.Lock()

    def get(self) -> Reranker | None:
        """The reranker, None where the settings name none; raises EncoderError, or ModelNotFoundError."""
        with self._lock:
            if self._loaded is None and self._search.reranker:
                self._loaded = load_reranker(self._search, self._model)
            return self._loaded


def load_reranker(search: SearchConfig, model: ModelConfig) -> Reranker:
    """Load the reranker that the settings name; imports torch. Raises EncoderError, or ModelNotFoundError."""
    checkpoint = judged_reranker(search)
    from colbert_mcp.encoder.cross_encoder import load_cross_encoder  # torch loads here, not with the module

    return load_cross_encoder(checkpoint, search.reranker, model)


def judged_reranker(search: SearchConfig) -> CrossEncoderCheckpoint:
    """The cross-encoder that the settings name, nothing of it being loaded; raises EncoderError, or
    ModelNotFoundError.
    """
    directory = _located(search)
    try:
        return _judged(directory)
    except EncoderError as error:
        raise type(error)(f"The reranker ([search] reranker) cannot be used: {error}") from error


def _located(search: SearchConfig) -> Path:
    if (given := search.reranker_directory) is not None:
        if os.path.isdir(given):  # noqa: PTH112  # false for what can be no path at all
            return given.resolve()
        raise ModelNotFoundError(
            f"There is no folder {given}; name the cross-encoder's directory in [search] reranker."
        )
    found = snapshot(search.reranker, search.reranker_revision, WANTED, "*.safetensors", offline=True)
    if found is None:
        named = search.reranker + (f" at {search.reranker_revision}" if search.reranker_revision else "")
        raise ModelNotFoundError(
            f"There is no reranker {named}: it is no directory, and not in the hub's cache. Check [search] reranker "
            f'and reranker_revision, set reranker to "", or download it: hf download {search.reranker}'
        )
    return found


def _judged(directory: Path) -> CrossEncoderCheckpoint:
    config = backbone_config(directory)
    check_kinds(directory)
    code = remote_code(directory, [directory], _foreign_modules(directory))
    if code:
        raise EncoderError(f"{directory} brings code of its own ({code.references[0]}), which is never run.")
    architectures = config.get("architectures")
    told = architectures if isinstance(architectures, list) else []
    if not any(str(name).endswith(_CLASSIFIER) for name in told[:1]):
        named = f"its config.json names {told[0]}" if told else "its config.json names no architecture"
        raise EncoderError(
            f"{directory} is no cross-encoder ({named}): it was not trained to score a text for a query, and a head "
            "for that would be random."
        )
    if (labels := _labels(config)) != 1:
        raise EncoderError(f"{directory} gives {labels} scores to a pair of texts; a reranker gives one.")
    check_sizes(config, weights_file(directory))
    tokenizer_file(directory)
    return CrossEncoderCheckpoint(directory, _activation(directory, config), _window(directory))


def _foreign_modules(directory: Path) -> list[str]:
    """What modules.json names beside a transformer in the directory itself, which is all of a cross-encoder."""
    modules = read_json(directory / "modules.json")
    if modules is None:
        return []
    found = [module if isinstance(module, dict) else {} for module in modules] if isinstance(modules, list) else [{}]
    kinds = [str(module.get("type")) for module in found]
    if len(found) != 1 or found[0].get("path") or not kinds[0].startswith("sentence_transformers."):
        raise EncoderError(f"{directory / 'modules.json'} names more than a transformer: {', '.join(kinds)}.")
    return [] if kinds[0].endswith(".Transformer") else kinds


def _labels(config: dict[str, object]) -> int:
    names, number = config.get("id2label"), config.get("num_labels")
    return len(names) if isinstance(names, dict) else number if isinstance(number, int) else _LABELS


def _activation(directory: Path, config: dict[str, object]) -> Activation:
    """What the checkpoint lets its score go through; the library imports whatever name stands there."""
    name = next(_named_activations(directory, config), "torch.nn.Sigmoid")
    for known in _ACTIVATIONS:
        if name.startswith("torch.nn.") and name.rpartition(".")[2] == known:
            return known
    raise EncoderError(f"{directory} names the activation {name}; only torch's Sigmoid and Identity are computed.")


def _named_activations(directory: Path, config: dict[str, object]) -> Iterator[str]:
    """The names of activations in the order in which Sentence Transformers looks for one."""
    own, settings = config.get("sentence_transformers"), read_json(directory / SETTINGS)
    for place, key in (
        (settings, "activation_fn"),
        (own, "activation_fn"),
        (config, "sbert_ce_default_activation_function"),
    ):
        name = place.get(key) if isinstance(place, dict) else None
        if name is not None:
            yield str(name)


def _window(directory: Path) -> int:
    """The longest input: the tokenizer's own limit or, if that is less, the backbone's."""
    settings = read_json(directory / TOKENIZER_SETTINGS)
    limits = [
        settings.get("model_max_length") if isinstance(settings, dict) else None,
        backbone_window(directory).value,
    ]
    # What is not limited has a number like 1e30 there.
    return min([int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < sys.maxsize] or [512])
