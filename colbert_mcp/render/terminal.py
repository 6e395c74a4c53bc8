"""Results as a person reads them. Everything that an index may hold is escaped, since a terminal obeys it.

Knows result types and rich; nothing of where results come from. Prints nothing itself.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from colbert_mcp.lexical import words
from colbert_mcp.render.escaping import visible
from colbert_mcp.results import (
    EXPECTED_SKIPS,
    VERIFIED,
    AnswerOutput,
    EngineOutput,
    ExplainOutput,
    Explanation,
    IndexOutput,
    IndexPlan,
    Passage,
    PassageOutput,
    QuoteEdit,
    QuoteMatch,
    RemoveOutput,
    SearchOutput,
    SourcesOutput,
    StatusOutput,
    TokenHeat,
    VerifyOutput,
)

_WORD = re.compile(r"\w+")
_SHORTEST_STEM = 4
_LISTED = 20


def search_lines(output: SearchOutput) -> Iterator[Text]:
    """Numbered passages: place, heading and scores, then the text with the query's words emphasised."""
    for number, passage in enumerate(output.results, 1):
        yield from _result_lines(number, passage, output.query)
    if not output.results:
        yield Text("No passage found.")
    if output.withheld:
        yield Text(f"{len(output.withheld)} more withheld; raise --max-tokens to see them.", style="dim")
    if output.uncovered:
        yield Text(f"No result is about: {_one_line(', '.join(output.uncovered))}", style="yellow")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def _result_lines(number: int, passage: Passage, query: str) -> Iterator[Text]:
    yield Text.assemble((f"{number}. ", "bold"), (_place(passage), "bold cyan"), (_standing(passage), "yellow"))
    if passage.heading:
        yield Text(f"   {_one_line(passage.heading)}", style="magenta")
    yield Text(f"   {_scores(passage)}  id {_safe(passage.id)}  {passage.status}", style="dim")
    if passage.quote and passage.quote != passage.text:
        yield Text(f"   “{_one_line(passage.quote)}”", style="italic")
        yield Text("")
    yield emphasised(_indented(passage.text), query)
    for twin in passage.also_at:
        yield Text(f"   also at {_safe(twin.path)}:{twin.line_start}", style="dim")
    if passage.near_duplicate_of:
        yield Text(f"   says nearly the same as {_safe(passage.near_duplicate_of)}", style="dim")
    if passage.explanation:
        yield Text("")
        yield from _match_lines(passage.explanation)
    yield Text("")


def passage_lines(output: PassageOutput, query: str = "") -> Iterator[Text]:
    """A passage in full: its place in every coordinate, its text (words of ``query`` marked), and what is around it."""
    passage = output.passage
    yield Text.assemble((_place(passage), "bold cyan"), (_standing(passage), "yellow"))
    if passage.heading:
        yield Text(_one_line(passage.heading), style="magenta")
    bytes_span = "-" if passage.byte_start is None else f"{passage.byte_start}-{passage.byte_end}"
    yield Text(
        f"lines {passage.line_start}:{passage.column_start}-{passage.line_end}:{passage.column_end}  "
        f"characters {passage.char_start}-{passage.char_end}  bytes {bytes_span}",
        style="dim",
    )
    yield Text(f"sha256 {_safe(passage.sha256)}", style="dim")
    yield Text(f"status {passage.status}, indexed {_safe(passage.indexed_at)}", style="dim")
    yield Text(_safe(passage.url), style="dim")
    yield Text("")
    if output.before_text:
        yield Text("before it:", style="dim")
        yield Text(_indented(output.before_text), style="dim")
    yield Text("the passage:", style="dim")
    yield emphasised(_indented(passage.text), query)
    if output.after_text:
        yield Text("after it:", style="dim")
        yield Text(_indented(output.after_text), style="dim")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def explain_lines(output: ExplainOutput) -> Iterator[Text]:
    """A passage whose tokens are the warmer in colour the more similar they are to the query's, and every match."""
    passage = output.passage
    yield Text.assemble((_place(passage), "bold cyan"), (_standing(passage), "yellow"))
    explanation = passage.explanation
    if explanation is not None:
        yield heat_map(passage, explanation.heat or [])
        yield Text("")
        yield from _match_lines(explanation)
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def heat_map(passage: Passage, heat: list[TokenHeat]) -> Text:
    """The text with each token in the colour of its similarity, from the passage's coolest (none) to its warmest."""
    shades = {}
    warmest = [max(item.similarities, default=-1.0) for item in heat]
    ordered = sorted(warmest)
    for item, similarity in zip(heat, warmest, strict=True):
        rank = bisect_left(ordered, similarity) / len(ordered)
        style = next((style for least, style in _SHADES if rank >= least), None)
        if style is not None:
            start, end = (at - passage.char_start for at in item.span)
            shades.update(dict.fromkeys(range(start, end), style))
    lines = Text("   ")
    for at, character in enumerate(passage.text):
        if character == "\n" or (character == "\r" and passage.text[at + 1 : at + 2] != "\n"):
            lines.append("\n   ")
        elif character != "\r":
            lines.append(visible(character, keep="\t"), style=shades.get(at))
    return lines


