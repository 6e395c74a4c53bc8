"""Passages as a person reads them in a terminal: place, text with the words or tokens that matched, and scores."""

import re
from bisect import bisect_left
from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text

from colbert_mcp.lexical import words
from colbert_mcp.render.escaping import visible
from colbert_mcp.render.parts import indented, one_line, place, safe, standing
from colbert_mcp.results import ExplainOutput, Explanation, Passage, PassageOutput, SearchOutput, TokenHeat

_WORD = re.compile(r"\w+")
_SHORTEST_STEM = 4
# Least rank among the tokens of a passage, and the colour.
_SHADES = ((0.95, "bold black on bright_yellow"), (0.85, "black on yellow"), (0.7, "yellow"))


def search_lines(output: SearchOutput) -> Iterator[Text]:
    """Numbered passages: place, heading and scores, then the text with the query's words emphasised."""
    for number, passage in enumerate(output.results, 1):
        yield from _result_lines(number, passage, output.query)
    if not output.results:
        yield Text("No passage found.")
    if output.withheld:
        yield Text(f"{len(output.withheld)} more withheld; raise --max-tokens to see them.", style="dim")
    if output.uncovered:
        yield Text(f"No result is about: {one_line(', '.join(output.uncovered))}", style="yellow")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def _result_lines(number: int, passage: Passage, query: str) -> Iterator[Text]:
    yield Text.assemble((f"{number}. ", "bold"), (place(passage), "bold cyan"), (standing(passage), "yellow"))
    if passage.heading:
        yield Text(f"   {one_line(passage.heading)}", style="magenta")
    yield Text(f"   {_scores(passage)}  id {safe(passage.id)}  {passage.status}", style="dim")
    if passage.quote and passage.quote != passage.text:
        yield Text(f"   “{one_line(passage.quote)}”", style="italic")
        yield Text("")
    yield emphasised(indented(passage.text), query)
    for twin in passage.also_at:
        yield Text(f"   also at {safe(twin.path)}:{twin.line_start}", style="dim")
    if passage.near_duplicate_of:
        yield Text(f"   says nearly the same as {safe(passage.near_duplicate_of)}", style="dim")
    if passage.explanation:
        yield Text("")
        yield from _match_lines(passage.explanation)
    yield Text("")


def passage_lines(output: PassageOutput, query: str = "") -> Iterator[Text]:
    """A passage in full: its place in every coordinate, its text (words of ``query`` marked), and what is around it."""
    passage = output.passage
    yield Text.assemble((place(passage), "bold cyan"), (standing(passage), "yellow"))
    if passage.heading:
        yield Text(one_line(passage.heading), style="magenta")
    bytes_span = "-" if passage.byte_start is None else f"{passage.byte_start}-{passage.byte_end}"
    yield Text(
        f"lines {passage.line_start}:{passage.column_start}-{passage.line_end}:{passage.column_end}  "
        f"characters {passage.char_start}-{passage.char_end}  bytes {bytes_span}",
        style="dim",
    )
    yield Text(f"sha256 {safe(passage.sha256)}", style="dim")
    yield Text(f"status {passage.status}, indexed {safe(passage.indexed_at)}", style="dim")
    yield Text(safe(passage.url), style="dim")
    yield Text("")
    if output.before_text:
        yield Text("before it:", style="dim")
        yield Text(indented(output.before_text), style="dim")
    yield Text("the passage:", style="dim")
    yield emphasised(indented(passage.text), query)
    if output.after_text:
        yield Text("after it:", style="dim")
        yield Text(indented(output.after_text), style="dim")
    if output.notice:
        yield Text(visible(output.notice), style="yellow")


def explain_lines(output: ExplainOutput) -> Iterator[Text]:
    """A passage whose tokens are the warmer in colour the more similar they are to the query's, and every match."""
    passage = output.passage
    yield Text.assemble((place(passage), "bold cyan"), (standing(passage), "yellow"))
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


def _match_lines(explanation: Explanation) -> Iterator[Text]:
    width = max((cell_len(one_line(match.query)) for match in explanation.matches), default=0)
    for match in explanation.matches:
        place = "special token" if match.span is None else f"characters {match.span[0]}-{match.span[1]}"
        asked = one_line(match.query)
        yield Text.assemble(
            f"   {asked}{' ' * (width - cell_len(asked))}  ",
            (f"{match.similarity:6.3f}", "bold"),
            f"  {one_line(match.text)}",
            (f"  {place}", "dim"),
        )


def emphasised(text: str, query: str) -> Text:
    """The text with the words marked that share a stem with a word of the query (a crude one: its first letters)."""
    stems = tuple({word[: max(_SHORTEST_STEM, len(word) - 3)] for word in words(query)})
    result = Text(text)
    for match in _WORD.finditer(text):
        if match.group().casefold().startswith(stems):
            result.stylize("bold green", match.start(), match.end())
    return result


def _scores(passage: Passage) -> str:
    names = ("score", "reranker", "maxsim", "bm25", "dense")
    parts = {name: getattr(passage, name) for name in names}
    return "  ".join(f"{name} {value:.3f}" for name, value in parts.items() if value is not None)
