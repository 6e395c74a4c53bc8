"""What may be typed after ``colbert-mcp``, and which function carries it out."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from colbert_mcp import __version__
from colbert_mcp.cli import asking, health, keeping, measuring, models
from colbert_mcp.cli.output import escape
from colbert_mcp.config import Config


class _Parser(argparse.ArgumentParser):
    """Names what is wrong without passing on what a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        super().error(escape(message))


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``run`` of what it parses carries the command out and returns the exit code."""
    parser = _Parser(
        prog="colbert-mcp",
        description="Passages from your own files that an assistant can quote and prove.",
        epilog="Exit codes: 2 usage, 3 configuration, 4 documents and other files, 5 model, 6 index, 7 query, "
        "8 a quotation not verified, 9 damage found (check), an error (doctor) or other embeddings (model check), "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    _add_common(parser, default=None)
    parser.set_defaults(reads_settings=True)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    serve = _add_command(commands, "serve", keeping.serve, "serve MCP on standard input and output", json=False)
    serve.add_argument("--root", action="append", default=[], metavar="DIR", help="index and search only inside DIR")
    serve.add_argument(
        "--standalone", action="store_true", help="load the model in this process, and share it with none"
    )

    serve.add_argument(
        "--watch", action="store_true", help="keep what is indexed fresh as files change ([server] watch)"
    )

    index = _add_command(commands, "index", keeping.index, "index folders or files, or bring them up to date")
    index.add_argument("path", nargs="+", help="folder or file")
    index.add_argument(
        "--include",
        action="append",
        metavar="GLOB",
        help="only files matching GLOB, relative to the folder (repeatable)",
    )
    index.add_argument(
        "--exclude", action="append", metavar="GLOB", help="no files matching GLOB, relative to the folder (repeatable)"
    )
    index.add_argument("--list-skipped", action="store_true", help="list every skipped file")
    index.add_argument("--dry-run", action="store_true", help="only say what would be indexed, and what it would cost")
    index.add_argument("--verify", action="store_true", help="read and hash files of unchanged size and time too")

    search = _add_command(commands, "search", asking.search, "find passages")
    _add_search_options(search)
    search.add_argument("--max-tokens", type=int, default=6000, help="size limit of the answer (default 6000)")

    search.add_argument("--explain", action="store_true", help="show which words matched which")

    explain = _add_command(commands, "explain", asking.explain, "show why a passage matches a query, token by token")
    explain.add_argument("query", help="a question or words, quoted")
    explain.add_argument("passage_id", help="an id that search printed")

    show = _add_command(commands, "show", asking.show, "show a passage with its surroundings and coordinates")
    show.add_argument("passage_id", help="an id that search printed")
    show.add_argument("--query", default="", help="mark the words of this question")
    show.add_argument("--before", type=int, default=1, help="passages before it (default 1)")
    show.add_argument("--after", type=int, default=1, help="passages after it (default 1)")

    report = _add_command(commands, "report", asking.report, "write an HTML page of what is found", json=False)
    _add_search_options(report)
    report.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page; it is overwritten")
    report.add_argument("--before", type=int, default=1, help="passages shown before each result (default 1)")
    report.add_argument("--after", type=int, default=1, help="passages shown after each result (default 1)")
    report.set_defaults(max_tokens=sys.maxsize)

    verify = _add_command(commands, "verify", asking.verify, "verify a quotation, or every quotation of an answer")
    verify.add_argument(
        "answer", nargs="?", default="-", metavar="FILE", help="an answer in Markdown (default: standard input)"
    )
    verify.add_argument("--quote", metavar="TEXT", help="verify this quotation instead of an answer")
    named = verify.add_mutually_exclusive_group()
    named.add_argument("--passage", metavar="ID", help="the passage it is attributed to")
    named.add_argument("--path", help="the file it is attributed to")

    gc = _add_command(commands, "gc", keeping.gc, "give back disk space: former passages, and what was deleted")
    gc.add_argument(
        "--former-days", type=int, metavar="N", help="keep former passages for N days (default: keep_former_days)"
    )

    _add_command(commands, "status", keeping.status, "show what the index holds and its model")

    sources = _add_command(commands, "sources", keeping.sources, "list what is indexed")
    sources.add_argument("path", nargs="?", help="only what lies at this folder or file")
    sources.add_argument("-n", "--limit", type=int, default=100, help="how many files to list (default 100)")

    engine = _add_command(
        commands, "engine", keeping.engine, "show or end the process that holds the index for `serve`"
    )
    engine.add_argument("action", choices=["status", "stop"])

    check = _add_command(commands, "check", health.check, "verify every part of the index and every passage's source")
    check.add_argument(
        "--read-data", action="store_true", help="read and hash all files, and Chroma's texts and vectors, too"
    )
    check.add_argument("--repair", action="store_true", help="repair what can be repaired, and say what was done")

    doctor = _add_command(
        commands, "doctor", health.doctor, "look at the program, its settings, the model, the index and all around it"
    )
    doctor.add_argument("--quick", action="store_true", help="load neither torch nor the model")
    doctor.set_defaults(reads_settings=False)

    model = commands.add_parser("model", help="show, convert, make, compare and measure models")
    models.add_model_commands(model.add_subparsers(title="commands", required=True, metavar="ACTION"), _add_command)

    measuring.add_measuring_commands(commands, _add_command)

    remove = _add_command(commands, "remove", keeping.remove, "take folders or files out of the index")
    remove.add_argument("path", nargs="+", help="folder or file; it is not deleted from disk")
    return parser


def _add_search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("query", nargs="+", help="a question or words")
    parser.add_argument("-n", "--limit", type=int, default=5, help="how many passages (default 5, at most 50)")
    parser.add_argument(
        "--path",
        action="append",
        metavar="GLOB",
        help="only files matching GLOB: an absolute path, or one below an indexed folder, with or without the "
        "folder's name before it (repeatable)",
    )
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
