"""Writes PyLate directories: from a Stanford ColBERT checkpoint, or from a plain backbone with a fixed head over it.

What could not be read is not written: settings that are not known, tensors that belong to neither backbone nor
projection, and nothing over what is there. No code of a checkpoint runs for it.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from colbert_mcp.config import BUILTIN, ModelConfig, expanded
from colbert_mcp.encoder.checkpoint import LINEAR, SETTINGS, Checkpoint, inspect, plain_backbone
from colbert_mcp.encoder.heads import SEED, orthogonal_head
from colbert_mcp.encoder.json_files import read_json
from colbert_mcp.encoder.loading import locate
from colbert_mcp.encoder.pylate_loading import pylate_arguments
from colbert_mcp.encoder.remote_code import remote_code
from colbert_mcp.encoder.settings import METADATA, Setting, Settings, backbone_window, plain_settings, resolve
from colbert_mcp.encoder.tokenizing import DOCUMENT_LENGTH, QUERY_LENGTH
from colbert_mcp.encoder.weights import WEIGHTS, check_sizes, weights_file
from colbert_mcp.errors import EncoderError
from colbert_mcp.results import ModelWritten

_COPIED = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.model", "*.py")
# What artifact.metadata may hold: how texts are encoded, and what has no part in it.
_ENCODING = frozenset(
    "attend_to_mask_tokens dim doc_maxlen doc_token doc_token_id interaction mask_punctuation query_maxlen query_token "
    "query_token_id similarity".split()
)
_ASIDE = frozenset(
    "accumsteps amp avoid_fork_if_possible bsize centroid_score_threshold checkpoint clustering_mode collection "
    "configs distillation_alpha experiment gpus ignore_scores index_bsize index_name index_path index_root kldiv_loss "
    "kldiv_weight kmeans_niters load_index_with_mmap lr marginmse_loss marginmse_weight maxsteps meta model_name name "
    "nbits ncells ndocs nprobe nranks nway overwrite pool_factor protected_tokens queries rank relative reranker "
    "resume root save_every schedule_free total_visible_gpus triples use_ib_negatives warmup warmup_bert".split()
)


def export(config: ModelConfig, output: Path) -> ModelWritten:
    """Write the Stanford ColBERT checkpoint that ``config`` names as a PyLate directory, with its own settings.

    Raises EncoderError for what cannot be read, is not in that layout, or is there already.
    """
    if config.name == BUILTIN:
        raise EncoderError(f"{BUILTIN} comes with this program: there is nothing to export.")
    checkpoint = inspect(locate(config))
    if checkpoint.layout != "stanford":
        raise EncoderError(f"The model in {checkpoint.directory} has modules.json; it needs no export.")
    target = _target(output, checkpoint.directory)
    _check_metadata(checkpoint.directory)
    _check_code(checkpoint)
    settings = resolve(checkpoint, ModelConfig(name=config.name))
    backbone, linear = _split(checkpoint.directory)

    def fill(folder: Path) -> None:
        save_file(backbone, folder / WEIGHTS, {"format": "pt"})
        own = read_json(checkpoint.directory / "config.json")
        _write_json(folder / "config.json", {k: v for k, v in _mapping(own).items() if k != "architectures"})
        _copy(checkpoint.directory, folder)
        _write_dense(folder / "1_Dense", checkpoint.hidden, checkpoint.dimension)
        save_file({LINEAR: linear}, folder / "1_Dense" / WEIGHTS)
        _write_settings(folder, settings)

    code = [f"Its code still runs only if allowed: {r}" for r in checkpoint.code.references]
    return _written(target, fill, [f"It was written from {checkpoint.directory}.", *code])


def make_head(source: Path, output: Path, dimension: int) -> ModelWritten:
    """Write a plain backbone as a PyLate directory under a fixed orthogonal head of ``dimension`` rows.

    Raises EncoderError for what is no plain backbone, for a dimension that does not fit, or what is there already.
    """
    directory = Path(os.path.realpath(expanded(source)))
    if str(source) == BUILTIN and not directory.exists():
        raise EncoderError(f"{BUILTIN} has its head already; name the directory of a transformer without a projection.")
    backbone = plain_backbone(directory)
    target = _target(output, directory)
    if remote_code(directory, [backbone], []):
        raise EncoderError(f"The model in {directory} brings code of its own; a head is made for none such.")
    config = _mapping(read_json(backbone / "config.json"))
    hidden = next((v for v in map(config.get, ("hidden_size", "d_model", "dim")) if isinstance(v, int)), 0)
    if not 0 < dimension <= hidden:
        raise EncoderError(f"--dimension is {dimension}; the backbone has {hidden}, and a head at most as many.")
    weights = weights_file(backbone)
    check_sizes(config, weights)
    window = backbone_window(backbone).value or DOCUMENT_LENGTH
    settings = plain_settings(
        Setting(min(DOCUMENT_LENGTH, window), ""), Setting(min(QUERY_LENGTH, window), ""), backbone
    )

    def fill(folder: Path) -> None:
        shutil.copyfile(weights, folder / WEIGHTS)
        shutil.copyfile(backbone / "config.json", folder / "config.json")
        _copy(backbone, folder)
        _write_dense(folder / "1_Dense", hidden, dimension)
        save_arrays({LINEAR: orthogonal_head(hidden, dimension)}, folder / "1_Dense" / WEIGHTS)
        _write_settings(folder, settings)

    note = f"The head is fixed (orthogonal, seed {SEED}), not trained: a trained ColBERT model ranks better."
    return _written(target, fill, [note])


def _check_metadata(directory: Path) -> None:
    metadata = read_json(directory / METADATA)
    if not isinstance(metadata, dict):
        raise EncoderError(f"{directory} has no {METADATA}: its markers and lengths are not known. Nothing is written.")
    unknown = sorted(metadata.keys() - _ENCODING - _ASIDE)
    if unknown:
        raise EncoderError(
            f"{directory / METADATA} sets {', '.join(unknown)}, which may change how texts are encoded. "
            "Nothing is written."
        )


def _check_code(checkpoint: Checkpoint) -> None:
    """Raise EncoderError where code that the checkpoint names as its own is not beside it."""
    absent = checkpoint.code.absent(checkpoint.directory)
    if absent:
        raise EncoderError(
            f"{checkpoint.directory} does not hold the code that it names ({absent[0]}); for a hub id, set [model] "
            "trust_remote_code and revision, so that it is downloaded. Nothing is written."
        )


def _split(directory: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """A Stanford checkpoint's backbone, without the prefix that all of it has, and its projection."""
    try:
        tensors = load_file(weights_file(directory))
    except SafetensorError as error:
        raise EncoderError(f"Cannot read {directory / WEIGHTS}: {error}.") from error
    linear = tensors.pop(LINEAR)
    stray = [name for name in tensors if name.startswith("linear.")]
    prefixes = {name.partition(".")[0] for name in tensors if name not in stray}
    if stray or len(prefixes) != 1:
        listed = ", ".join(stray or sorted(prefixes))
        raise EncoderError(f"{directory / WEIGHTS} holds more than a backbone and {LINEAR} ({listed}). Not written.")
    prefix = f"{prefixes.pop()}."
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}, linear


