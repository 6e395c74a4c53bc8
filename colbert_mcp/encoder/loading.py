"""From the ``[model]`` settings to an encoder: the built-in one, a directory, or a hub id. Never offline by accident:
only a hub id, which the user wrote down, may open a connection, and only while it is not in the hub's cache."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder.base import Encoder
from colbert_mcp.encoder.checkpoint import inspect
from colbert_mcp.errors import ModelNotFoundError

# Weights and settings; no pickles, no code.
_WANTED = ["*.json", "*.safetensors", "*.metadata", "*.txt", "*.model"]


def load_encoder(config: ModelConfig) -> Encoder:
    """Load the configured model; imports torch and pylate, which takes seconds.

    Raises EncoderError, or ModelNotFoundError where there is no such model.
    """
    # Read when torch loads: how many compiled kernels its CPU library keeps (1,024 by default, tens of kilobytes each).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    if config.name == "builtin":
        from colbert_mcp.encoder.builtin import load_builtin  # torch and pylate load here, not with the module

        return load_builtin(config)
    from colbert_mcp.encoder.colbert import load_checkpoint  # as above

    return load_checkpoint(inspect(_directory(config)), config)


def _directory(config: ModelConfig) -> Path:
    given = Path(config.name).expanduser()
    if given.is_dir():
        return given.resolve()
    for local_only in (True, False):
        try:
            found = snapshot_download(
                config.name, revision=config.revision or None, allow_patterns=_WANTED, local_files_only=local_only
            )
        except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError, OSError):
            continue
        return Path(found)
    raise ModelNotFoundError(
        f"There is no model {config.name}: it is no directory, not in the hub's cache, and the hub does not give it. "
        'Check [model] name, or set it to "builtin".'
    )
