"""An index, its runs, sources and engine as a person reads of them in a terminal."""

from collections.abc import Callable, Iterator

from rich.text import Text

from colbert_mcp.render.escaping import visible
from colbert_mcp.render.parts import counted, megabytes, safe
from colbert_mcp.results import (
    EXPECTED_SKIPS,
    EngineOutput,
    GcOutput,
    IndexOutput,
    IndexPlan,
    RemoveOutput,
    SourcesOutput,
    StatusOutput,
    WatchedRoot,
)

_LISTED = 20


def index_lines(output: IndexOutput, *, list_skipped: bool = False) -> Iterator[Text]:
    """What a run did, and what it skipped and why; files skipped for an expected reason only with ``list_skipped``."""
    equal = "one" if output.reused == 1 else "some"
    reused = f"; {output.reused:,} more equal to {equal} encoded before" if output.reused else ""
    if output.plan is not None:
        yield _plan_line(output, output.plan, reused)
    else:
        yield _run_line(output, reused)
    yield from _skipped_lines(output, list_skipped=list_skipped)
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def _skipped_lines(output: IndexOutput, *, list_skipped: bool) -> Iterator[Text]:
    counts = output.skipped_by_reason
    total = sum(count for reason, count in counts.items() if reason not in EXPECTED_SKIPS)
    known = output.skipped_as_before and not list_skipped and total > 0
    for reason, count in counts.items():
        if not known or reason in EXPECTED_SKIPS:
            yield Text(f"  skipped {count:,}: {safe(reason)}", style="dim")
    if known:
        yield Text(f"  skipped {total:,} as in the last run; index --list-skipped lists them.", style="dim")
        return
    problems = [item for item in output.problems if list_skipped or item.reason not in EXPECTED_SKIPS]
    listed = problems if list_skipped else problems[:_LISTED]
    for problem in listed:
        yield Text(f"    {safe(problem.path)}: {safe(problem.reason)}", style="dim")
    if not list_skipped and total > len(listed):
        yield Text(f"    and {total - len(listed):,} more; index --list-skipped lists them all.", style="dim")


def _run_line(output: IndexOutput, reused: str) -> Text:
    rate = f", {output.tokens / output.seconds:,.0f} tokens/s" if output.seconds > 0 and output.tokens else ""
    return Text.assemble(
        (f"{safe(output.path)}: {output.state}", "bold"),
        f". {counted(output.indexed, 'file')} indexed ({counted(output.chunks, 'passage')}, {output.tokens:,} tokens"
        f"{reused}) in {output.seconds:.1f} s{rate}; {output.unchanged:,} unchanged, {output.removed:,} removed, "
        f"{output.skipped:,} skipped.",
    )


def _plan_line(output: IndexOutput, plan: IndexPlan, reused: str) -> Text:
    about = "about " if plan.estimated else ""
    seconds = "time not known before a first run" if plan.seconds is None else f"about {plan.seconds:,.0f} s"
    size = "" if plan.bytes is None else f" and {megabytes(plan.bytes)} of disk"
    return Text.assemble(
        (f"{safe(output.path)}: {output.state}, nothing was indexed", "bold"),
        f". {plan.new:,} new and {counted(plan.changed, 'changed file')} ({about}{counted(output.chunks, 'passage')} "
        f"to encode, {output.tokens:,} tokens{reused}), {seconds}{size}; {output.unchanged:,} unchanged, "
        f"{output.removed:,} to be removed, {output.skipped:,} skipped.",
    )


def status_lines(output: StatusOutput) -> Iterator[Text]:
    """The index, the model, and what is going on."""
    size = ", ".join(f"{safe(name)} {megabytes(count)}" for name, count in output.bytes.items())
    facts = {
        "index": safe(output.index) + (" (read-only)" if output.read_only else ""),
        "holds": ", ".join(
            [counted(output.documents, "file"), counted(output.passages, "passage"), f"{output.tokens:,} tokens"]
        )
        + ", "
        f"{counted(output.roots, 'root')}; generation {output.generation}",
        "text": _ledger(output),
        "tokens": _format(output),
        "disk": size,
        "model": f"{safe(output.model)}, document_length {output.document_length or 'not known yet'}",
        "device": safe(f"{output.device}, {output.dtype}") if output.device else "not loaded",
        **({"reranker": safe(output.reranker)} if output.reranker else {}),
        "version": safe(output.version),
    }
    for name, value in facts.items():
        yield Text.assemble((f"{name:9}", "bold"), value)
    for root in output.watching or ():
        yield _watch_line(root)
    for run in output.runs:
        yield from index_lines(run)


