"""File names that stand plainly in an answer, in its text or alone between backticks: ``docs/setup.md:12``.

Which of them are files of the index is for others to say. Knows Markdown strings only.
"""

from collections.abc import Iterator

import regex

from colbert_mcp.quoting.answer_units import code_spans, masked

_NUMBERED = r"(?i:pages?|pp?\.|cells?|lines?|ll?\.|l(?=\d)) ?\d+(?:(?:[-–]|\.\.| to | and )L?\d+)?"
PLACE_IN_WORDS = rf"(?:,? {_NUMBERED}| \({_NUMBERED}\))"
_PLACE = rf"(?:#[^\s<>()\[\]\"“”`,;]*\w|:\d+(?:-\d+)?|{PLACE_IN_WORDS})?"
_SUFFIX = r"\.[A-Za-z][A-Za-z0-9]{0,9}"
_NAME = regex.compile(
    rf"(?<![\w/.:@\\~+-])@?(?P<name>(?:~/)?(?:[\w.+-]{{1,100}}+/){{0,30}}+[\w.+-]{{1,100}}{_SUFFIX}(?!_?[^\W_]|[/@(]){_PLACE})"
)
_SPAN = regex.compile(
    rf"(?P<span>`++\s*+(?P<name>[^`<>\"“”|*?\n]{{1,200}}{_SUFFIX}{_PLACE})\s*+`++)(?P<place>{PLACE_IN_WORDS})?"
)
# What is no name of a website, a library (``Node.js``) or an attribute, even if nothing indexed is called so.
_CLEAR = regex.compile(
    r"(?!www\.|[\w.-]*\w\.(?:com|org|net|io|dev|ai|edu|gov|[a-z]{2})/)"
    r"(?:\S*\.(?:md|mdx|markdown|rst|txt|text|log|pdf|docx?|html?|xhtml|ipynb|tex|org|adoc)\b|\S*/\S*\.[a-z]{1,4}\b"
    r"|\S*\.[a-z]{1,4}:\d)",
    regex.IGNORECASE,
)


def file_names(text: str) -> Iterator[tuple[int, int, str]]:
    """What may be a file's name: ``[start, end)`` of the text, backticks included, and the name with its place."""
    for match in _NAME.finditer(masked(text)):
        emphasised = match["name"].startswith("_") and text.startswith("_", match.end())
        yield match.start(), match.end(), match["name"][emphasised:]
    for start, end in code_spans(text):
        match = _SPAN.match(text, start)
        if match and match.end("span") == end:
            yield start, match.end(), match["name"] + (match["place"] or "")


def is_clearly_a_file(name: str) -> bool:
    """Whether a name is a document's by its suffix, or a file's by its folders or line."""
    return _CLEAR.match(name) is not None
