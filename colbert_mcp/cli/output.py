"""Printing, the only place that does. Results go to standard output, errors to standard error.

Everything that an index may hold is escaped, since a terminal obeys it.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from colbert_mcp.results import Result

if TYPE_CHECKING:
    from rich.text import Text

INTERRUPTED = 130


def show_result(output: Any, options: argparse.Namespace, lines: "Callable[[Any], Iterable[Text]]") -> int:
    """Print a result as JSON if that was asked for, else as ``lines`` lays it out; returns exit code 0."""
    if options.json:
        print(_json(output))
    else:
        print_lines(lines(output))
    return 0


def print_json(outputs: Sequence[Result]) -> None:
    """Print results as a JSON list."""
    print("[" + ",".join(map(_json, outputs)) + "]")


def print_note(note: str) -> None:
    """Tell on standard error what goes on."""
    print(escape(note), file=sys.stderr)


def print_line(line: str) -> None:
    """Print a line."""
    print(escape(line))


def _json(output: Result) -> str:
    """JSON whose invisible characters are escaped: a terminal would obey them."""
    from colbert_mcp.render.escaping import visible_json

    return visible_json(output.model_dump_json())


def print_lines(lines: "Iterable[Text]") -> None:
    """Print lines in colour where the terminal has it."""
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:  # rich would end the program as if it had failed
            raise BrokenPipeError

    console = Output(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line)


def escape(text: str) -> str:
    """Text without anything that a terminal would obey."""
    from colbert_mcp.render.escaping import visible

    return visible(text)


def fail(message: str) -> None:
    """Tell an error."""
    print(f"colbert-mcp: {escape(message)}", file=sys.stderr)