def _format(output: StatusOutput) -> str:
    if not output.kept_otherwise:
        return f"kept in {output.embedding_format}"
    return (
        f"kept in {output.embedding_format}; those of {counted(output.kept_otherwise, 'passage')} in another format, "
        "which gc converts"
    )


def _watch_line(root: WatchedRoot) -> Text:
    last = ""
    if root.last_run is not None:
        files = f"{counted(root.indexed, 'file')} indexed, {root.removed:,} removed"
        last = f"; last run {safe(root.last_run)}: {root.last_state}, {files}"
    reason = "" if root.reason is None else f" ({safe(root.reason)})"
    return Text.assemble(("watching ", "bold"), f"{safe(root.path)}: {root.state}{reason}{last}")


def _ledger(output: StatusOutput) -> str:
    ledger = output.ledger
    return (
        f"{output.characters:,} characters, {ledger.unchunked:,} more in no passage; of them the model does not see "
        f"{ledger.unknown:,} (words it does not know), {ledger.skipped:,} (punctuation it skips), "
        f"{ledger.untokenized:,} (no token)"
    )


def engine_lines(output: EngineOutput, named: Callable[[str], str]) -> Iterator[Text]:
    """The engine of an index, or that there is none; ``named`` has a command name its index."""
    if output.stopped:
        yield Text.assemble(f"The engine of {safe(output.index)} has ended.")
        return
    if not output.running:
        log = f" The log of the latest: {safe(output.log)}" if output.log else ""
        yield Text.assemble(f"No engine runs for {safe(output.index)}.{log}")
        return
    if output.silent_pid is not None:
        yield Text.assemble(
            f"The engine of {safe(output.index)} (process {output.silent_pid}) does not answer. End it with: "
            f"{safe(named('colbert-mcp engine stop'))}"
        )
        return
    if output.engine is None:
        yield Text.assemble(f"The engine of {safe(output.index)} is starting, ending, or of another version.")
        return
    engine = output.engine
    memory = "unknown" if engine.memory_bytes is None else megabytes(engine.memory_bytes)
    facts = {
        "index": safe(engine.index),
        "process": f"{engine.pid} on port {engine.port}, version {safe(engine.version)}",
        "up": f"{engine.uptime_seconds:,.0f} s, since {safe(engine.started)}",
        "idle": f"{engine.idle_seconds:,.0f} s; leaves after {engine.idle_minutes:g} minutes without a call",
        "clients": f"{engine.clients}",
        "model": safe(engine.model) + ("" if engine.model_loaded else ", not loaded"),
        "memory": memory,
        "log": safe(engine.log),
    }
    for name, value in facts.items():
        yield Text.assemble((f"{name:8}", "bold"), value)


def sources_lines(output: SourcesOutput) -> Iterator[Text]:
    """The roots and their files."""
    for root in output.roots:
        patterns = "".join(f" --include {p}" for p in root.include) + "".join(f" --exclude {p}" for p in root.exclude)
        when = safe(root.indexed_at or "") or "not finished yet"
        yield Text.assemble(
            (safe(root.path), "bold cyan"),
            safe(patterns),
            f"  {counted(root.documents, 'file')}, {counted(root.passages, 'passage')}, {when}",
        )
    for document in output.documents:
        yield Text(
            f"  {safe(document.path)}  {safe(document.format)}, {counted(document.passages, 'passage')}",
            style="dim",
        )
    if output.truncated:
        left = output.total_documents - len(output.documents)
        yield Text(f"  and {left:,} more files; raise --limit to see them.", style="dim")


def remove_lines(output: RemoveOutput) -> Iterator[Text]:
    """What left the index."""
    kept = f"; {counted(output.kept_documents, 'file')} kept, which another root holds" if output.kept_documents else ""
    gone = f"{counted(output.removed_documents, 'file')} and {counted(output.removed_passages, 'passage')}"
    yield Text(f"{safe(output.path)}: {gone} removed from the index{kept}.")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def gc_lines(output: GcOutput) -> Iterator[Text]:
    """What was given back, part by part."""
    before = sum(part.before for part in output.parts.values())
    after = sum(part.after for part in output.parts.values())
    chroma = ", Chroma written anew" if output.chroma_rebuilt else ""
    converted = (
        f", the token embeddings of {counted(output.converted, 'passage')} converted to {output.embedding_format}"
        if output.converted
        else ""
    )
    yield Text.assemble(
        (f"{megabytes(before)} before, {megabytes(after)} now", "bold"),
        f". {counted(output.former, 'former passage')} deleted, {counted(output.merged, 'segment')} rewritten"
        f"{converted}{chroma}, in {output.seconds:.1f} s.",
    )
    for name, part in output.parts.items():
        yield Text(f"  {safe(name):10}{megabytes(part.before):>14} → {megabytes(part.after)}")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")
