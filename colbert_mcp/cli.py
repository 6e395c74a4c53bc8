"""The command line: a client of the same functions as the MCP server, and the only module that prints.

Results go to standard output, progress and errors to standard error. Exit codes: 0, 1 (unexpected), 2 (usage), and one
for each branch of ``errors``; 8 where ``verify`` met a quotation that does not stand; 130 after Ctrl-C.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from colbert_mcp import __version__
from colbert_mcp.attach import Index, opened_to_plan
from colbert_mcp.config import Config, load_config
from colbert_mcp.errors import ColbertMCPError, ConfigError, QueryError, UnreadableDocumentError
from colbert_mcp.progress import progress_bar, spinner
from colbert_mcp.results import VERIFIED, IndexOutput, Passage, Result, SearchOutput

if TYPE_CHECKING:
    from rich.text import Text

    from colbert_mcp.render.page import Entry

INTERRUPTED = 130
# Not an error of the program, so no branch of ``errors``: an answer holds a quotation that its source does not.
NOT_VERIFIED = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config, index=options.index)
        code: int = options.run(options, config)
    except ColbertMCPError as error:
        print(f"colbert-mcp: {_escape(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more while it flushes at exit.
        sys.stdout = None
        return 0
    return code


def _serve(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.stdio import serve  # mcp loads for this command alone

    for root in options.root:
        if not Path(root).expanduser().exists():
            raise UnreadableDocumentError(f"There is no folder {root}; --root takes one that is there.")
    serve(config, options.root, standalone=options.standalone)
    return 0


def _engine(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.launch import engine_output, stop_engine
    from colbert_mcp.render.terminal import engine_lines
    from colbert_mcp.rendezvous import Rendezvous

    rendezvous = Rendezvous(config.index_path.resolve())
    output = engine_output(rendezvous) if options.action == "status" else stop_engine(rendezvous)
    return _show_result(output, options, engine_lines)


def _index(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import index_lines

    outputs: list[IndexOutput] = []
    interrupted = False
    with opened_to_plan(config) if options.dry_run else Index.open(config=config) as index:
        for path in options.path:
            with progress_bar(shown=not options.json) as progress:
                try:
                    output = index.index_path(
                        path,
                        options.include,
                        options.exclude,
                        progress=progress,
                        list_skipped=sys.maxsize if options.list_skipped else 50,
                        verify=options.verify,
                        dry_run=options.dry_run,
                    )
                except KeyboardInterrupt:
                    interrupted = True
                    index.cancel(path)
                    output = index.wait_for_run(path, None)
            outputs.append(output)
            if not options.json:
                _print_lines(index_lines(output, list_skipped=options.list_skipped))
            if interrupted:
                break
    if options.json:
        print("[" + ",".join(map(_json, outputs)) + "]")
    return INTERRUPTED if interrupted else 0


def _search(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import search_lines

    loads = options.mode != "lexical" and not options.json
    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=loads):
        output = _search_with(index, options, explain=options.explain)
    return _show_result(output, options, search_lines)


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


def _report(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.page import report_page

    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=True):
        output = _search_with(index, options)
        entries = [_entry(index, output.query, passage, options) for passage in output.results]
    written = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    page = report_page(output, entries, written=written, version=__version__)
    try:
        options.output.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {options.output} ({error.strerror}); choose another file with -o.") from None
    print(_escape(str(options.output)))
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


def _explain(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import explain_lines

    with Index.open(config=config, create=False) as index, spinner("loading the model", shown=not options.json):
        output = index.explain(options.query, options.passage_id)
    return _show_result(output, options, explain_lines)


def _show(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import passage_lines

    with Index.open(config=config, create=False) as index:
        output = index.get_passage(options.passage_id, options.before, options.after)
    return _show_result(output, options, lambda shown: passage_lines(shown, options.query))


def _verify(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import answer_lines, verify_lines

    if options.quote is not None and options.answer != "-":
        raise QueryError("Give a --quote or an answer to verify, not both.")
    if options.quote is None and (options.passage or options.path):
        raise QueryError("--passage and --path belong to a --quote; an answer names its sources itself.")
    answer = _read(options.answer) if options.quote is None else ""
    with Index.open(config=config, create=False) as index:
        if options.quote is None:
            checked = index.verify_answer(answer)
            _show_result(checked, options, answer_lines)
            return 0 if checked.verified == len(checked.checks) else NOT_VERIFIED
        output = index.verify_quote(options.quote, options.passage, options.path)
    _show_result(output, options, verify_lines)
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


def _status(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import status_lines

    with Index.open(config=config, create=False) as index:
        output = index.index_status()
    return _show_result(output, options, status_lines)


def _sources(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import sources_lines

    with Index.open(config=config, create=False) as index:
        output = index.list_sources(options.path, limit=options.limit)
    return _show_result(output, options, sources_lines)


def _remove(options: argparse.Namespace, config: Config) -> int:
    from colbert_mcp.render.terminal import remove_lines

    with Index.open(config=config, create=False) as index:
        output = index.remove_path(options.path)
    return _show_result(output, options, remove_lines)


def _show_result(output: Any, options: argparse.Namespace, lines: "Callable[[Any], Iterable[Text]]") -> int:
    if options.json:
        print(_json(output))
    else:
        _print_lines(lines(output))
    return 0


def _json(output: Result) -> str:
    """JSON whose invisible characters are escaped: a terminal would obey them."""
    from colbert_mcp.render.escaping import visible_json

    return visible_json(output.model_dump_json())


def _print_lines(lines: "Iterable[Text]") -> None:
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:  # rich would end the program as if it had failed
            raise BrokenPipeError

    console = Output(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line)


def _escape(text: str) -> str:
    from colbert_mcp.render.escaping import visible

    return visible(text)


class _Parser(argparse.ArgumentParser):
    """Names what is wrong without passing on what a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        super().error(_escape(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="colbert-mcp",
        description="Passages from your own files that an assistant can quote and prove.",
        epilog="Exit codes: 2 usage, 3 configuration, 4 documents, 5 model, 6 index, 7 query, "
        "8 a quotation not verified, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser, default=None)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _add_command(commands, "serve", _serve, "serve MCP on standard input and output", json=False)
    serve.add_argument("--root", action="append", default=[], metavar="DIR", help="index and search only inside DIR")
    serve.add_argument(
        "--standalone", action="store_true", help="load the model in this process, and share it with none"
    )

    index = _add_command(commands, "index", _index, "index folders or files, or bring them up to date")
    index.add_argument("path", nargs="+", help="folder or file")
    index.add_argument("--include", action="append", metavar="GLOB", help="only files matching GLOB (repeatable)")
    index.add_argument("--exclude", action="append", metavar="GLOB", help="no files matching GLOB (repeatable)")
    index.add_argument("--list-skipped", action="store_true", help="list every skipped file")
    index.add_argument("--dry-run", action="store_true", help="only say what would be indexed, and what it would cost")
    index.add_argument("--verify", action="store_true", help="read and hash files of unchanged size and time too")

    search = _add_command(commands, "search", _search, "find passages")
    _add_search_options(search)
    search.add_argument("--max-tokens", type=int, default=6000, help="size limit of the answer (default 6000)")

    search.add_argument("--explain", action="store_true", help="show which words matched which")

    explain = _add_command(commands, "explain", _explain, "show why a passage matches a query, token by token")
    explain.add_argument("query", help="a question or words, quoted")
    explain.add_argument("passage_id", help="an id that search printed")

    show = _add_command(commands, "show", _show, "show a passage with its surroundings and coordinates")
    show.add_argument("passage_id", help="an id that search printed")
    show.add_argument("--query", default="", help="mark the words of this question")
    show.add_argument("--before", type=int, default=1, help="passages before it (default 1)")
    show.add_argument("--after", type=int, default=1, help="passages after it (default 1)")

    report = _add_command(commands, "report", _report, "write an HTML page of what is found", json=False)
    _add_search_options(report)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page; it is overwritten")
    report.add_argument("--before", type=int, default=1, help="passages shown before each result (default 1)")
    report.add_argument("--after", type=int, default=1, help="passages shown after each result (default 1)")
    report.set_defaults(max_tokens=sys.maxsize)

    verify = _add_command(commands, "verify", _verify, "verify a quotation, or every quotation of an answer")
    verify.add_argument(
        "answer", nargs="?", default="-", metavar="FILE", help="an answer in Markdown (default: standard input)"
    )
    verify.add_argument("--quote", metavar="TEXT", help="verify this quotation instead of an answer")
    named = verify.add_mutually_exclusive_group()
    named.add_argument("--passage", metavar="ID", help="the passage it is attributed to")
    named.add_argument("--path", help="the file it is attributed to")

    _add_command(commands, "status", _status, "show what the index holds and its model")

    sources = _add_command(commands, "sources", _sources, "list what is indexed")
    sources.add_argument("path", nargs="?", help="only files under this folder")
    sources.add_argument("-n", "--limit", type=int, default=100, help="how many files to list (default 100)")

    engine = _add_command(commands, "engine", _engine, "show or end the process that holds the index for `serve`")
    engine.add_argument("action", choices=["status", "stop"])

    remove = _add_command(commands, "remove", _remove, "take a folder or file out of the index")
    remove.add_argument("path", help="folder or file; it is not deleted from disk")
    return parser


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="+", help="a question or words")
    parser.add_argument("-n", "--limit", type=int, default=5, help="how many passages (default 5, at most 50)")
    parser.add_argument("--path", action="append", metavar="GLOB", help="only files matching GLOB (repeatable)")
    parser.add_argument(
        "--type", action="append", metavar="TYPE", help="only files of this suffix or format (repeatable)"
    )
    parser.add_argument("--mode", choices=["hybrid", "semantic", "lexical"], default="hybrid", help="default: hybrid")


def _add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace, Config], int], text: str, *, json: bool = True
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    _add_common(command, default=argparse.SUPPRESS)
    if json:
        command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=run)
    return command


def _add_common(parser: argparse.ArgumentParser, default: Any) -> None:
    """The options that stand before or after the command."""
    parser.add_argument("--index", metavar="DIR", default=default, help="the index directory ($COLBERT_MCP_INDEX)")
    parser.add_argument("--config", metavar="FILE", type=Path, default=default, help="a configuration file")