# Least rank among the tokens of a passage, and the colour.
_SHADES = ((0.95, "bold black on bright_yellow"), (0.85, "black on yellow"), (0.7, "yellow"))


def _match_lines(explanation: Explanation) -> Iterator[Text]:
    width = max((cell_len(_one_line(match.query)) for match in explanation.matches), default=0)
    for match in explanation.matches:
        place = "special token" if match.span is None else f"characters {match.span[0]}-{match.span[1]}"
        asked = _one_line(match.query)
        yield Text.assemble(
            f"   {asked}{' ' * (width - cell_len(asked))}  ",
            (f"{match.similarity:6.3f}", "bold"),
            f"  {_one_line(match.text)}",
            (f"  {place}", "dim"),
        )


def verify_lines(output: VerifyOutput) -> Iterator[Text]:
    """The verdict with its place, or with what differs; then what an ellipsis leaves out, and further places."""
    first = output.matches[0] if output.matches else None
    standing = "" if output.status in (None, "current") else f"  [{_reasoned(output.status, output.status_reason)}]"
    yield Text.assemble(
        (output.verdict.replace("_", " "), "bold green" if output.verdict in VERIFIED else "bold red"),
        (f"  {_place(first)}" if first else "", "bold cyan"),
        (f"  id {_safe(first.passage_id)}" if first else "", "dim"),
        (standing, "yellow"),
    )
    yield Text(f"   “{_one_line(output.quote)}”", style="italic")
    if output.diff and first:
        yield Text.assemble("   ", *_diff(output.diff))
        yield Text(f"   closest: “{_one_line(first.text)}”")
    for omitted in output.omitted:
        yield Text(f"   leaves out: {_one_line(omitted)}", style="dim")
    for other in output.matches[1:]:
        yield Text(f"   also at {_place(other)}", style="dim")
    if output.notice:
        yield Text(f"   {visible(output.notice)}", style="yellow")


def answer_lines(output: AnswerOutput) -> Iterator[Text]:
    """Each quotation of an answer with its verdict, and a count."""
    for check in output.checks:
        cited = f", cited as {_safe(check.citation)}" if check.citation else ", without a citation"
        yield Text(f"line {check.line}{cited}", style="dim")
        if check.output is None:
            yield Text("not verified", style="bold red")
            yield Text(f"   “{_one_line(check.quote)}”", style="italic")
        else:
            yield from verify_lines(check.output)
        if check.problem:
            yield Text(f"   {visible(check.problem)}", style="yellow")
        yield Text("")
    skipped = f"; {_count(output.skipped, 'short quotation')} without a citation skipped" if output.skipped else ""
    yield Text(f"{output.verified:,} of {_count(len(output.checks), 'quotation')} verified{skipped}.", style="bold")
    changed = sum(c.output is not None and c.output.status in ("modified", "missing") for c in output.checks)
    if changed:
        yield Text(f"{_count(changed, 'quotation')} of a file that no longer says so; index it again.", style="yellow")


