"""Models in every layout that users bring: where their settings come from, and that what is used is what they say."""

import json
import math
import os
import re
import string
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import miniature
import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import BertModel

from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder import load_encoder
from colbert_mcp.encoder.checkpoint import inspect
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.json_files import read_json
from colbert_mcp.encoder.loading import settings_of
from colbert_mcp.encoder.weights import tensor_shapes
from colbert_mcp.errors import EncoderError, ModelNotFoundError

TEXTS = ["The mill, by the water. Bread of the field is good!", "x", "Water & bread; " * 9, "of it"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def load(directory: Path, **settings: object) -> ColBERTEncoder:
    values = {"name": str(directory), "dtype": "float32", "device": "cpu", **settings}
    encoder = load_encoder(ModelConfig(**values))  # type: ignore[arg-type]
    assert isinstance(encoder, ColBERTEncoder)
    return encoder


def edit(file: Path, **values: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **values}))


LAYOUTS = [
    miniature.pylate,
    miniature.stanford,
    miniature.several_projections,
    miniature.sentence_transformers,
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_encodes_as_pylate_does_with_the_settings_that_are_told(tmp_path: Path, layout: type) -> None:
    encoder = load(layout(tmp_path))
    documents = encoder.encode_documents(encoder.tokenize(TEXTS))
    for mine, theirs in zip(documents, encoder._model.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(mine.token_embeddings, theirs, atol=1e-5)
    for query in ("bread and water", "the field " * 30):
        theirs = encoder._model.encode(query, is_query=True)
        np.testing.assert_allclose(encoder.encode_query(query).token_embeddings, theirs, atol=1e-5)
    told = settings_of(ModelConfig(name=str(tmp_path)))
    for name in (
        "document_length",
        "query_length",
        "document_prefix",
        "query_prefix",
        "do_query_expansion",
        "attend_to_expansion_tokens",
    ):
        assert getattr(encoder._model, name) == getattr(told, name).value, name
    assert tuple(encoder._model.skiplist_words) == told.skiplist_words.value
    assert inspect(tmp_path).dimension == encoder.fingerprint.dimension == documents[0].token_embeddings.shape[1]
    assert encoder.window == told.window.value == miniature.WINDOW


def test_several_projections_are_what_their_settings_say(tmp_path: Path) -> None:
    encoder = load(miniature.several_projections(tmp_path))
    weights = [load_file(tmp_path / f"{number}_Dense" / "model.safetensors") for number in (1, 2, 3)]
    document = encoder.tokenize(["bread of the field"])[0]
    ids = torch.tensor([[2, 6, *document.ids.tolist(), 3]])
    with torch.inference_mode():
        states = BertModel.from_pretrained(tmp_path)(ids).last_hidden_state[0]
    wide = torch.nn.functional.gelu(states @ weights[0]["linear.weight"].T + weights[0]["linear.bias"])
    wide = wide + states @ weights[0]["residual.weight"].T
    wide = wide + wide @ weights[1]["linear.weight"].T
    expected = torch.nn.functional.normalize(wide @ weights[2]["linear.weight"].T, dim=-1)
    found = encoder.encode_documents([document])[0].token_embeddings
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_a_projection_whose_parameters_are_missing_is_refused(tmp_path: Path) -> None:
    miniature.several_projections(tmp_path)
    file = tmp_path / "1_Dense" / "model.safetensors"
    tensors = load_file(file)
    del tensors["residual.weight"]
    save_file(tensors, file)
    with pytest.raises(EncoderError, match="Cannot load"):
        load(tmp_path)


def test_a_sentence_transformers_projection_goes_without_markers_and_expansion(tmp_path: Path) -> None:
    encoder = load(miniature.sentence_transformers(tmp_path))
    query = encoder.encode_query("bread and water")
    assert query.tokens[:1] + query.tokens[-1:] == ("[CLS]", "[SEP]")
    told = settings_of(ModelConfig(name=str(tmp_path)))
    assert (told.document_length.value, told.document_length.source) == (
        64,
        "sentence_bert_config.json: max_seq_length",
    )
    assert (told.do_query_expansion.value, told.document_prefix.value) == (False, "")


class Stanford:
    """ColBERT's encoding, from the papers (Khattab and Zaharia 2020, section 3.2; Santhanam et al. 2022).

    A query is ``[CLS] [Q] q1 … ql [SEP]``, filled up with ``[MASK]`` or cut to query_maxlen; every position is kept,
    the masks too. A document is ``[CLS] [D] d1 … dn [SEP]``, cut to doc_maxlen and not filled up, without the embeddings
    of punctuation. Both go through BERT and one linear layer without activation, and each embedding is normalised to
    length 1. Masks attend to the words; the words attend to them only if ``attend_to_mask_tokens`` is set.
    """

    def __init__(self, directory: Path) -> None:
        self.metadata = json.loads((directory / "artifact.metadata").read_text())
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        tensors = load_file(directory / "model.safetensors")
        self.linear = tensors.pop("linear.weight")
        self.bert = BertModel.from_pretrained(directory).eval()
        self.bert.load_state_dict(
            {name.removeprefix("bert."): tensor for name, tensor in tensors.items()}, strict=False
        )

    def _ids(self, text: str, marker: str, length: int) -> list[int]:
        words = self.tokenizer.encode(text, add_special_tokens=False).ids[: length - 3]
        special = {name: self.tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", marker)}
        return [special["[CLS]"], special[marker], *words, special["[SEP]"]]

    def _embedded(self, ids: list[int], attended: list[int]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            states = self.bert(torch.tensor([ids]), attention_mask=torch.tensor([attended])).last_hidden_state[0]
            rows = states @ self.linear.T
            found: npt.NDArray[np.float32] = (rows / rows.norm(dim=-1, keepdim=True)).numpy()
        return found

    def query(self, text: str) -> npt.NDArray[np.float32]:
        length = self.metadata["query_maxlen"]
        ids = self._ids(text, self.metadata["query_token_id"], length)
        masks = length - len(ids)
        attended = [1] * len(ids) + [int(self.metadata["attend_to_mask_tokens"])] * masks
        return self._embedded(ids + [self.tokenizer.token_to_id("[MASK]")] * masks, attended)

    def document(self, text: str) -> npt.NDArray[np.float32]:
        ids = self._ids(text, self.metadata["doc_token_id"], self.metadata["doc_maxlen"])
        marks = set(string.punctuation) if self.metadata.get("mask_punctuation", True) else set()
        kept = [self.tokenizer.id_to_token(token) not in marks for token in ids]
        return self._embedded(ids, [1] * len(ids))[kept]


@pytest.mark.parametrize("attend", [False, True])
@pytest.mark.parametrize("mask_punctuation", [None, True, False])
def test_a_stanford_checkpoint_encodes_as_the_papers_define(
    tmp_path: Path, attend: bool, mask_punctuation: bool | None
) -> None:
    miniature.stanford(tmp_path, seed=3)
    edit(tmp_path / "artifact.metadata", attend_to_mask_tokens=attend)
    if mask_punctuation is not None:
        edit(tmp_path / "artifact.metadata", mask_punctuation=mask_punctuation)
    encoder, reference = load(tmp_path), Stanford(tmp_path)
    for query in ("bread and water", "the mill, by the water!", "the field " * 30, "of"):
        found = encoder.encode_query(query).token_embeddings
        np.testing.assert_allclose(found, reference.query(query), atol=1e-5)
        assert len(found) == 16
    for text in TEXTS:
        found = encoder.encode_documents(encoder.tokenize([text]))[0].token_embeddings
        np.testing.assert_allclose(found, reference.document(text), atol=1e-5)


def test_attending_to_expansion_tokens_is_an_override_and_no_part_of_the_index(tmp_path: Path) -> None:
    miniature.stanford(tmp_path, seed=3)
    own, other = load(tmp_path), load(tmp_path, attend_to_expansion_tokens=True)
    query = "bread and water"
    assert np.abs(own.encode_query(query).token_embeddings - other.encode_query(query).token_embeddings).max() > 0.001
    assert own.fingerprint == other.fingerprint
    edit(tmp_path / "artifact.metadata", attend_to_mask_tokens=True)
    np.testing.assert_allclose(
        load(tmp_path).encode_query(query).token_embeddings, other.encode_query(query).token_embeddings, atol=1e-6
    )


def test_settings_of_queries_in_a_pylate_directory_are_no_part_of_the_index(tmp_path: Path) -> None:
    before = load(miniature.pylate(tmp_path)).fingerprint
    settings = tmp_path / "config_sentence_transformers.json"
    edit(settings, attend_to_expansion_tokens=True, query_length=20)
    assert load(tmp_path).fingerprint == before
    for values in ({"document_length": 60}, {"document_prefix": "[unused0]"}, {"skiplist_words": ["."]}):
        kept = settings.read_text()
        edit(settings, **values)
        assert load(tmp_path).fingerprint != before
        settings.write_text(kept)


def test_attending_without_expansion_is_refused(tmp_path: Path) -> None:
    miniature.sentence_transformers(tmp_path)
    with pytest.raises(EncoderError, match="does without query expansion"):
        load(tmp_path, attend_to_expansion_tokens=True)


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    miniature.stanford(tmp_path)
    told = settings_of(ModelConfig(name=str(tmp_path), query_length=20))
    assert told.query_length.source == "[model] query_length"
    assert told.document_length.source == "artifact.metadata: doc_maxlen"
    assert told.skiplist_words.source == "Stanford ColBERT's default"
    assert told.window.source == "config.json: max_position_embeddings"
    (tmp_path / "artifact.metadata").unlink()
    told = settings_of(ModelConfig(name=str(tmp_path), document_length=100))
    assert (told.query_length.value, told.query_length.source) == (32, "Stanford ColBERT's default")
    assert told.notices == ()  # the checkpoint does not tell what it was trained for


def test_a_length_beyond_the_training_is_a_notice_and_beyond_the_window_an_error(tmp_path: Path) -> None:
    encoder = load(miniature.stanford(tmp_path), document_length=100)
    assert len(encoder.notices) == 1
    assert "document_length = 100 is longer than the 64 tokens" in encoder.notices[0]
    assert load(tmp_path, document_length=64, query_length=16).notices == ()
    for key in ("document_length", "query_length"):
        with pytest.raises(EncoderError, match=rf"reads 128 tokens .*{key} is 129 \(\[model\] {key}\)"):
            load(tmp_path, **{key: 129})


def test_models_that_count_positions_from_their_padding_read_less_than_their_table_holds(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    edit(tmp_path / "config.json", model_type="xlm-roberta", pad_token_id=1)
    assert settings_of(ModelConfig(name=str(tmp_path))).window.value == 126


@pytest.mark.parametrize(
    ("layout", "file", "values", "reason"),
    [
        (miniature.pylate, "config_sentence_transformers.json", {"document_prefix": "[D] "}, "is no token"),
        (miniature.pylate, "config_sentence_transformers.json", {"document_length": "64"}, "cannot be"),
        (miniature.pylate, "config_sentence_transformers.json", {"skiplist_words": [1]}, "cannot be"),
        (miniature.pylate, "config_sentence_transformers.json", {"document_length": 500}, "reads 128 tokens"),
        (miniature.stanford, "artifact.metadata", {"similarity": "l2"}, "sets similarity to 'l2'"),
        (miniature.stanford, "artifact.metadata", {"interaction": "flipr"}, "sets interaction to 'flipr'"),
        (miniature.stanford, "artifact.metadata", {"dim": 128}, "tells of 128 dimensions"),
        (miniature.stanford, "artifact.metadata", {"doc_maxlen": True}, "cannot be"),
        (miniature.stanford, "artifact.metadata", {"attend_to_mask_tokens": "yes"}, "cannot be"),
        (miniature.pylate, "sentence_bert_config.json", {"tokenizer_name_or_path": "/else"}, "would load what is not"),
        (miniature.pylate, "config.json", {"_attn_implementation": "some/kernel"}, "a kernel from a hub"),
        (miniature.stanford, "config.json", {"text_config": {"attn_implementation": "some/kernel"}}, "a kernel from"),
        (miniature.pylate, "config.json", {"encoder": [{"_attn_implementation": {"": "a/b"}}]}, "a kernel from"),
        (miniature.pylate, "adapter_config.json", {}, "an adapter over another model"),
        (miniature.pylate, "config.json", {"transformers_weights": "other.safetensors"}, "names other weights"),
        (miniature.pylate, "config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers to 1000000000"),
        (miniature.stanford, "config.json", {"vocab_size": 10**12}, "more than model.safetensors can hold"),
        (miniature.pylate, "config.json", {"num_labels": 10**9}, "more than model.safetensors can hold"),
        (
            miniature.stanford,
            "config.json",
            {"max_position_embeddings": 10**12},
            "more than model.safetensors can hold",
        ),
        (miniature.pylate, "1_Dense/config.json", {"out_features": 10**12}, "tells of 32 and 1000000000000 features"),
        (miniature.pylate, "tokenizer_config.json", {"tokenizer_file": "/else.json"}, "another tokenizer than"),
        (miniature.stanford, "tokenizer_config.json", {"fast_tokenizer_files": ["tokenizer.4.json"]}, "another token"),
        (miniature.pylate, "config_sentence_transformers.json", {"document_length": 10}, "length to at least 11"),
        (miniature.stanford, "artifact.metadata", {"query_maxlen": 3}, "query_length to at least 4"),
    ],
)
def test_settings_that_this_program_does_not_compute_are_refused(
    tmp_path: Path, layout: type, file: str, values: dict[str, object], reason: str
) -> None:
    layout(tmp_path)
    edit(tmp_path / file, **values)
    with pytest.raises(EncoderError, match=reason):
        load(tmp_path)


def test_a_configuration_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    miniature.stanford(tmp_path)
    os.truncate(tmp_path / "artifact.metadata", 2**36)  # without a block on disk
    with pytest.raises(EncoderError, match="is larger than"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "modules.json"])
@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_configuration_that_is_nested_without_end_is_refused(tmp_path: Path, name: str, depth: int) -> None:
    miniature.pylate(tmp_path)
    (tmp_path / name).write_text('{"auto_map": ' + "[" * depth + "]" * depth + "}")
    with pytest.raises(EncoderError, match=name):
        load(tmp_path)


@pytest.mark.parametrize("header", [b'{"a":' * 100_000, b'{"a": {"shape": [1e999]}}'])
def test_a_header_of_weights_that_is_none_is_told(tmp_path: Path, header: bytes) -> None:
    miniature.stanford(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(EncoderError, match="is not a safetensors file"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["README.md", "1_Dense/special_tokens_map.json", "chat_template.jinja"])
@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
def test_a_checkpoint_of_pipes_and_devices_is_refused_before_a_loader_waits_for_them(
    tmp_path: Path, layout: Callable[[Path], Path], name: str
) -> None:
    layout(tmp_path)
    (tmp_path / "1_Dense").mkdir(exist_ok=True)
    (tmp_path / "dangling").symlink_to("nowhere")
    load(tmp_path)
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(EncoderError, match=f"{name} is neither a file nor a folder"):
        settings_of(ModelConfig(name=str(tmp_path)))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(EncoderError, match=f"{name} is neither a file nor a folder"):
        settings_of(ModelConfig(name=str(tmp_path)))


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "modules.json",
        "tokenizer_config.json",
        "1_Dense/config.json",
        "sentence_bert_config.json",
        "config_sentence_transformers.json",
    ],
)
def test_a_pipe_in_place_of_a_configuration_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    miniature.pylate(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    script = (
        "import sys\nfrom pathlib import Path\nfrom colbert_mcp.config import ModelConfig\n"
        "from colbert_mcp.encoder.loading import settings_of\nsettings_of(ModelConfig(name=sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, timeout=60
    )
    assert f"EncoderError: {tmp_path / name} is neither a file nor a folder" in done.stderr


@pytest.mark.parametrize("name", ["config.json", "modules.json", "1_Dense/config.json"])
def test_a_configuration_is_read_from_a_regular_file_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(EncoderError, match="is neither a file nor a folder"):
        read_json(tmp_path / name)


def test_weights_that_cannot_be_read_are_told_from_broken_ones(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=f"Cannot read {tmp_path}: Is a directory"):
        tensor_shapes(tmp_path)


def _without_lower_case(tokenizer: Path) -> None:
    known = json.loads(tokenizer.read_text())
    known["normalizer"]["lowercase"] = False
    tokenizer.write_text(json.dumps(known))


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: edit(model / "config.json", hidden_act="relu"),
        lambda model: edit(model / "config.json", num_attention_heads=4),
        lambda model: edit(model / "config.json", layer_norm_eps=0.5),
        lambda model: edit(model / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=False),
        lambda model: edit(model / "tokenizer_config.json", additional_special_tokens=["M"]),
        lambda model: _without_lower_case(model / "tokenizer.json"),
    ],
)
def test_what_changes_an_embedding_changes_the_fingerprint(
    tmp_path: Path, layout: Callable[[Path], Path], spoil: Callable[[Path], None]
) -> None:
    texts = ["The Mill, bread and Water."]
    before = load(layout(tmp_path))
    spoil(tmp_path)
    after = load(tmp_path)
    one, two = (encoder.encode_documents(encoder.tokenize(texts))[0].token_embeddings for encoder in (before, after))
    assert one.shape != two.shape or not np.allclose(one, two, atol=1e-5), (
        "it changes no embedding, so it tests nothing"
    )
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
def test_what_changes_no_embedding_changes_no_fingerprint(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    before = load(layout(tmp_path))
    edit(tmp_path / "config.json", transformers_version="4.0", hidden_dropout_prob=0.9, use_cache=False)
    edit(tmp_path / "tokenizer_config.json", model_max_length=99, truncation_side="left", name_or_path="elsewhere")
    (tmp_path / "README.md").write_text("About this model.")
    (tmp_path / "config.json").write_text(json.dumps(json.loads((tmp_path / "config.json").read_text()), indent=7))
    after = load(tmp_path)
    assert before.fingerprint == after.fingerprint
    one, two = (encoder.encode_documents(encoder.tokenize(TEXTS)) for encoder in (before, after))
    for mine, theirs in zip(one, two, strict=True):
        np.testing.assert_array_equal(mine.token_embeddings, theirs.token_embeddings)


def test_weights_that_are_missing_are_refused_and_not_made_up(tmp_path: Path) -> None:
    miniature.stanford(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["bert.encoder.layer.1.output.dense.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 1 tensors .*encoder\.layer\.1\.output\.dense\.weight"):
        load(tmp_path)
    renamed = {name.replace("bert.", "model."): tensor for name, tensor in tensors.items()}
    save_file(renamed, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="would be random"):
        load(tmp_path)


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        (1, r"fewer layers than model.safetensors holds: 16 tensors \(such as .*encoder\.layer\.1\."),
        (0, "to 0, which"),
        (-3, "to -3, which"),
    ],
)
def test_layers_that_would_be_left_out_are_refused(
    tmp_path: Path, layout: Callable[[Path], Path], layers: int, reason: str
) -> None:
    layout(tmp_path)
    edit(tmp_path / "config.json", num_hidden_layers=layers)
    with pytest.raises(EncoderError, match=reason):
        load(tmp_path)


def test_heads_and_buffers_beside_the_backbones_layers_are_left_out(tmp_path: Path) -> None:
    miniature.stanford(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for name in (
        "bert.embeddings.position_ids",
        "bert.pooler.dense.weight",
        "cls.predictions.0.bias",
        "lm_head.layers.7.weight",
        "bert.encoder.layer.1.attention.rotary.inv_freq",
    ):
        tensors[name] = torch.zeros(miniature.HIDDEN, miniature.HIDDEN)
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    assert load(tmp_path).encode_query("bread").token_embeddings.shape == (16, miniature.DIMENSION)


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
@pytest.mark.parametrize(
    "values",
    [
        {"num_attention_heads": 3},
        {"pad_token_id": 10**9},
        {"pad_token_id": True},
        {"model_type": ["a"]},
        {"hidden_act": "x"},
        {"hidden_act": None},
        {"hidden_size": None},
        {"hidden_dropout_prob": math.nan},
        {"layer_norm_eps": "x"},
        {"add_cross_attention": True},
        {"chunk_size_feed_forward": 5},
    ],
)
def test_values_that_no_model_has_are_told_as_an_error_of_the_model(
    tmp_path: Path, layout: Callable[[Path], Path], values: dict[str, object]
) -> None:
    layout(tmp_path)
    edit(tmp_path / "config.json", **values)
    with pytest.raises(EncoderError, match="Cannot load the model in") as caught:
        load(tmp_path)
    assert len(str(caught.value)) < len(str(tmp_path)) + 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_size", "vocab_size", "num_hidden_layers"])
@pytest.mark.parametrize("value", ["2", -1, 0, 1.5, True])
def test_a_size_that_is_no_count_is_named(
    tmp_path: Path, layout: Callable[[Path], Path], key: str, value: object
) -> None:
    layout(tmp_path)
    edit(tmp_path / "config.json", **{key: value})
    with pytest.raises(EncoderError, match=f"config.json sets {key} to {json.dumps(value)}, which it cannot be"):
        load(tmp_path)


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 1, True])
def test_an_activation_that_is_no_name_is_told(tmp_path: Path, value: object) -> None:
    miniature.pylate(tmp_path)
    edit(tmp_path / "config.json", hidden_act=value)
    with pytest.raises(EncoderError, match=re.escape(f"sets hidden_act to {json.dumps(value)}, which it cannot be")):
        load(tmp_path)


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path, layout: Callable[[Path], Path]) -> None:
    layout(tmp_path)
    edit(tmp_path / "config.json", layer_norm_eps=-1)
    with pytest.raises(EncoderError, match=r"gives no numbers in float32; set \[model\] dtype"):
        load(tmp_path)


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
@pytest.mark.parametrize("number", ["next", 100_000])
def test_a_token_beyond_the_embedding_is_refused(
    tmp_path: Path, layout: Callable[[Path], Path], number: int | str
) -> None:
    file = layout(tmp_path) / "tokenizer.json"
    known = json.loads(file.read_text())
    identifier = len(known["model"]["vocab"]) if number == "next" else number
    known["model"]["vocab"]["windmill"] = identifier
    file.write_text(json.dumps(known))
    with pytest.raises(EncoderError, match=f"has the token 'windmill' with the id {identifier}, and the embedding has"):
        load(tmp_path)


