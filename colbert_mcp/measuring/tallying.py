"""Asks queries of which it is known what answers them, and tallies ranks, metrics and times. Knows no files.

What is ranked are documents, each by its best passage, or passages, where only some of a document's lines count.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from colbert_mcp.measuring.asking import TOP, Answer, Asker
from colbert_mcp.measuring.metrics import METRICS, Numbers, interval, per_query
from colbert_mcp.results.measuring import Estimate, EvalRow, Judged, Latency

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Probe:
    """A query with the gains of what is relevant to it, by name.

    With ``places``, passages are ranked, and a chunk among them counts as the names it holds.
    """

    id: str
    text: str
    relevance: Mapping[str, int]
    places: Mapping[int, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """An index that is asked, with the queries as it has them, and the names of its documents by id."""

    asker: Asker
    probes: Sequence[Probe]
    documents: Mapping[int, str]


def ask_all(
    indexes: Sequence[Asked], exhaustive: int, step: Step = lambda _: None
) -> list[tuple[list[EvalRow], float]]:
    """Of each index, a row for each probe, and the mean number of candidates. All are asked the same queries.

    Who is asked first alternates, so that what is warm by then, or goes on beside it, tells in the times of all alike.
    After that, ``exhaustive`` queries at most, evenly spread, are compared with MaxSim over all stored tokens.
    """
    queries = [probe.text for probe in indexes[0].probes]
    step("asking the first query")
    for index in indexes:
        index.asker.warm_up(queries[0])
    answers: list[list[Answer]] = [[] for _ in indexes]
    turns = list(zip(indexes, answers, strict=True))
    for number, query in enumerate(queries):
        step(f"asking query {number + 1:,} of {len(queries):,}")
        for index, given in turns if number % 2 == 0 else reversed(turns):
            given.append(index.asker.ask(query))
    return [_tallied(index, given, exhaustive, step) for index, given in turns]


def _tallied(index: Asked, answers: Sequence[Answer], exhaustive: int, step: Step) -> tuple[list[EvalRow], float]:
    probes = index.probes
    recalls: list[float | None] = [None] * len(probes)
    for number in np.linspace(0, len(probes) - 1, min(exhaustive, len(probes))).round().astype(int).tolist():
        step(f"comparing the candidates of query {number + 1:,} of {len(probes):,}")
        recalls[number] = index.asker.recall(probes[number].text, answers[number])
    rankings = [ranked(probe, answer, index.documents) for probe, answer in zip(probes, answers, strict=True)]
    values = per_query(rankings, [probe.relevance for probe in probes])
    rows = [_row(*parts) for parts in zip(probes, answers, rankings, values, recalls, strict=True)]
    return rows, float(np.mean([len(answer.chunks) for answer in answers]))


def ranked(probe: Probe, answer: Answer, documents: Mapping[int, str]) -> list[str]:
    """Names of what an answer ranks, best first, each once."""
    if probe.places is None:
        return list(dict.fromkeys(documents[number] for number in answer.documents.tolist()))
    names: dict[str, None] = {}
    for chunk, document in zip(answer.chunks.tolist(), answer.documents.tolist(), strict=True):
        names.update(dict.fromkeys(probe.places.get(chunk) or [f"{documents[document]} (passage {chunk})"]))
    return list(names)


def _row(probe: Probe, answer: Answer, ranking: Sequence[str], values: Numbers, recall: float | None) -> EvalRow:
    ranks = {name: rank for rank, name in enumerate(ranking, 1)}
    relevant = [Judged(name=name, relevance=gain, rank=ranks.get(name)) for name, gain in probe.relevance.items()]
    return EvalRow(
        id=probe.id,
        query=probe.text,
        **dict(zip(METRICS, map(float, values), strict=True)),
        rank=min((judged.rank for judged in relevant if judged.rank is not None), default=None),
        relevant=relevant,
        first=list(ranking[:TOP]),
        encoding_ms=round(1000 * answer.encoding, 3),
        search_ms=round(1000 * answer.search, 3),
        reranking_ms=None if answer.reranking is None else round(1000 * answer.reranking, 3),
        candidate_recall_at_10=recall,
    )


def values_of(rows: Sequence[EvalRow], metric: str) -> Numbers:
    """A metric of each row; float64 [n]."""
    return np.array([getattr(row, metric) for row in rows], np.float64)


def estimates(rows: Sequence[EvalRow]) -> list[Estimate]:
    """Every metric with its interval."""
    found = {metric: interval(values_of(rows, metric)) for metric in METRICS}
    return [Estimate(metric=metric, value=mean, low=low, high=high) for metric, (mean, low, high) in found.items()]


def latencies(rows: Sequence[EvalRow]) -> list[Latency]:
    """Percentiles of the milliseconds of whole answers, of their two parts and, where there is one, of the reranker."""
    encoding, search = values_of(rows, "encoding_ms"), values_of(rows, "search_ms")
    told = {"answer": encoding + search, "encoding": encoding, "search": search}
    if any(row.reranking_ms is not None for row in rows):
        told["reranking"] = np.array([row.reranking_ms or 0.0 for row in rows], np.float64)
    return [
        Latency(what=what, p50=round(float(p50), 2), p95=round(float(p95), 2))
        for what, (p50, p95) in ((what, np.percentile(values, [50, 95])) for what, values in told.items())
    ]


def candidate_recall(rows: Sequence[EvalRow]) -> tuple[float | None, int]:
    """The mean over the queries on which it was measured, and how many these are."""
    found = [row.candidate_recall_at_10 for row in rows if row.candidate_recall_at_10 is not None]
    return (float(np.mean(found)) if found else None), len(found)
