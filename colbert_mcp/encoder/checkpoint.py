"""Judges a model directory before anything in it is loaded: its layout, and that nothing in it runs code.

A checkpoint is a stranger's folder. Only safetensors weights are read (no pickle), module and activation names must be
on a list (they would be imported), remote code is refused, and a checkpoint without a projection is refused, because
PyLate would put a random one in its place. Knows files only; loads neither torch nor pylate.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from colbert_mcp.errors import EncoderError, ModelNotFoundError

_TRANSFORMERS = frozenset(
    {"sentence_transformers.models.Transformer", "sentence_transformers.models.Transformer.Transformer"}
)
_PROJECTIONS = frozenset(
    {
        "pylate.models.Dense.Dense",
        "pylate.models.Dense",
        "sentence_transformers.models.Dense",
        "sentence_transformers.models.Dense.Dense",
    }
)
_IGNORED = frozenset(
    {
        "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Pooling.Pooling",
        "sentence_transformers.models.Normalize",
        "sentence_transformers.models.Normalize.Normalize",
    }
)
_ACTIVATIONS = "torch.nn.modules."


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that may be loaded. ``digest`` covers its weights, projection and tokenizer."""

    directory: Path
    layout: Literal["pylate", "stanford"]
    digest: str


def inspect(directory: Path) -> Checkpoint:
    """Judge a model directory; raises EncoderError with what is wrong, or ModelNotFoundError if it holds no model."""
    config = _json(directory / "config.json")
    if not isinstance(config, dict):
        raise ModelNotFoundError(f"{directory} holds no model: it has no config.json.")
    if "auto_map" in config:
        raise EncoderError(f"The model in {directory} brings code of its own, which is not run.")
    modules = _json(directory / "modules.json")
    if isinstance(modules, list):
        weights = _pylate_weights(directory, modules)
        return Checkpoint(directory, "pylate", file_digest(*weights, _tokenizer(directory)))
    if config.get("architectures", [None])[:1] == ["HF_ColBERT"]:
        weights = [_weights(directory)]
        if "linear.weight" not in _tensor_names(weights[0]):
            raise _no_projection(directory)
        return Checkpoint(directory, "stanford", file_digest(*weights, _tokenizer(directory)))
    raise _no_projection(directory)


def file_digest(*files: Path) -> str:
    """SHA-256 over the contents of the files, in the order given."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _pylate_weights(directory: Path, modules: list[object]) -> list[Path]:
    found: list[Path] = []
    projections = 0
    for module in modules:
        if not isinstance(module, dict):
            raise EncoderError(f"{directory / 'modules.json'} is not a list of modules.")
        kind, path = str(module.get("type")), _inside(directory, str(module.get("path", "")))
        if kind in _TRANSFORMERS:
            found.append(_weights(path))
        elif kind in _PROJECTIONS:
            projections += 1
            _check_activation(path)
            found += [path / "config.json", _weights(path)]
        elif kind not in _IGNORED:
            raise EncoderError(f"The model in {directory} names the module {kind}, which is not one that is loaded.")
    if not projections:
        raise _no_projection(directory)
    settings = directory / "config_sentence_transformers.json"
    return [*found, settings] if settings.is_file() else found


def _inside(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.resolve().is_relative_to(directory.resolve()):
        raise EncoderError(f"The model in {directory} names a module outside of its own directory.")
    return path


def _check_activation(path: Path) -> None:
    config = _json(path / "config.json")
    activation = config.get("activation_function") if isinstance(config, dict) else None
    if not isinstance(activation, str) or not activation.startswith(_ACTIVATIONS):
        raise EncoderError(f"The projection in {path} names an activation that is not one of torch's own.")


def _weights(directory: Path) -> Path:
    weights = directory / "model.safetensors"
    if not weights.is_file():
        raise EncoderError(f"{directory} has no model.safetensors; other weight formats can run code and are not read.")
    return weights


def _tokenizer(directory: Path) -> Path:
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise EncoderError(f"{directory} has no tokenizer.json; without it tokens cannot be traced to characters.")
    return file


def _tensor_names(weights: Path) -> set[str]:
    """The names in a safetensors header (an 8-byte little-endian length, then JSON), without reading a tensor."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(weights.stat().st_size, 100_000_000):
            raise EncoderError(f"{weights} is not a safetensors file.")
        header = file.read(length)
    try:
        return set(json.loads(header))
    except ValueError:
        raise EncoderError(f"{weights} is not a safetensors file.") from None


def _json(file: Path) -> object:
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise EncoderError(f"Cannot read {file}: {error}.") from error


def _no_projection(directory: Path) -> EncoderError:
    return EncoderError(
        f"The model in {directory} has no ColBERT projection, so its token embeddings were never trained to be "
        "compared; name a ColBERT model (PyLate or Stanford layout) in [model] name."
    )
