"""Miniature models on disk, in the layouts that users bring: two layers, 32 dimensions, a tokenizer of their own."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

HIDDEN, DIMENSION, WINDOW = 32, 16, 128
_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
_LETTERS = [chr(code) for code in range(33, 127)]
_WORDS = "the of and to in is that for it with as on be at by this from are or an not mill bread water field".split()


def _tokenizer() -> PreTrainedTokenizerFast:
    pieces = [*_SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *_WORDS]
    tokenizer = Tokenizer(WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


def _backbone(seed: int, window: int = WINDOW) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(_SPECIAL) + 2 * len(_LETTERS) + len(_WORDS),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=window,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def _projection(seed: int) -> torch.Tensor:
    return torch.randn(DIMENSION, HIDDEN, generator=torch.Generator().manual_seed(seed + 1))


def backbone_only(directory: Path, seed: int = 0, window: int = WINDOW) -> Path:
    """A plain transformer without a projection."""
    directory.mkdir(exist_ok=True)
    _backbone(seed, window).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
    return directory


def cross_encoder(directory: Path, seed: int = 0, window: int = WINDOW, labels: int = 1) -> Path:
    """A Sentence Transformers cross-encoder, with weights so large that its scores differ."""
    directory.mkdir(exist_ok=True)
    torch.manual_seed(seed)
    config = _backbone(seed, window).config
    config.num_labels, config.initializer_range = labels, 0.3
    BertForSequenceClassification(config).save_pretrained(directory)
    tokenizer = _tokenizer()
    tokenizer.model_max_length = window
    tokenizer.save_pretrained(directory)
    return directory


def pylate(directory: Path, seed: int = 0, window: int = WINDOW) -> Path:
    """A PyLate directory: the backbone, ``1_Dense/`` and the two configuration files."""
    backbone_only(directory, seed, window)
    dense = directory / "1_Dense"
    dense.mkdir()
    settings = {
        "in_features": HIDDEN,
        "out_features": DIMENSION,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
        "use_residual": False,
    }
    (dense / "config.json").write_text(json.dumps(settings))
    save_file({"linear.weight": _projection(seed)}, dense / "model.safetensors")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": False}))
    model = {
        "model_type": "ColBERT",
        "query_prefix": "[unused0]",
        "document_prefix": "[unused1]",
        "query_length": 16,
        "document_length": 64,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": False,
        "skiplist_words": [".", ","],
        "similarity_fn_name": "MaxSim",
    }
    (directory / "config_sentence_transformers.json").write_text(json.dumps(model))
    return directory


def stanford(directory: Path, seed: int = 0, window: int = WINDOW) -> Path:
    """A Stanford ColBERT directory: ``bert.*`` and ``linear.weight`` in one weights file, and ``artifact.metadata``."""
    backbone_only(directory, seed, window)
    weights = {f"bert.{name}": tensor for name, tensor in _backbone(seed, window).state_dict().items()}
    save_file({**weights, "linear.weight": _projection(seed)}, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    metadata = {
        "query_maxlen": 16,
        "doc_maxlen": 64,
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "attend_to_mask_tokens": False,
    }
    (directory / "artifact.metadata").write_text(json.dumps(metadata))
    return directory


def several_projections(directory: Path, seed: int = 0) -> Path:
    """A PyLate directory with three projections: one widens with a bias, an activation and a residual."""
    pylate(directory, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    widths = [(HIDDEN, 48), (48, 48), (48, DIMENSION)]
    modules = json.loads((directory / "modules.json").read_text())[:1]
    for number, (before, after) in enumerate(widths, 1):
        folder = directory / f"{number}_Dense"
        folder.mkdir(exist_ok=True)
        first, residual = number == 1, number < 3
        settings = {
            "in_features": before,
            "out_features": after,
            "bias": first,
            "activation_function": f"torch.nn.modules.{'activation.GELU' if first else 'linear.Identity'}",
            "use_residual": residual,
        }
        (folder / "config.json").write_text(json.dumps(settings))
        tensors = {"linear.weight": torch.randn(after, before, generator=generator)}
        if first:
            tensors |= {"linear.bias": torch.randn(after, generator=generator)}
            tensors |= {"residual.weight": torch.randn(after, before, generator=generator)}
        save_file(tensors, folder / "model.safetensors")
        kind = "pylate.models.Dense.Dense"
        modules.append({"idx": number, "name": str(number), "path": f"{number}_Dense", "type": kind})
    (directory / "modules.json").write_text(json.dumps(modules))
    return directory


def sentence_transformers(directory: Path, seed: int = 0) -> Path:
    """A Sentence Transformers directory with a transformer in a folder, pooling and a projection, and no more."""
    pylate(directory, seed)
    (directory / "0_Transformer").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (directory / name).rename(directory / "0_Transformer" / name)
    (directory / "sentence_bert_config.json").rename(directory / "0_Transformer" / "sentence_bert_config.json")
    (directory / "1_Dense").rename(directory / "2_Dense")
    settings = json.loads((directory / "2_Dense" / "config.json").read_text())
    del settings["use_residual"]
    (directory / "2_Dense" / "config.json").write_text(json.dumps(settings))
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    kinds = {"0_Transformer": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "SentenceTransformer"}))
    return directory


_MODELING = """
import pathlib

from transformers import BertConfig, BertModel

pathlib.Path({canary!r}).touch()


class MiniConfig(BertConfig):
    model_type = "bert-of-its-own"


class MiniModel(BertModel):
    config_class = MiniConfig
"""


def with_code(directory: Path, canary: Path, seed: int = 0, repository: str = "") -> Path:
    """A Stanford directory whose backbone is code of its own (or of a repository), which leaves a canary when it runs."""
    stanford(directory, seed)
    (directory / "modeling_mini.py").write_text(_MODELING.format(canary=str(canary)))
    prefix = f"{repository}--" if repository else ""
    config = json.loads((directory / "config.json").read_text())
    config["model_type"] = "bert-of-its-own"
    config["auto_map"] = {
        "AutoConfig": f"{prefix}modeling_mini.MiniConfig",
        "AutoModel": f"{prefix}modeling_mini.MiniModel",
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def hub_cache(cache: Path, model: Path, name: str, commit: str, branch: str = "main") -> Path:
    """A directory moved into a cache laid out as huggingface_hub does: blobs, links to them, a reference."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / commit
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / branch).write_text(commit)
    for number, file in enumerate(sorted(path for path in model.rglob("*") if path.is_file())):
        blob = repository / "blobs" / f"{number:040x}"
        link = snapshot / file.relative_to(model)
        link.parent.mkdir(parents=True, exist_ok=True)
        file.rename(blob)
        link.symlink_to(blob)
    return snapshot
