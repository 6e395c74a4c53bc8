import numpy as np
import pytest
from miniature_tokenizers import FAMILIES
from prose import PROSE

from colbert_mcp.alignment import Alignment, quote_span
from colbert_mcp.encoder.tokenizing import TextTokenizer
from colbert_mcp.sentences import sentence_spans

# Five sentences of ten characters, each with two tokens.
SENTENCES = [(at, at + 9) for at in range(0, 50, 10)]
SPANS = np.array([(start + shift, start + shift + 4) for start, _ in SENTENCES for shift in (0, 5)], np.int64)


def alignment(by_sentence: list[float]) -> Alignment:
    """The first query token finds its match in the first token of a sentence, the second in the second."""
    similarities = np.full((2, 10), -0.5, np.float32)
    for index, value in enumerate(by_sentence):
        similarities[0, 2 * index] = similarities[1, 2 * index + 1] = value
    return Alignment(similarities, SPANS, ("token",) * 10)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.1, 0.2, 0.9, 0.2, 0.1], (20, 29)),
        ([0.1, 0.8, 0.9, 0.1, 0.1], (10, 29)),
        ([0.1, 0.8, 0.9, 0.8, 0.1], (10, 39)),
        ([0.9, 0.1, 0.8, 0.1, 0.1], (0, 9)),  # what is not a neighbour does not join
        ([0.5, 0.5, 0.5, 0.5, 0.5], (0, 9)),  # nothing stands out
        ([0.1, 0.1, 0.1, 0.1, 0.9], (40, 49)),
    ],
)
def test_a_quote_is_the_best_sentence_and_neighbours_nearly_as_good(
    scores: list[float], expected: tuple[int, int]
) -> None:
    assert quote_span(alignment(scores), SENTENCES) == expected


def test_a_quote_begins_from_a_sentence_that_holds_most_of_what_is_asked_for_as_it_is() -> None:
    scores = [0.1, 0.8, 0.9, 0.2, 0.3]
    assert quote_span(alignment(scores), SENTENCES, [0, 0, 0, 0, 0]) == (10, 29)
    assert quote_span(alignment(scores), SENTENCES, [1, 0, 0, 1, 0]) == (30, 39)
    assert quote_span(alignment(scores), SENTENCES, [2, 0, 0, 1, 0]) == (0, 9)
    assert quote_span(alignment(scores), SENTENCES, [0, 1, 1, 0, 0]) == (10, 29)


def test_every_token_of_the_query_counts_and_not_only_those_of_the_sentence() -> None:
    similarities = np.full((2, 10), 0.0, np.float32)
    similarities[0, 0:2] = 0.9  # the first sentence says one thing twice
    similarities[0, 2], similarities[1, 3] = 0.8, 0.8  # the second says both
    assert quote_span(Alignment(similarities, SPANS, ("token",) * 10), SENTENCES)[1] == 19


def test_sentences_without_tokens_are_passed_over() -> None:
    only_second = Alignment(np.array([[0.3]], np.float32), np.array([[12, 15]], np.int64), ("token",))
    assert quote_span(only_second, SENTENCES) == (10, 19)
    nothing = Alignment(np.array([[0.3]], np.float32), np.array([[0, 0]], np.int64), ("[CLS]",))
    assert quote_span(nothing, SENTENCES) == (0, 9)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("language", PROSE)
def test_the_quote_of_a_matching_sentence_is_that_sentence(family: str, language: str) -> None:
    text = "".join(PROSE[language])
    sentences = sentence_spans(text)
    (tokens,) = TextTokenizer(FAMILIES[family](), 64).tokenize([text])
    spans = np.stack([tokens.starts, tokens.ends], axis=1)
    letters = [{at for at in range(start, end) if not text[at].isspace()} for start, end in spans.tolist()]
    for sentence in sentences:
        of_it = np.array([bool(own & set(range(*sentence))) for own in letters])
        found = quote_span(Alignment(of_it[None].astype(np.float32), spans, ("token",) * len(spans)), sentences)
        crossing = any(own & set(range(*sentence)) and own - set(range(*sentence)) for own in letters)
        if crossing:  # one token of a run of unknown characters
            assert family.startswith("Unigram, ")
            assert text[slice(*sentence)] in text[slice(*found)]
        else:
            assert text[slice(*found)] == text[slice(*sentence)]
