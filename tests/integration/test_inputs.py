"""What the model is given for a text, whatever its tokenizer puts around it: equal to PyLate's own, and traced."""

from collections.abc import Callable
from pathlib import Path

import miniature
import numpy as np
import pytest
from test_layouts import edit, load
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from colbert_mcp.encoder.colbert import ColBERTEncoder

LAYOUTS = [miniature.pylate, miniature.stanford, miniature.sentence_transformers]
QUERIES = ["bread and water", "of", "  the mill, by the water ", "..."]
LONG = "the field " * 40 + "mill"
# What stands around a text: the marker goes after the first token, special or not.
FRAMES = ["$A", "$A [SEP]", "[CLS] $A", "[CLS] [unused0] $A [SEP]", "[CLS] $A [SEP] [SEP]"]


def framed(directory: Path, template: str) -> None:
    file = next(directory.rglob("tokenizer.json"))
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.post_processor = TemplateProcessing(
        single=template, pair="$A $B", special_tokens=[("[CLS]", 2), ("[SEP]", 3), ("[unused0]", 5)]
    )
    tokenizer.save(str(file))


def check_query(encoder: ColBERTEncoder, text: str) -> None:
    """Its embeddings equal PyLate's where that cuts at the end, and every row that is a word has the characters of that word."""
    query = encoder.encode_query(text)
    encoder._model.tokenizer.truncation_side = "right"
    theirs = encoder._model.encode(text, is_query=True)
    np.testing.assert_allclose(query.token_embeddings, theirs, atol=1e-5)
    rows = list(zip(query.tokens, query.spans.tolist(), strict=True))
    assert all(text[start:end] in (name, name.removeprefix("##")) for name, (start, end) in rows if end)
    read = "".join(text[start:end] for _, (start, end) in rows if end)
    assert read + "".join(query.unread.split()) == "".join(text.split())
    np.testing.assert_allclose(np.linalg.norm(query.dense), 1, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("template", FRAMES)
def test_any_special_tokens_around_a_text_give_what_pylate_gives(
    tmp_path: Path, layout: Callable[[Path], Path], template: str
) -> None:
    framed(layout(tmp_path), template)
    encoder = load(tmp_path)
    for text in [*QUERIES, LONG]:
        check_query(encoder, text)
    for text in ("The mill, by the water. Bread of the field is good!", "x"):
        (document,) = encoder.encode_documents(encoder.tokenize([text]))
        np.testing.assert_allclose(document.token_embeddings, encoder._model.encode(text, is_query=False), atol=1e-5)
        assert len(encoder.kept_spans(encoder.tokenize([text])[0])) == len(document.token_embeddings)
    content = "bread " * encoder.content_length
    (document,) = encoder.encode_documents(encoder.tokenize([content]))
    assert len(document.token_embeddings) == encoder.fingerprint.document_length


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sides", [{"padding_side": "left"}, {"truncation_side": "left"}])
def test_a_tokenizer_that_pads_or_cuts_on_the_left_encodes_as_pylate_and_is_traced(
    tmp_path: Path, layout: Callable[[Path], Path], sides: dict[str, object]
) -> None:
    layout(tmp_path)
    edit(next(tmp_path.rglob("tokenizer_config.json")), **sides)
    encoder = load(tmp_path, query_length=12)
    for text in [*QUERIES, LONG]:
        check_query(encoder, text)
    assert encoder.encode_query(LONG).unread.endswith("field mill"), "what is left out is always the end"
    texts = ["bread", LONG, "the water of the mill"]
    for text, together in zip(texts, encoder.encode_queries(texts), strict=True):
        alone = encoder.encode_query(text)
        np.testing.assert_allclose(together.token_embeddings, alone.token_embeddings, atol=1e-5)
        np.testing.assert_allclose(together.dense, alone.dense, atol=1e-5)
    for text in ("The mill, by the water.", "x"):
        (document,) = encoder.encode_documents(encoder.tokenize([text]))
        np.testing.assert_allclose(document.token_embeddings, encoder._model.encode(text, is_query=False), atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_text_that_a_tokenizer_makes_nothing_of_has_one_embedding(
    tmp_path: Path, layout: Callable[[Path], Path]
) -> None:
    framed(layout(tmp_path), "$A")
    encoder = load(tmp_path)
    for text in ("\x07", "...", ""):
        tokens = encoder.tokenize([text])[0]
        (document,) = encoder.encode_documents([tokens])
        assert len(document.token_embeddings) == len(encoder.kept_spans(tokens)) == len(encoder.kept_tokens(tokens)) > 0
        query = encoder.encode_query(text)
        assert len(query.token_embeddings) == len(query.spans) == len(query.tokens) > 0
        for rows in (document.token_embeddings, query.token_embeddings, document.dense[None], query.dense[None]):
            np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_words_that_the_tokenizer_has_no_tokens_for_are_named(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    assert encoder.encode_query("Bread, of the mill! \x07 → ☃").unknown == ()
    query = encoder.encode_query("bread 漢字 water เรือ\u200dใบ, 漢字; ☃")
    assert query.unknown == ("漢字", "เรือ\u200dใบ")
