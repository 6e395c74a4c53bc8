"""From the ``[model]`` settings to an encoder: the built-in one, a directory, or a hub id. Never offline by accident:
only a hub id, which the user wrote down, may open a connection, and only while it is not in the hub's cache."""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from huggingface_hub import snapshot_download

from colbert_mcp.config import BUILTIN, ModelConfig
from colbert_mcp.encoder.base import Encoder
from colbert_mcp.encoder.checkpoint import Checkpoint, inspect
from colbert_mcp.encoder.remote_code import check_allowed, check_apart, check_pinned
from colbert_mcp.encoder.settings import Settings, resolve, resolve_builtin
from colbert_mcp.encoder.tokenizing import builtin_directory
from colbert_mcp.errors import EncoderError, ModelNotFoundError

# Weights and settings; no pickles, and code only where it may run.
WANTED = ["*.json", "*.safetensors", "*.metadata", "*.txt", "*.model"]
_CODE = ["*.py"]
_log = logging.getLogger(__name__)


def load_encoder(config: ModelConfig) -> Encoder:
    """Load the configured model; imports torch and pylate, which takes seconds.

    Raises EncoderError, or ModelNotFoundError where there is no such model.
    """
    # Read when torch loads: how many compiled kernels its CPU library keeps (1,024 by default, tens of kilobytes each).
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")
    if config.name == BUILTIN:
        from colbert_mcp.encoder.builtin import load_builtin  # torch and pylate load here, not with the module

        return load_builtin(config)
    checkpoint, settings = judged(config)
    from colbert_mcp.encoder.pylate_loading import load_checkpoint  # as above

    return load_checkpoint(checkpoint, settings, config)


def judged(config: ModelConfig) -> tuple[Checkpoint, Settings]:
    """The checkpoint that the settings name, all that it would run being allowed, and how it encodes.

    Loads nothing of it, and neither torch nor pylate. Raises EncoderError, or ModelNotFoundError.
    """
    checkpoint = inspect(locate(config))
    check_allowed(checkpoint.code, checkpoint.directory, config)
    if checkpoint.code.absent(checkpoint.directory) and config.directory is None:
        # It was downloaded before its code was allowed.
        checkpoint = inspect(snapshot(config.name, config.revision, [*WANTED, *_CODE], None) or checkpoint.directory)
    if checkpoint.code.repositories:
        _fetch_code(checkpoint, config)
        named = f"{checkpoint.digest} {config.code_revision}"
        checkpoint = replace(checkpoint, digest=hashlib.sha256(named.encode()).hexdigest())
    return checkpoint, resolve(checkpoint, config)


def settings_of(config: ModelConfig) -> Settings:
    """How the configured model encodes, without loading it. Raises EncoderError, or ModelNotFoundError."""
    if config.name == BUILTIN:
        return resolve_builtin(config)
    return judged(config)[1]


def check_outside(config: ModelConfig, roots: Sequence[bytes]) -> None:
    """Raise EncoderError where the configured model may run code and lies in one of the folders (real paths)."""
    if config.trust_remote_code and config.name != BUILTIN and roots:
        check_apart(locate(config), config, [Path(os.fsdecode(root)) for root in roots])


def locate(config: ModelConfig) -> Path:
    """The model's directory, downloaded if need be; raises ModelNotFoundError, or EncoderError for one not pinned."""
    if config.name == BUILTIN:
        return builtin_directory()
    if (given := config.directory) is not None:
        if os.path.isdir(given):  # noqa: PTH112  # false for what can be no path at all
            return given.resolve()
        raise ModelNotFoundError(f"There is no folder {given}; name the model's directory in [model] name.")
    check_pinned(config)
    wanted = [*WANTED, *(_CODE if config.trust_remote_code else [])]
    found = snapshot(config.name, config.revision, wanted, "*.safetensors")
    if found is None:
        raise ModelNotFoundError(
            f"There is no model {config.name}: it is no directory, not in the hub's cache, and the hub does not give "
            'it. Check [model] name and revision, or set name to "builtin".'
        )
    return found


def snapshot(name: str, revision: str, wanted: list[str], needed: str | None, *, offline: bool = False) -> Path | None:
    """A repository's directory in the hub's cache, else downloaded into it; None where neither has it.

    What is in the cache without a file like ``needed`` is incomplete; None asks the hub in any case. Where the hub does
    not answer, or may not be asked (``offline``), the cache is what there is.
    """
    partial = None
    for local_only in (True,) if offline else (True, False):
        try:
            found = snapshot_download(
                name, revision=revision or None, allow_patterns=wanted, local_files_only=local_only
            )
        except Exception as error:  # noqa: BLE001  # the hub's client passes on what its HTTP library raises
            _log.info("%s at %s: %s", name, revision or "its newest revision", error)
            continue
        if not local_only or (needed is not None and any(Path(found).rglob(needed))):
            return Path(found)
        partial = Path(found)
    return partial


def _fetch_code(checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Have the pinned code of other repositories in the hub's cache, where the loader looks for it."""
    for repository in checkpoint.code.repositories:
        if snapshot(repository, config.code_revision, _CODE, "*.py") is None:
            raise EncoderError(
                f"The code of the model in {checkpoint.directory} is in {repository} at {config.code_revision}, which "
                "is neither in the hub's cache nor given by the hub. Check [model] code_revision."
            )
