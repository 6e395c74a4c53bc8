"""Loads a judged checkpoint with PyLate's own loader, and tries it: much of what a configuration says is used only when
something is encoded. Knows files and PyLate; nothing of how texts become batches.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from pylate.models import ColBERT
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.checkpoint import Checkpoint
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.hardware import choose_device
from colbert_mcp.encoder.settings import Settings
from colbert_mcp.encoder.weights import (
    check_all_layers,
    check_vocabulary,
    is_pooler,
    tensor_shapes,
    unmatched,
    weights_file,
)
from colbert_mcp.errors import EncoderError

_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, AttributeError, SafetensorError)
_TRIAL = "is"  # fits into the least document_length, whatever the tokenizer makes of it
_LONGEST = 300


def load_checkpoint(checkpoint: Checkpoint, settings: Settings, config: ModelConfig) -> ColBERTEncoder:
    """Load a judged PyLate, Sentence Transformers or Stanford ColBERT checkpoint through PyLate's own loader.

    Its code runs if it has any: the caller has seen to it that it may. Raises EncoderError.
    """
    silence_loading()
    try:
        encoder = _loaded(checkpoint, settings, config)
        _try(encoder, checkpoint.directory)
    except EncoderError:
        raise
    except Exception as error:  # a stranger's values reach every line of the loader and of the model
        foreign = checkpoint.code and not isinstance(error, _LOADING_ERRORS)
        failed = "The code of the model in {} failed" if foreign else "Cannot load the model in {}"
        raise EncoderError(f"{failed.format(checkpoint.directory)}: {brief(error)}") from error
    return encoder


def _loaded(checkpoint: Checkpoint, settings: Settings, config: ModelConfig) -> ColBERTEncoder:
    trusted = bool(checkpoint.code)
    foreign = {"code_revision": config.code_revision} if checkpoint.code.repositories else {}
    model = ColBERT(
        str(checkpoint.directory),
        device=choose_device(config.device),
        local_files_only=True,
        trust_remote_code=trusted,
        model_kwargs={**foreign, "use_safetensors": True},
        tokenizer_kwargs={**foreign},
        config_kwargs={**foreign},
        **pylate_arguments(settings),
    )
    if len(model) != checkpoint.modules:
        raise EncoderError(f"The model in {checkpoint.directory} has modules that PyLate leaves out.")
    if not checkpoint.code:
        _check_backbone(model[0].auto_model, checkpoint.backbone)
        check_vocabulary(model.tokenizer, model[0].auto_model, checkpoint.backbone, "model")
    return ColBERTEncoder(
        model,
        config,
        name=config.name,
        digest=checkpoint.digest,
        settings=settings,
        dense_before_projection=False,
        own_code=trusted,
    )


def _try(encoder: ColBERTEncoder, directory: Path) -> None:
    """Encode a little; raises EncoderError, or what fails."""
    query = encoder.encode_query(_TRIAL)
    (document,) = encoder.encode_documents(encoder.tokenize([_TRIAL]))
    found = (query.token_embeddings, query.dense, document.token_embeddings, document.dense)
    if not all(np.isfinite(array).all() for array in found):
        raise EncoderError(f"The model in {directory} gives no numbers in {encoder.dtype}; set [model] dtype.")


def pylate_arguments(settings: Settings) -> dict[str, Any]:
    """Settings in PyLate's words. All are given, so that nothing is decided elsewhere."""
    return {
        "query_prefix": settings.query_prefix.value,
        "document_prefix": settings.document_prefix.value,
        "query_length": settings.query_length.value,
        "document_length": settings.document_length.value,
        "do_query_expansion": settings.do_query_expansion.value,
        "attend_to_expansion_tokens": settings.attend_to_expansion_tokens.value,
        "skiplist_words": list(settings.skiplist_words.value),
    }


def _check_backbone(backbone: Any, directory: Path) -> None:
    """Raise EncoderError where a part of the backbone came from no file, random in silence, or was left out."""
    names = [name for name, _ in backbone.named_parameters()]
    check_all_layers(names, str(backbone.base_model_prefix), directory, "model")
    if not unmatched(names, str(backbone.base_model_prefix), tensor_shapes(weights_file(directory))):
        return
    # Names may have been translated while loading: the loader itself knows.
    _, found = type(backbone).from_pretrained(str(directory), local_files_only=True, output_loading_info=True)
    random = [name for name in sorted(found["missing_keys"]) if not is_pooler(name)]
    if random:
        raise EncoderError(
            f"The weights in {directory} lack {len(random)} tensors of its backbone (such as {random[0]}), which would "
            "be random."
        )


def brief(error: Exception) -> str:
    """What an error of a library says, on one line and of a bounded length: some show whole models."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]


def silence_loading() -> None:
    """No progress bars and no reports of unused tensors on the terminal; errors still show."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for name in ("pylate", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