def _copy(source: Path, folder: Path) -> None:
    for pattern in _COPIED:
        for file in sorted(source.glob(pattern)):
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def _write_dense(folder: Path, hidden: int, dimension: int) -> None:
    folder.mkdir()
    settings = {
        "in_features": hidden,
        "out_features": dimension,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
        "use_residual": False,
    }
    _write_json(folder / "config.json", settings)


def _write_settings(folder: Path, settings: Settings) -> None:
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2), encoding="utf-8")
    longest = max(settings.document_length.value, settings.query_length.value)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})
    values = {"model_type": "ColBERT", "similarity_fn_name": "MaxSim", **pylate_arguments(settings)}
    _write_json(folder / SETTINGS, values)


def _target(output: Path, model: Path) -> Path:
    """The real path of what is to be written; raises EncoderError where something is, or in the model's directory."""
    given = expanded(output)
    target = Path(os.path.realpath(given))
    if os.path.lexists(given) or os.path.lexists(target):
        raise EncoderError(f"{given} is there already; nothing is written over it. Choose another directory.")
    if target.is_relative_to(model.resolve()):
        raise EncoderError(f"{target} lies in the model's own directory, which would change it. Choose another.")
    return target


def _written(target: Path, fill: Callable[[Path], None], notes: list[str]) -> ModelWritten:
    """Fill a folder beside ``target`` and put it there once it is whole."""
    new = [folder for folder in target.parents if not os.path.lexists(folder)]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".colbert-mcp-") as scratch:
            folder = Path(scratch) / "model"
            folder.mkdir()
            fill(folder)
            files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            usual = (folder / "modules.json").stat().st_mode
            for name in files:
                (folder / name).chmod(usual)  # safetensors leaves its files to their owner alone
            folder.rename(target)
    except (OSError, SafetensorError) as error:
        for folder in new:
            with suppress(OSError):  # not made, or not empty any more
                folder.rmdir()
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise EncoderError(f"Cannot write {target} ({reason}); nothing is left there.") from error
    return ModelWritten(directory=str(target), files=files, notes=notes)


def _write_json(file: Path, values: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
