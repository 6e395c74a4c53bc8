"""What evaluating answers: how well an index ranks for judged queries, query by query, and how two settings compare.

Not among the names of ``results`` itself: ``serve`` publishes none of these.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from colbert_mcp.results.base import Result
from colbert_mcp.types import Mode

# Means of ones may be a rounding above one.
Share = Annotated[float, Field(ge=0, le=1 + 1e-9, allow_inf_nan=False)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]
Rank = Annotated[int, Field(ge=1)]


class Estimate(Result):
    """A metric over queries, 0 to 1, with its 95 % bootstrap interval."""

    metric: Literal["ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_10"]
    value: Share
    low: Share | None = Field(description="null for fewer than two queries")
    high: Share | None


class Latency(Result):
    """Milliseconds that half, and 95 %, of the queries take at most."""

    what: str = Field(description="answer (encoding and search), encoding, search, or what of it a reranker takes")
    p50: Amount
    p95: Amount


class EvalOutput(Result):
    """How well an index ranks for judged queries, and what a search costs."""

    dataset: str
    kind: Literal["labelled set", "questions"]
    split: str | None = Field(description="null for questions on the user's own index")
    mode: Mode
    model: str
    device: str | None = Field(description="null where the mode loads no model")
    dtype: str | None
    reranker: str | None = Field(default=None, description="null where there is none, or the mode loads none")
    queries: Count
    documents: Count
    passages: Count
    tokens: Count
    metrics: list[Estimate]
    latency: list[Latency]
    candidates: Amount = Field(description="passages that were scored, mean over queries")
    candidate_recall_at_10: Share | None = Field(
        description="share of the ten best passages by MaxSim over all stored tokens that were candidates"
    )
    exhaustive_queries: Count = Field(description="queries on which that was measured")
    indexing_seconds: Amount | None = Field(description="null where nothing was indexed for this")
    bytes: Count = Field(description="disk use of the index, Chroma included")
    settings: dict[str, dict[str, object]] = Field(description="of the sections model, documents, search and store")
    version: str
    notices: list[str]


class Judged(Result):
    """Something relevant to a query, and its rank from 1; null where it was not ranked."""

    name: str
    relevance: Annotated[int, Field(ge=1)]
    rank: Rank | None


class EvalRow(Result):
    """One query: its metrics, what is relevant, and what came first."""

    id: str
    query: str
    ndcg_at_10: Share
    recall_at_10: Share
    recall_at_100: Share
    mrr_at_10: Share
    rank: Rank | None = Field(description="of the first that is relevant, from 1")
    relevant: list[Judged]
    first: list[str] = Field(description="the ten that came first")
    encoding_ms: Amount
    search_ms: Amount
    reranking_ms: Amount | None = Field(default=None, description="of the search; null without a reranker")
    candidate_recall_at_10: Share | None


class EvalRows(Result):
    """An evaluation with every query, as ``eval --rows`` writes it."""

    format: Literal["colbert-mcp rows 1"] = "colbert-mcp rows 1"
    output: EvalOutput
    rows: list[EvalRow]

    @model_validator(mode="after")
    def _each_query_once(self) -> Self:
        if len({row.id for row in self.rows}) != len(self.rows) or self.output.queries != len(self.rows):
            raise ValueError("a query is there twice, or they are not as many as was said")
        return self


class Difference(Result):
    """A metric of two evaluations on the same queries: b minus a, with its 95 % bootstrap interval."""

    metric: str
    a: float
    b: float
    difference: float
    low: float | None = Field(description="null for fewer than two queries")
    high: float | None
    wins: int = Field(description="queries on which b is better")
    ties: int
    losses: int


class ChangedQuery(Result):
    """A query on which two evaluations differ."""

    id: str
    query: str
    ndcg_a: float
    ndcg_b: float
    rank_a: int | None = Field(description="of the first that is relevant, from 1; null where none was ranked")
    rank_b: int | None


class CompareOutput(Result):
    """Two evaluations on the same queries."""

    a: EvalOutput
    b: EvalOutput
    queries: int
    settings: list[str] = Field(description="settings that differ, as 'section.key: a → b'")
    differences: list[Difference]
    changed: list[ChangedQuery] = Field(description="every query that changed, those that changed most first")
    notices: list[str]
