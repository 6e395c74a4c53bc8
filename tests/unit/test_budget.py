import pytest

from colbert_mcp.results import SearchOutput
from colbert_mcp.retrieval import count_tokens
from colbert_mcp.retrieval.budget import within_budget


@pytest.mark.parametrize("start", [0, 960, 1950])
def test_the_number_of_tokens_counts_itself_also_where_it_gains_a_digit(start: int) -> None:
    for words in range(start, start + 60):
        output = SearchOutput(
            query=" word" * words, results=[], candidates=0, truncated=False, withheld=[], tokens=0, generation=1
        )
        found = within_budget(output, 10_000)
        assert found.tokens == count_tokens(found.model_dump_json())
