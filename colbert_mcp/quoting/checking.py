"""Every quotation of an answer against the source that the answer cites for it. Knows answers, and a function that
verifies one quote; nothing of the index.
"""

from collections.abc import Callable
from functools import cache

from colbert_mcp.errors import EmptyQueryError, PassageNotFoundError, QueryError
from colbert_mcp.quoting.answers import quotations
from colbert_mcp.results import VERIFIED, AnswerOutput, QuoteCheck, Verdict, VerifyOutput


def check_answer(answer: str, verify_one: Callable[..., VerifyOutput]) -> AnswerOutput:
    """Verify the quotations of an answer; ``verify_one(quote, passage_id=…, path=…)`` does it for one,
    and raises EmptyQueryError for an empty quote of a file that is indexed.

    The plain name of a file is a citation where a file that is indexed is called so. A quotation whose citation names
    nothing indexed is looked for everywhere, and is misattributed where it is found. One that cannot be told apart from
    its text is not verified, and says so.
    """

    @cache
    def is_indexed(name: str) -> bool:
        try:
            verify_one("", passage_id=None, path=name)  # nothing is searched for
        except EmptyQueryError:
            return True
        except QueryError:
            return False
        return True

    found, skipped = quotations(answer, is_indexed)
    checks = []
    for quotation in found:
        output, problem = None, quotation.problem
        for text in () if problem else dict.fromkeys((quotation.text, quotation.plain)):
            try:
                tried, problem = _try(text, quotation.passage_id, quotation.path, verify_one)
            except QueryError as error:
                problem = str(error)
                continue
            if output is None or tried.verdict in VERIFIED:
                output = tried
            if output.verdict in VERIFIED:
                break
        checks.append(
            QuoteCheck(
                line=quotation.line, quote=quotation.text, citation=quotation.citation, output=output, problem=problem
            )
        )
    verified = sum(check.output is not None and check.output.verdict in VERIFIED for check in checks)
    return AnswerOutput(checks=checks, verified=verified, skipped=skipped)


def _try(
    text: str, passage_id: str | None, path: str | None, verify_one: Callable[..., VerifyOutput]
) -> tuple[VerifyOutput, str | None]:
    try:
        return verify_one(text, passage_id=passage_id, path=path), None
    except PassageNotFoundError as error:
        output = verify_one(text, passage_id=None, path=None)
        verdict: Verdict = "misattributed" if output.verdict in VERIFIED else output.verdict
        return output.model_copy(update={"verdict": verdict, "omitted": []}), str(error)
