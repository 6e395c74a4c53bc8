"""The files that hold a checkpoint's weights: only safetensors, and of those only the header is believed.

Knows files and tensor names; loads neither torch nor pylate.
"""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from colbert_mcp.encoder.json_files import wrong_value
from colbert_mcp.errors import EncoderError

WEIGHTS = "model.safetensors"
_PICKLE = "pytorch_model.bin"
_CONVERSION = (
    "import torch; from safetensors.torch import save_file; "
    "tensors = torch.load('pytorch_model.bin', map_location='cpu', weights_only=True); "
    "save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, 'model.safetensors', "
    "{'format': 'pt'})"
)
_LAYER = re.compile(r"(?P<stack>.*?)\.(?P<number>\d+)\.")
_LARGEST_HEADER = 100_000_000
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "n_embd", "dim")
_COUNTS = (*_LAYERS, *_SIZES, "num_attention_heads", "n_head", "n_heads")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation")
_MOST_LAYERS = 1_000
_MOST_POSITIONS = 2**20


def weights_file(directory: Path) -> Path:
    """The safetensors file of a directory; raises EncoderError with what to do where there is none."""
    weights = directory / WEIGHTS
    if weights.is_file():
        return weights
    if (directory / _PICKLE).is_file():
        raise EncoderError(
            f"{directory} has {_PICKLE}, a pickle, which can run code and is not read, and no {WEIGHTS}. Convert it: "
            f'cd {shlex.quote(str(directory))} && python -c "{_CONVERSION}"'
        )
    if list(directory.glob("model-*.safetensors")):
        raise EncoderError(f"The weights in {directory} are in several files; save the model as one {WEIGHTS}.")
    raise EncoderError(f"{directory} has no {WEIGHTS}; other weight formats can run code and are not read.")


def tensor_shapes(weights: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name, from a safetensors header (an 8-byte little-endian length, then JSON)."""
    broken = EncoderError(f"{weights} is not a safetensors file.")
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(weights.stat().st_size, _LARGEST_HEADER):
                raise broken
            header = file.read(length)
        entries = json.loads(header)
        return {name: tuple(map(int, entry["shape"])) for name, entry in entries.items() if name != "__metadata__"}
    except OSError as error:
        raise EncoderError(f"Cannot read {weights}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise broken from None


def check_sizes(config: Mapping[str, object], weights: Path) -> None:
    """Raise EncoderError where a backbone's config.json sets a size or an activation to what none is, or asks for far
    more than its weights hold.

    What they lack would be made up while loading, in memory that a stranger's number decides. Lists are the loader's
    to judge: some models have a size for each layer.
    """
    file = weights.parent / "config.json"
    for key in _COUNTS:
        value = config.get(key)
        if isinstance(value, (bool, float, str)) or (isinstance(value, int) and value < 1):
            raise wrong_value(file, key, value)
    for key in _ACTIVATIONS:
        if not isinstance(value := config.get(key), str | None):
            raise wrong_value(file, key, value)
    largest = max((size for shape in tensor_shapes(weights).values() for size in shape), default=0)
    # A layer that is gated has twice its size in one tensor, and one tensor may hold several.
    bounds = dict.fromkeys((*_SIZES, "num_labels"), 4 * largest)
    bounds |= dict.fromkeys(_LAYERS, _MOST_LAYERS)
    bounds |= dict.fromkeys(("max_position_embeddings", "n_positions"), max(largest, _MOST_POSITIONS))
    for key, most in bounds.items():
        value = config.get(key)
        if isinstance(value, int) and value > most:
            raise EncoderError(f"{file} sets {key} to {value}, more than {WEIGHTS} can hold.")


def unmatched(parameters: Iterable[str], prefix: str, names: Iterable[str]) -> list[str]:
    """Which parameters of a backbone have no tensor of their name in its checkpoint, under ``prefix`` or none.

    The pooler is left out: no token embedding depends on it.
    """
    there = set(names)
    return [
        parameter
        for parameter in parameters
        if not is_pooler(parameter) and not {parameter, f"{prefix}.{parameter}"} & there
    ]


def surplus(parameters: Iterable[str], prefix: str, names: Iterable[str]) -> list[str]:
    """Which tensors of a checkpoint, under ``prefix`` or none, are of layers that its backbone was built without.

    A stack of layers is known by what stands before the number; heads and buffers have none of the backbone's stacks.
    """
    built: dict[str, set[str]] = {}
    for parameter in parameters:
        if match := _LAYER.match(parameter.removeprefix(f"{prefix}.")):
            built.setdefault(match["stack"], set()).add(match["number"])
    return [
        name
        for name in sorted(names)
        if (match := _LAYER.match(name.removeprefix(f"{prefix}.")))
        and match["number"] not in built.get(match["stack"], {match["number"]})
    ]


def check_all_layers(parameters: Iterable[str], prefix: str, directory: Path, what: str) -> None:
    """Raise EncoderError where the weights in a directory hold layers that its backbone was built without."""
    left_out = surplus(parameters, prefix, tensor_shapes(weights_file(directory)))
    if left_out:
        raise EncoderError(
            f"The config.json of the {what} in {directory} asks for fewer layers than {WEIGHTS} holds: "
            f"{len(left_out)} tensors (such as {left_out[0]}) would be left out."
        )


def check_vocabulary(tokenizer: Any, model: Any, directory: Path, what: str) -> None:
    """Raise EncoderError where the tokenizer has ids that the embedding in a directory's weights has no row for.

    ``model`` is what transformers loaded from there; rows that were added to it since would be random.
    """
    rows = model.get_input_embeddings().weight
    shapes = tensor_shapes(weights_file(directory))
    name = next((name for name, parameter in model.named_parameters() if parameter is rows), "")
    stored = shapes.get(name) or shapes.get(f"{model.base_model_prefix}.{name}") or rows.shape
    least = min(stored[0], rows.shape[0])
    token, largest = max(tokenizer.get_vocab().items(), key=lambda entry: entry[1], default=("", -1))
    if largest >= least:
        raise EncoderError(
            f"The tokenizer of the {what} in {directory} has the token {token[:80]!r} with the id {largest}, and the "
            f"embedding has {least} rows."
        )


def is_pooler(parameter: str) -> bool:
    """Whether a parameter belongs to the pooler of a sentence, which token embeddings do without."""
    return parameter.startswith("pooler.")