def test_a_token_that_was_added_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.add_tokens(["windmill"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(EncoderError, match="has the token 'windmill'"):
        load(tmp_path)


def test_a_tokenizer_whose_template_names_an_unknown_token_is_refused(tmp_path: Path) -> None:
    file = miniature.pylate(tmp_path) / "tokenizer.json"
    known = json.loads(file.read_text())
    known["post_processor"]["single"][0]["SpecialToken"]["id"] = "windmill"
    file.write_text(json.dumps(known))
    with pytest.raises(EncoderError, match="The model's tokenizer fails on"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b"])
def test_a_module_whose_folder_can_be_none_is_refused(tmp_path: Path, name: str) -> None:
    file = miniature.pylate(tmp_path) / "modules.json"
    modules = json.loads(file.read_text())
    modules[0]["path"] = name
    file.write_text(json.dumps(modules))
    with pytest.raises(EncoderError, match="names a module by what can be no path"):
        load(tmp_path)


def test_former_names_of_parameters_are_known(tmp_path: Path) -> None:
    miniature.stanford(tmp_path / "a")
    miniature.stanford(tmp_path / "b")
    file = tmp_path / "b" / "model.safetensors"
    former = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(former, file, {"format": "pt"})
    one, two = load(tmp_path / "a"), load(tmp_path / "b")
    np.testing.assert_array_equal(
        one.encode_query("bread").token_embeddings, two.encode_query("bread").token_embeddings
    )


@pytest.mark.parametrize("layout", [miniature.stanford, miniature.pylate])
def test_a_checkpoint_in_half_precision_is_read(tmp_path: Path, layout: type) -> None:
    layout(tmp_path / "full")
    layout(tmp_path / "half")
    for file in (tmp_path / "half").rglob("*.safetensors"):
        save_file({name: tensor.half() for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    edit(tmp_path / "half" / "config.json", dtype="float16")
    full, half = load(tmp_path / "full"), load(tmp_path / "half")
    assert half.dtype == "float32"
    np.testing.assert_allclose(
        full.encode_query("bread").token_embeddings, half.encode_query("bread").token_embeddings, atol=0.01
    )


def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    model = miniature.stanford(tmp_path / "a model")
    before = load(model).encode_query("bread").token_embeddings
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="a pickle, which can run code") as caught:
        load(model)
    command = re.search(r"cd .*", str(caught.value))
    assert command is not None
    subprocess.run(command[0].replace("python -c", f"{sys.executable} -c"), shell=True, check=True)  # noqa: S602
    np.testing.assert_array_equal(load(model).encode_query("bread").token_embeddings, before)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_hub_id_is_read_from_the_hubs_cache_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: type
) -> None:
    layout(tmp_path / "model")
    expected = load(tmp_path / "model").encode_query("bread").token_embeddings
    miniature.hub_cache(tmp_path / "cache", tmp_path / "model", "someone/colbert", COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for revision in (COMMIT, "main", ""):
        encoder = load(Path("someone/colbert"), revision=revision)
        np.testing.assert_array_equal(encoder.encode_query("bread").token_embeddings, expected)
        assert encoder.fingerprint.model == "someone/colbert"
    with pytest.raises(ModelNotFoundError, match="no model someone/colbert"):
        load(Path("someone/colbert"), revision="f" * 40)
