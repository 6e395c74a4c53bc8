"""What is told of models, as a person reads it in a terminal."""

import json
from collections.abc import Iterator

from rich.text import Text

from colbert_mcp.render.parts import counted, megabytes, safe
from colbert_mcp.results import LengthRow, LengthsOutput, ModelCheckOutput, ModelOutput, ModelWritten

_NAME, _VALUE = 28, 24


def model_lines(output: ModelOutput) -> Iterator[Text]:
    """Each value with where it comes from."""
    yield Text(safe(output.model), style="bold")
    for value in output.values:
        shown = _shown(value.value)
        yield Text.assemble(f"  {value.name:{_NAME}}", (f"{shown:{_VALUE}}", "bold"), f"  ({safe(value.source)})")
    if output.remote_code:
        yield Text("It runs code of its own, with all rights that you have.", style="yellow")
    for notice in output.notices:
        yield Text(safe(notice), style="yellow")


def written_lines(output: ModelWritten) -> Iterator[Text]:
    """What was written, and how it is used."""
    yield Text.assemble((safe(output.directory), "bold"), f": {', '.join(map(safe, output.files))}")
    for note in output.notes:
        yield Text(safe(note), style="yellow")
    yield Text(f"To use it, set [model] name = {json.dumps(safe(output.directory), ensure_ascii=False)}.")


def model_check_lines(output: ModelCheckOutput) -> Iterator[Text]:
    """Whether the texts find themselves, and how far the other model is."""
    found = f"{output.found_first} of {counted(output.texts, 'reference text')} find themselves first"
    yield Text(f"{safe(output.model)}: {found}")
    for pair in output.confused:
        yield Text(f"  {safe(pair)}", style="dim")
    if output.cut:
        yield Text(
            f"  of {counted(output.cut, 'text')} only the beginning fits the model's document_length", style="dim"
        )
    if output.other is None:
        return
    style = "green" if output.same else "red"
    if output.difference is None:
        yield Text(f"{safe(output.other)}: cannot be compared: {safe(output.where or '')}", style=style)
    else:
        where = f" at {safe(output.where)}" if output.where else ""
        verdict = "the same" if output.same else "not the same"
        yield Text(f"{safe(output.other)}: {verdict}: largest difference {output.difference:.2g}{where}", style=style)


def lengths_lines(output: LengthsOutput) -> Iterator[Text]:
    """The table of lengths, on which sample it was measured, and what is not known."""
    share = f"{output.sample_files:,} of {counted(output.total_files, 'file')}"
    sizes = f"{megabytes(output.sample_bytes)} of {megabytes(output.total_bytes)}"
    where = f"{safe(output.model)} on {safe(output.device)} in {safe(output.dtype)}"
    yield Text(f"Measured on a sample: {share}, {sizes}; {where}.")
    if output.labelled:
        yield Text(f"nDCG@10 on {safe(output.labelled)} of the labelled set.")
    quality = any(row.ndcg_at_10 is not None for row in output.rows)
    headings = ["document_length", "passages", "tokens", "disk", "seconds", *(["nDCG@10"] if quality else [])]
    yield Text("".join(f"{heading:>16}" for heading in headings), style="bold")
    for row in output.rows:
        yield Text("".join(f"{cell:>16}" for cell in _cells(row, quality=quality)))
    if output.sample_bytes < output.total_bytes:
        times = output.total_bytes / max(1, output.sample_bytes)
        yield Text(f"For all {counted(output.total_files, 'file')}, multiply by about {times:,.1f}.", style="dim")
    if output.left_out:
        window = f"the model reads {output.window} tokens"
        yield Text(f"Left out, since {window}: {', '.join(map(str, output.left_out))}.", style="dim")
    for notice in output.notices:
        yield Text(safe(notice), style="yellow")


def _cells(row: LengthRow, *, quality: bool) -> list[str]:
    length = f"{row.document_length}{' now' if row.current else '    '}"
    cells = [length, f"{row.chunks:,}", f"{row.tokens:,}", megabytes(row.bytes), f"{row.seconds:.1f}"]
    return [*cells, f"{row.ndcg_at_10:.3f}" if row.ndcg_at_10 is not None else ""] if quality else cells


def _shown(value: str | int | bool | list[str] | None) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return safe(("; " if any(" " in item for item in value) else " ").join(value)) or "none"
    return safe(f"{value}") if value != "" else "none"
