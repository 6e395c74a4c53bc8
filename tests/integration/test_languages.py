"""The real encoder code with a tokenizer of each family: rows, queries and coverage in the characters of the text."""

import unicodedata
from pathlib import Path

import miniature_tokenizers
import numpy as np
import pytest
from fake_encoder import FakeEncoder
from prose import PROSE
from support import EngineFactory

from colbert_mcp.chunking import cut
from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder import load_encoder
from colbert_mcp.encoder.colbert import ColBERTEncoder

TEXT = "  The\u00a0water, nai\u0308ve 東京の「はい。」 हिन्दी 👩\u200d🚀 ｶﾞ end  "


@pytest.fixture(scope="module", params=miniature_tokenizers.FAMILIES)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ColBERTEncoder:
    directory = miniature_tokenizers.pylate(tmp_path_factory.mktemp("model"), request.param)
    loaded = load_encoder(ModelConfig(name=str(directory), dtype="float32", query_length=100, document_length=120))
    assert isinstance(loaded, ColBERTEncoder)
    return loaded


def test_embeddings_equal_pylates_own(encoder: ColBERTEncoder) -> None:
    (document,) = encoder.encode_documents(encoder.tokenize([TEXT.strip()]))
    theirs = encoder._model.encode([TEXT], is_query=False)[0]
    np.testing.assert_allclose(document.token_embeddings, theirs, atol=1e-5)
    query = encoder.encode_query(TEXT)
    np.testing.assert_allclose(query.token_embeddings, encoder._model.encode([TEXT], is_query=True)[0], atol=1e-5)


def test_rows_of_a_query_and_of_a_document_are_traced_to_the_same_characters(encoder: ColBERTEncoder) -> None:
    query, stripped = encoder.encode_query(TEXT), TEXT.strip()
    document = encoder.tokenize([stripped])[0]
    kept = encoder.kept_spans(document)
    assert len(kept) == len(encoder.kept_tokens(document))
    typed = [TEXT[start:end] for start, end in query.spans if end > start]
    assert not any(part != part.strip() for part in typed if part.strip())
    without_punctuation = {stripped[start:end] for start, end in kept if end > start}
    assert without_punctuation == set(typed) - {".", ","}
    covered = {at for start, end in query.spans for at in range(start, end)}
    lost = [letter for at, letter in enumerate(TEXT) if at not in covered]
    assert all(unicodedata.category(letter)[0] in "MZC" for letter in lost)  # some drop accents
    assert query.unread == ""


def test_what_a_query_loses_to_its_length_is_the_rest_of_its_text(encoder: ColBERTEncoder) -> None:
    text = "   " + "water 東京 " * 60
    query = encoder.encode_query(text)
    assert query.unread
    assert text.strip().endswith(query.unread)
    read = int(query.spans[:, 1].max())
    assert abs(len(text.rstrip()) - len(query.unread) - read) <= 1


def test_a_lone_surrogate_is_read_as_a_replacement_character(encoder: ColBERTEncoder) -> None:
    query = encoder.encode_query("water \ud800 end")
    same = encoder.encode_query("water \ufffd end")
    np.testing.assert_allclose(query.token_embeddings, same.token_embeddings)
    np.testing.assert_array_equal(query.spans, same.spans)


def test_coverage_leaves_out_only_what_no_token_tells_of(encoder: ColBERTEncoder) -> None:
    text = "The water, 東京."
    coverage = encoder.coverage(encoder.tokenize([text])[0], text)
    assert coverage.untokenized == 0
    assert coverage.skipped + coverage.unknown <= 5
    assert coverage.unknown in (0, 1, 2, 3)


def test_every_chunk_fits_when_it_is_tokenized_alone(encoder: ColBERTEncoder) -> None:
    text = "The water, nai\u0308ve 東京の「はい。」そして हिन्दी। 👩\u200d🚀 ﷺ ½ bread.\n" * 40
    pieces = cut(text, [], encoder, encoder.content_length, is_code=False)
    assert len(pieces) > 3
    encoder.encode_documents([piece.tokens for piece in pieces])
    assert max(len(piece.tokens.ids) for piece in pieces) <= encoder.content_length


@pytest.mark.parametrize("language", [name for name in PROSE if name != "Thai"])
def test_a_sentence_is_found_and_quoted_in_its_own_script(
    language: str, open_engine: EngineFactory, tmp_path: Path
) -> None:
    (tmp_path / "prose.txt").write_text("".join(PROSE[language]) + "\n\n" + "Nothing of it here. " * 20)
    engine = open_engine(FakeEncoder(400))
    engine.index_path(tmp_path / "prose.txt")
    for sentence in PROSE[language]:
        best = engine.search(sentence.strip(), limit=1).results[0]
        assert best.quote is not None
        assert sentence.strip() in best.quote
        assert best.quote == sentence.strip()