def _diff(edits: list[QuoteEdit]) -> Iterator[tuple[str, str]]:
    """What the quote has that the source has not as [-…-], what only the source has as {+…+}."""
    for edit in edits:
        if edit.op == "same":
            yield f"{_one_line(edit.quote)} ", ""
        else:
            yield f"[-{_one_line(edit.quote)}-] " if edit.quote else "", "red"
            yield f"{{+{_one_line(edit.source)}+}} " if edit.source else "", "green"


def _reasoned(status: str | None, reason: str | None) -> str:
    return f"{status}: {reason}" if reason else str(status)


def index_lines(output: IndexOutput, *, list_skipped: bool = False) -> Iterator[Text]:
    """What a run did, and what it skipped and why; files skipped for an expected reason only with ``list_skipped``."""
    reused = f"; {_count(output.reused, 'passage')} reused" if output.reused else ""
    if output.plan is not None:
        yield _plan_line(output, output.plan, reused)
    else:
        yield _run_line(output, reused)
    for reason, count in output.skipped_by_reason.items():
        yield Text(f"  skipped {count:,}: {_safe(reason)}", style="dim")
    problems = [item for item in output.problems if list_skipped or item.reason not in EXPECTED_SKIPS]
    for problem in problems if list_skipped else problems[:_LISTED]:
        yield Text(f"    {_safe(problem.path)}: {_safe(problem.reason)}", style="dim")
    if len(problems) > _LISTED and not list_skipped:
        yield Text("    and more; --list-skipped lists them all.")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def _run_line(output: IndexOutput, reused: str) -> Text:
    rate = f", {output.tokens / output.seconds:,.0f} tokens/s" if output.seconds > 0 and output.tokens else ""
    return Text.assemble(
        (f"{_safe(output.path)}: {output.state}", "bold"),
        f". {_count(output.indexed, 'file')} indexed ({_count(output.chunks, 'passage')}, {output.tokens:,} tokens"
        f"{reused}) in {output.seconds:.1f} s{rate}; {output.unchanged:,} unchanged, {output.removed:,} removed, "
        f"{output.skipped:,} skipped.",
    )


def _plan_line(output: IndexOutput, plan: IndexPlan, reused: str) -> Text:
    about = "about " if plan.estimated else ""
    seconds = "time not known before a first run" if plan.seconds is None else f"about {plan.seconds:,.0f} s"
    size = "" if plan.bytes is None else f" and {_megabytes(plan.bytes)} of disk"
    return Text.assemble(
        (f"{_safe(output.path)}: {output.state}, nothing was indexed", "bold"),
        f". {plan.new:,} new and {_count(plan.changed, 'changed file')} ({about}{_count(output.chunks, 'passage')} to "
        f"encode, {output.tokens:,} tokens{reused}), {seconds}{size}; {output.unchanged:,} unchanged, "
        f"{output.removed:,} to be removed, {output.skipped:,} skipped.",
    )


def status_lines(output: StatusOutput) -> Iterator[Text]:
    """The index, the model, and what is going on."""
    size = ", ".join(f"{_safe(name)} {_megabytes(count)}" for name, count in output.bytes.items())
    facts = {
        "index": _safe(output.index) + (" (read-only)" if output.read_only else ""),
        "holds": ", ".join(
            [_count(output.documents, "file"), _count(output.passages, "passage"), f"{output.tokens:,} tokens"]
        )
        + ", "
        f"{_count(output.roots, 'root')}; generation {output.generation}",
        "text": _ledger(output),
        "disk": size,
        "model": f"{_safe(output.model)}, document_length {output.document_length or 'not known yet'}",
        "device": _safe(f"{output.device}, {output.dtype}") if output.device else "not loaded",
        "version": _safe(output.version),
    }
    for name, value in facts.items():
        yield Text.assemble((f"{name:8}", "bold"), value)
    for run in output.runs:
        yield from index_lines(run)


