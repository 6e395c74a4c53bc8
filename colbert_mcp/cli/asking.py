"""Commands that ask: search, explain, show, report, verify."""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_mcp import __version__
from colbert_mcp.attach import Index
from colbert_mcp.cli.output import print_line, show_result
from colbert_mcp.cli.progress import spinner
from colbert_mcp.config import Config
from colbert_mcp.errors import QueryError, UnreadableDocumentError, UnwritableFileError
from colbert_mcp.results import VERIFIED, Passage, SearchOutput

if TYPE_CHECKING:
    from colbert_mcp.render.page import Entry

# Not an error of the program, so no branch of ``errors``: an answer holds a quotation that its source does not.
NOT_VERIFIED = 8


def search(options: argparse.Namespace, config: Config) -> int:
    """Find passages."""
    from colbert_mcp.render.passages import search_lines

    loads = options.mode != "lexical" and not options.json
    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=loads):
        output = _search_with(index, options, explain=options.explain)
    return show_result(output, options, search_lines)


def _search_with(index: Index, options: argparse.Namespace, *, explain: bool = False) -> SearchOutput:
    return index.search(
        " ".join(options.query),
        limit=options.limit,
        path=options.path,
        types=options.type,
        mode=options.mode,
        max_tokens=options.max_tokens,
        explain=explain,
    )


def report(options: argparse.Namespace, config: Config) -> int:
    """Write an HTML page of what is found."""
    from colbert_mcp.render.page import report_page

    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=True):
        output = _search_with(index, options)
        entries = [_entry(index, output.query, passage, options) for passage in output.results]
    written = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    page = report_page(output, entries, written=written, version=__version__)
    try:
        options.output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UnwritableFileError(
            f"Cannot write {options.output} ({error.strerror}); choose another file with -o."
        ) from None
    print_line(str(options.output))
    return 0


def _entry(index: Index, query: str, passage: Passage, options: argparse.Namespace) -> "Entry":
    """A result with all that the report shows of it."""
    from colbert_mcp.render.page import Entry

    around = index.get_passage(passage.id, options.before, options.after)
    if options.mode != "lexical":
        explanation = index.explain(query, passage.id).passage.explanation
        passage = passage.model_copy(update={"explanation": explanation})
    verdict = index.verify_quote(passage.quote, passage.id).verdict if passage.quote else None
    return Entry(passage, around.before_text, around.after_text, verdict)


def explain(options: argparse.Namespace, config: Config) -> int:
    """Show why a passage matches a query."""
    from colbert_mcp.render.passages import explain_lines

    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=not options.json):
        output = index.explain(options.query, options.passage_id)
    return show_result(output, options, explain_lines)


def show(options: argparse.Namespace, config: Config) -> int:
    """Show a passage with its surroundings."""
    from colbert_mcp.render.passages import passage_lines

    with Index.open(config=config, create=False) as index:
        output = index.get_passage(options.passage_id, options.before, options.after)
    return show_result(output, options, lambda shown: passage_lines(shown, options.query))


def verify(options: argparse.Namespace, config: Config) -> int:
    """Verify a quotation, or every quotation of an answer."""
    from colbert_mcp.render.quotations import answer_lines, verify_lines

    if options.quote is not None and options.answer != "-":
        raise QueryError("Give a --quote or an answer to verify, not both.")
    if options.quote is None and (options.passage or options.path):
        raise QueryError("--passage and --path belong to a --quote; an answer names its sources itself.")
    answer = _read(options.answer) if options.quote is None else ""
    with Index.open(config=config, create=False) as index:
        if options.quote is None:
            checked = index.verify_answer(answer)
            show_result(checked, options, answer_lines)
            return 0 if checked.verified == len(checked.checks) else NOT_VERIFIED
        output = index.verify_quote(options.quote, options.passage, options.path)
    show_result(output, options, verify_lines)
    return 0 if output.verdict in VERIFIED else NOT_VERIFIED


def _read(name: str) -> str:
    """An answer from a file, or from standard input for ``-``."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableDocumentError(f"{name} cannot be read ({error.strerror}); give a file, or - .") from None
    except UnicodeDecodeError:
        raise UnreadableDocumentError(f"{name} is not UTF-8; save it as UTF-8.") from None
