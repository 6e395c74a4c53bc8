"""What a check or the doctor found, as a person reads it in a terminal."""

from collections.abc import Iterator

from rich.text import Text

from colbert_mcp.render.escaping import visible
from colbert_mcp.render.parts import counted, megabytes, safe
from colbert_mcp.results import CheckOutput, DoctorOutput

_LISTED = 20


def check_lines(output: CheckOutput) -> Iterator[Text]:
    """What was compared, what is wrong, what was done about it, and what is left to do."""
    yield Text.assemble((f"{safe(output.index)}: {_verdict(output)}", "bold"), f" ({output.seconds:.1f} s).")
    yield Text(f"  {_compared(output)}", style="dim")
    if output.checked.documents:
        yield Text(f"  {_sources(output)}", style="dim")
    for problem in output.problems[:_LISTED]:
        done = "repaired: " if problem.repaired else ""
        style = "green" if problem.repaired else "red"
        yield Text(f"  {done}{safe(problem.where)}: {safe(problem.what)}", style=style)
    if output.total_problems > _LISTED:
        yield Text(f"  and {output.total_problems - _LISTED:,} more; --json lists them.")
    for done in output.done:
        yield Text(f"  {safe(done)}")
    for command in dict.fromkeys(problem.mends for problem in output.problems if not problem.repaired):
        yield Text(f"To mend it: {safe(command)}", style="yellow")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def _verdict(output: CheckOutput) -> str:
    if output.sound:
        return "repaired, nothing is wrong any more" if output.total_problems else "nothing is wrong"
    left = sum(not problem.repaired for problem in output.problems)
    return f"{counted(left, 'problem')} to be mended"


def _compared(output: CheckOutput) -> str:
    checked = output.checked
    records = "" if checked.records is None else f", {counted(checked.records, 'Chroma record')}"
    hashed = f" ({megabytes(checked.bytes)} hashed)" if output.read_data else " (lengths; --read-data hashes them)"
    return (
        f"compared {counted(checked.documents, 'document')}, {counted(checked.passages, 'passage')}, "
        f"{checked.former:,} former{records}, {counted(checked.files, 'file')} of "
        f"{counted(checked.segments, 'token segment')}{hashed}"
    )


def _sources(output: CheckOutput) -> str:
    sources = output.sources
    line = (
        f"sources: {sources.unchanged:,} unchanged ({counted(output.checked.spans, 'passage')} found in them), "
        f"{sources.changed:,} changed, {sources.gone:,} gone, {sources.unreadable:,} unreadable"
    )
    stale = sources.changed + sources.gone
    return f"{line}; index again to follow them" if stale else line


def doctor_lines(output: DoctorOutput) -> Iterator[Text]:
    """Each thing that was looked at, with what mends it, and how it stands altogether."""
    styles = {"ok": "green", "warning": "yellow", "error": "red"}
    for finding in output.findings:
        yield Text.assemble(
            (f"{finding.state:8}", styles[finding.state]), (f"{safe(finding.topic):10}", "bold"), safe(finding.what)
        )
        if finding.mends:
            yield Text(f"{'':18}to mend it: {safe(finding.mends)}", style="yellow")
    yield Text(f"{counted(output.errors, 'error')}, {counted(output.warnings, 'warning')}.", style="bold")