def engine_lines(output: EngineOutput) -> Iterator[Text]:
    """The engine of an index, or that there is none."""
    if output.stopped:
        yield Text.assemble(f"The engine of {_safe(output.index)} has ended.")
        return
    if not output.running:
        yield Text.assemble(f"No engine runs for {_safe(output.index)}.")
        return
    if output.engine is None:
        yield Text.assemble(f"The engine of {_safe(output.index)} is starting, ending, or of another version.")
        return
    engine = output.engine
    memory = "unknown" if engine.memory_bytes is None else _megabytes(engine.memory_bytes)
    facts = {
        "index": _safe(engine.index),
        "process": f"{engine.pid} on port {engine.port}, version {_safe(engine.version)}",
        "up": f"{engine.uptime_seconds:,.0f} s, since {_safe(engine.started)}",
        "idle": f"{engine.idle_seconds:,.0f} s; leaves after {engine.idle_minutes:g} minutes without a call",
        "clients": f"{engine.clients}",
        "model": _safe(engine.model) + ("" if engine.model_loaded else ", not loaded"),
        "memory": memory,
        "log": _safe(engine.log),
    }
    for name, value in facts.items():
        yield Text.assemble((f"{name:8}", "bold"), value)


def _ledger(output: StatusOutput) -> str:
    ledger = output.ledger
    return (
        f"{output.characters:,} characters, {ledger.unchunked:,} more in no passage; of them the model does not see "
        f"{ledger.unknown:,} (words it does not know), {ledger.skipped:,} (punctuation it skips), "
        f"{ledger.untokenized:,} (no token)"
    )


def sources_lines(output: SourcesOutput) -> Iterator[Text]:
    """The roots and their files."""
    for root in output.roots:
        patterns = "".join(f" --include {p}" for p in root.include) + "".join(f" --exclude {p}" for p in root.exclude)
        when = _safe(root.indexed_at or "") or "not finished yet"
        yield Text.assemble(
            (_safe(root.path), "bold cyan"),
            _safe(patterns),
            f"  {_count(root.documents, 'file')}, {_count(root.passages, 'passage')}, {when}",
        )
    for document in output.documents:
        yield Text(
            f"  {_safe(document.path)}  {_safe(document.format)}, {_count(document.passages, 'passage')}",
            style="dim",
        )
    if output.truncated:
        left = output.total_documents - len(output.documents)
        yield Text(f"  and {left:,} more files; raise --limit to see them.", style="dim")


def remove_lines(output: RemoveOutput) -> Iterator[Text]:
    """What left the index."""
    kept = f"; {_count(output.kept_documents, 'file')} kept, which another root holds" if output.kept_documents else ""
    gone = f"{_count(output.removed_documents, 'file')} and {_count(output.removed_passages, 'passage')}"
    yield Text(f"{_safe(output.path)}: {gone} removed from the index{kept}.")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def emphasised(text: str, query: str) -> Text:
    """The text with the words marked that share a stem with a word of the query (a crude one: its first letters)."""
    stems = tuple({word[: max(_SHORTEST_STEM, len(word) - 3)] for word in words(query)})
    result = Text(text)
    for match in _WORD.finditer(text):
        if match.group().casefold().startswith(stems):
            result.stylize("bold green", match.start(), match.end())
    return result


def _safe(text: str) -> str:
    return visible(text, keep="")


def _place(cited: Passage | QuoteMatch) -> str:
    """Path and line; where text was taken out page by page or cell by cell, the page or cell instead."""
    if cited.page is not None or cited.cell is not None:
        return f"{_safe(cited.path)}, " + (f"page {cited.page}" if cited.page is not None else f"cell {cited.cell}")
    return f"{_safe(cited.path)}:{cited.line_start}"


def _standing(passage: Passage) -> str:
    if passage.status == "current":
        return ""
    return _safe(f"  [{passage.status}{': ' + passage.status_reason if passage.status_reason else ''}]")


def _scores(passage: Passage) -> str:
    parts = {"score": passage.score, "maxsim": passage.maxsim, "bm25": passage.bm25, "dense": passage.dense}
    return "  ".join(f"{name} {value:.3f}" for name, value in parts.items() if value is not None)


def _one_line(text: str) -> str:
    return _safe(" ".join(text.split()))


def _indented(text: str) -> str:
    return "\n".join(f"   {visible(line, keep=chr(9))}" for line in re.split(r"\r\n|\n|\r", text))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
