"""What a checkpoint's embeddings depend on, as one SHA-256: files byte by byte, configurations by what they compute.

A configuration holds much that computes nothing (who wrote it, and how it was trained). What is not known to be such
counts, so that a key of a model that nobody has thought of changes the digest. Knows files only.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from colbert_mcp.encoder.json_files import read_json

# Keys of config.json and tokenizer_config.json on which no token embedding depends.
_IDLE = frozenset(
    "_commit_hash _name_or_path architectures attn_implementation bos_token_id chat_template classifier_activation "
    "classifier_bias classifier_dropout classifier_pooling clean_up_tokenization_spaces cls_token_id dtype "
    "eos_token_id gradient_checkpointing id2label initializer_cutoff_factor initializer_range label2id max_length "
    "model_max_length name_or_path output_attentions output_hidden_states pad_to_multiple_of pad_token_type_id "
    "padding padding_side problem_type processor_class return_dict sep_token_id stride torch_dtype "
    "transformers_version truncation truncation_side truncation_strategy use_cache".split()
)


def file_digest(*files: Path) -> str:
    """SHA-256 over the contents of the files, in the order given."""
    return checkpoint_digest(files, ())


def checkpoint_digest(files: Iterable[Path], configurations: Iterable[Path]) -> str:
    """SHA-256 over the contents of ``files`` and over what ``configurations`` compute (JSON; those that are there).

    Raises EncoderError for a configuration that is no JSON.
    """
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    for file in configurations:
        told = json.dumps(_telling(read_json(file)), sort_keys=True)
        total.update(hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest())
    return total.hexdigest()


def _telling(values: object) -> object:
    """The entries of a configuration that may change an embedding; dropout is none when a model is only run."""
    if not isinstance(values, dict):
        return None
    idle = {key for key in values if key in _IDLE or "dropout" in key or key.endswith("_pdrop")}
    return {key: value for key, value in values.items() if key not in idle and value is not None}
