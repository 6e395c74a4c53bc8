"""What evaluations say, as a person reads it in a terminal."""

from collections.abc import Iterator

from rich.text import Text

from colbert_mcp.config import Config
from colbert_mcp.render.parts import counted, megabytes, one_line, safe
from colbert_mcp.results.measuring import CompareOutput, Difference, Estimate, EvalOutput, Latency

_NAMES = {
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "Recall@10",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
}
_WIDTH = 11
_QUERY = 70


def eval_lines(output: EvalOutput) -> Iterator[Text]:
    """Metrics with their intervals, what a search costs, and on what that was measured."""
    yield Text(safe(_measured(output)), style="bold")
    yield Text(safe(f"Settings: {_settings(output)}."))
    yield Text(f"{'':12}{'':>{_WIDTH}}  95 % interval", style="dim")
    for estimate in output.metrics:
        yield Text.assemble(
            f"{_NAMES[estimate.metric]:12}", (f"{estimate.value:>{_WIDTH}.3f}", "bold"), f"  {_interval(estimate)}"
        )
    yield Text(f"{'':12}{'p50 ms':>{_WIDTH}}{'p95 ms':>{_WIDTH}}", style="dim")
    for latency in output.latency:
        yield Text(f"{safe(latency.what):12}{latency.p50:>{_WIDTH}.1f}{latency.p95:>{_WIDTH}.1f}")
    if output.candidate_recall_at_10 is not None:
        yield Text(f"Candidates hold {output.candidate_recall_at_10:.3f} of {_exhaustive(output)}.")
    for notice in output.notices:
        yield Text(safe(notice), style="yellow")


def compare_lines(output: CompareOutput, names: tuple[str, str], changed: int) -> Iterator[Text]:
    """Differences with their intervals, and the queries that changed most."""
    for letter, name, one in zip("AB", names, (output.a, output.b), strict=True):
        yield Text(safe(f"{letter}: {name}. {_measured(one)}"))
    told = "; ".join(output.settings) or "none of the settings"
    yield Text(safe(f"What differs: {told}."))
    headings = ("A", "B", "B − A", "95 % interval", "better", "equal", "worse")
    yield Text(f"{'':12}" + "".join(map(_headed, headings)), style="bold")
    for difference in output.differences:
        yield _difference_line(difference)
    first, second = ({latency.what: latency for latency in one.latency} for one in (output.a, output.b))
    times = "".join(f"{heading:>{_WIDTH}}" for heading in ("A p50", "A p95", "B p50", "B p95"))
    yield Text(f"{'ms':12}{times}", style="dim")
    for what in dict.fromkeys([*first, *second]):
        cells = _milliseconds(first.get(what)) + _milliseconds(second.get(what))
        yield Text(f"{safe(what):12}{cells}", style="dim")
    for letter, one in zip("AB", (output.a, output.b), strict=True):
        if one.candidate_recall_at_10 is not None:
            yield Text(
                f"{letter}: candidates hold {one.candidate_recall_at_10:.3f} of {_exhaustive(one)}.", style="dim"
            )
    yield from _changed_lines(output, changed)
    for notice in [*output.notices, *dict.fromkeys([*output.a.notices, *output.b.notices])]:
        yield Text(safe(notice), style="yellow")


def _changed_lines(output: CompareOutput, most: int) -> Iterator[Text]:
    if not output.changed:
        yield Text("No query changed.")
        return
    shown = output.changed[:most]
    yield Text(f"{_queries(len(output.changed))} changed; {len(shown):,} shown, nDCG@10 and first relevant rank:")
    for query in shown:
        ranks = f"{_rank(query.rank_a)} → {_rank(query.rank_b)}"
        style = "green" if query.ndcg_b > query.ndcg_a else "red" if query.ndcg_b < query.ndcg_a else ""
        text = one_line(query.query)
        text = text if len(text) <= _QUERY else text[: _QUERY - 1] + "…"
        yield Text.assemble(
            f"  {query.ndcg_a:.3f} → {query.ndcg_b:.3f}  ", (f"rank {ranks:12}", style), f"  {safe(query.id)}: {text}"
        )


def _difference_line(difference: Difference) -> Text:
    sure = difference.low is not None and difference.high is not None and difference.low * difference.high > 0
    style = ("green" if difference.difference > 0 else "red") if sure else ""
    interval = "" if difference.low is None else f"{difference.low:+.3f} … {difference.high:+.3f}"
    return Text.assemble(
        f"{_NAMES[difference.metric]:12}{difference.a:>{_WIDTH}.3f}{difference.b:>{_WIDTH}.3f}",
        (f"{difference.difference:>+{_WIDTH}.3f}", style),
        f"{interval:>20}{difference.wins:>8}{difference.ties:>8}{difference.losses:>8}",
    )


def _headed(heading: str) -> str:
    widths = {"95 % interval": 20, "better": 8, "equal": 8, "worse": 8}
    return f"{heading:>{widths.get(heading, _WIDTH)}}"


def _measured(output: EvalOutput) -> str:
    split = f" ({output.split})" if output.split else ""
    sizes = f"{counted(output.documents, 'document')}, {counted(output.passages, 'passage')}"
    took = "" if output.indexing_seconds is None else f" indexed in {output.indexing_seconds:.1f} s"
    return f"{_queries(output.queries)} of {output.dataset}{split}; {sizes}, {megabytes(output.bytes)}{took}."


def _settings(output: EvalOutput) -> str:
    """The mode, the model and where it runs, and every setting that is not its default."""
    where = "no model loaded" if output.device is None else f"{output.model} on {output.device} in {output.dtype}"
    if output.reranker is not None:
        where += f", then {output.reranker}"
    defaults = Config().model_dump(mode="json")
    changed = [
        f"{section}.{key} = {value}"
        for section, values in output.settings.items()
        for key, value in values.items()
        if value != defaults[section].get(key) and (section, key) not in (("model", "name"), ("search", "reranker"))
    ]
    return "; ".join([f"mode {output.mode}", where, *(changed or ["else defaults"])])


def _exhaustive(output: EvalOutput) -> str:
    scored = f"{output.candidates:,.0f} of {counted(output.passages, 'passage')} scored"
    return f"the ten best by MaxSim over all stored tokens ({_queries(output.exhaustive_queries)}; {scored})"


def _interval(estimate: Estimate) -> str:
    return "" if estimate.low is None else f"{estimate.low:.3f} … {estimate.high:.3f}"


def _milliseconds(latency: Latency | None) -> str:
    return " " * 2 * _WIDTH if latency is None else f"{latency.p50:>{_WIDTH}.1f}{latency.p95:>{_WIDTH}.1f}"


def _queries(number: int) -> str:
    return "1 query" if number == 1 else f"{number:,} queries"


def _rank(rank: int | None) -> str:
    return "–" if rank is None else f"{rank}"
