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
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

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
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, mask_token="[MASK]", **names)


def _backbone(seed: int) -> BertModel:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(_SPECIAL) + 2 * len(_LETTERS) + len(_WORDS),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=WINDOW,
    )
    return BertModel(config, add_pooling_layer=False).eval()


def _projection(seed: int) -> torch.Tensor:
    return torch.randn(DIMENSION, HIDDEN, generator=torch.Generator().manual_seed(seed + 1))


def backbone_only(directory: Path, seed: int = 0) -> Path:
    """A plain transformer without a projection."""
    _backbone(seed).save_pretrained(directory)
    _tokenizer().save_pretrained(directory)
    return directory


def pylate(directory: Path, seed: int = 0) -> Path:
    """A PyLate directory: the backbone, ``1_Dense/`` and the two configuration files."""
    backbone_only(directory, seed)
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


def stanford(directory: Path, seed: int = 0) -> Path:
    """A Stanford ColBERT directory: ``bert.*`` and ``linear.weight`` in one weights file, and ``artifact.metadata``."""
    backbone_only(directory, seed)
    weights = {f"bert.{name}": tensor for name, tensor in _backbone(seed).state_dict().items()}
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
