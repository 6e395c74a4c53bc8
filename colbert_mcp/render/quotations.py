"""Verdicts on quotations as a person reads them in a terminal."""

from collections.abc import Iterator

from rich.text import Text

from colbert_mcp.render.escaping import visible
from colbert_mcp.render.parts import counted, one_line, place, reasoned, safe
from colbert_mcp.results import VERIFIED, AnswerOutput, QuoteEdit, VerifyOutput


def verify_lines(output: VerifyOutput) -> Iterator[Text]:
    """The verdict with its place, or with what differs or is written otherwise; then what an ellipsis leaves out, and
    further places.
    """
    first = output.matches[0] if output.matches else None
    standing = "" if output.status in (None, "current") else f"  [{reasoned(output.status, output.status_reason)}]"
    yield Text.assemble(
        (output.verdict.replace("_", " "), "bold green" if output.verdict in VERIFIED else "bold red"),
        (f"  {place(first)}" if first else "", "bold cyan"),
        (f"  id {safe(first.passage_id)}" if first else "", "dim"),
        (standing, "yellow"),
    )
    yield Text(f"   “{one_line(output.quote)}”", style="italic")
    if output.diff and first:
        yield Text.assemble("   ", *_diff(output.diff))
        yield Text(f"   closest: “{one_line(first.text)}”")
    if output.verdict == "normalised" and first:
        yield Text(f"   source: “{one_line(first.text)}”")
    for omitted in output.omitted:
        yield Text(f"   leaves out: {one_line(omitted)}", style="dim")
    for other in output.matches[1:]:
        yield Text(f"   also at {place(other)}", style="dim")
    if output.notice:
        yield Text(f"   {visible(output.notice)}", style="yellow")


def answer_lines(output: AnswerOutput) -> Iterator[Text]:
    """Each quotation of an answer with its verdict, and a count."""
    for check in output.checks:
        cited = f", cited as {safe(check.citation)}" if check.citation else ", without a citation"
        yield Text(f"line {check.line}{cited}", style="dim")
        if check.output is None:
            yield Text("not verified", style="bold red")
            yield Text(f"   “{one_line(check.quote)}”", style="italic")
        else:
            yield from verify_lines(check.output)
        if check.problem:
            yield Text(f"   {visible(check.problem)}", style="yellow")
        yield Text("")
    skipped = f"; {counted(output.skipped, 'short quotation')} without a citation skipped" if output.skipped else ""
    yield Text(f"{output.verified:,} of {counted(len(output.checks), 'quotation')} verified{skipped}.", style="bold")
    changed = sum(c.output is not None and c.output.status in ("modified", "missing") for c in output.checks)
    if changed:
        yield Text(f"{counted(changed, 'quotation')} of a file that no longer says so; index it again.", style="yellow")


def _diff(edits: list[QuoteEdit]) -> Iterator[tuple[str, str]]:
    """What the quote has that the source has not as [-…-], what only the source has as {+…+}."""
    for edit in edits:
        if edit.op == "same":
            yield f"{one_line(edit.quote)} ", ""
        else:
            yield f"[-{one_line(edit.quote)}-] " if edit.quote else "", "red"
            yield f"{{+{one_line(edit.source)}+}} " if edit.source else "", "green"
