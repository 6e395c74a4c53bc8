"""What is answered: the results that both faces return, and that the MCP server publishes as schemas.

Standard library and pydantic only, so that ``serve`` can publish them before anything heavy is loaded. Spans and lines
count as in ``types``.
"""

from colbert_mcp.results.base import Result
from colbert_mcp.results.health import (
    CheckCounts,
    CheckOutput,
    CheckProblem,
    DoctorOutput,
    Finding,
    SourceCounts,
)
from colbert_mcp.results.passages import (
    ExplainOutput,
    Explanation,
    Passage,
    PassageOutput,
    Place,
    SearchOutput,
    TokenHeat,
    TokenMatch,
)
from colbert_mcp.results.quotations import (
    VERIFIED,
    AnswerOutput,
    QuoteCheck,
    QuoteEdit,
    QuoteMatch,
    Verdict,
    VerifyOutput,
)
from colbert_mcp.results.upkeep import (
    EXPECTED_SKIPS,
    EngineOutput,
    EngineStatus,
    GcOutput,
    IndexOutput,
    IndexPlan,
    Ledger,
    Reclaimed,
    RemoveOutput,
    RunOutput,
    RunState,
    Skipped,
    SourceDocument,
    SourceRoot,
    SourcesOutput,
    StatusOutput,
)

__all__ = [
    "EXPECTED_SKIPS",
    "VERIFIED",
    "AnswerOutput",
    "CheckCounts",
    "CheckOutput",
    "CheckProblem",
    "DoctorOutput",
    "EngineOutput",
    "EngineStatus",
    "ExplainOutput",
    "Explanation",
    "Finding",
    "GcOutput",
    "IndexOutput",
    "IndexPlan",
    "Ledger",
    "Passage",
    "PassageOutput",
    "Place",
    "QuoteCheck",
    "QuoteEdit",
    "QuoteMatch",
    "Reclaimed",
    "RemoveOutput",
    "Result",
    "RunOutput",
    "RunState",
    "SearchOutput",
    "Skipped",
    "SourceCounts",
    "SourceDocument",
    "SourceRoot",
    "SourcesOutput",
    "StatusOutput",
    "TokenHeat",
    "TokenMatch",
    "Verdict",
    "VerifyOutput",
]
