"""Commands that measure how well searches do: eval, compare."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from colbert_mcp.cli.output import escape, show_result
from colbert_mcp.cli.progress import steps
from colbert_mcp.config import INDEX_VARIABLE, Config, IndexConfig, default_config_file, load_config
from colbert_mcp.errors import ConfigError

DEFAULT = "default"
_SHOWN = 10


def add_measuring_commands(commands: Any, add: Any) -> None:
    """Add eval and compare; ``add`` makes a parser with the options that all commands have."""
    evaluated = add(commands, "eval", evaluate, "measure how well searches find what is known to answer")
    evaluated.add_argument(
        "dataset", type=Path, help="a folder in BEIR's layout, or a file of questions on your own index"
    )
    _add_options(evaluated)
    evaluated.add_argument("--rows", type=Path, metavar="FILE", help="write every query to FILE, for compare")

    compared = add(commands, "compare", compare, "compare two configurations on the same queries")
    compared.add_argument(
        "a", metavar="A", help="with --on a configuration file or `default`, else what eval --rows wrote"
    )
    compared.add_argument("b", metavar="B", help="likewise")
    compared.add_argument("--on", type=Path, metavar="DATASET", help="evaluate both configurations on this")
    compared.add_argument("--changed", type=int, default=_SHOWN, metavar="N", help="changed queries to show (10)")
    _add_options(compared)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--split", help="of the data set: qrels/SPLIT.tsv (default: test)")
    parser.add_argument("--queries", type=int, metavar="N", help="at most N queries, drawn alike each time")
    parser.add_argument("--mode", choices=["hybrid", "semantic", "lexical"], help="default: hybrid")
    parser.add_argument(
        "--exhaustive", type=int, metavar="N", help="compare candidates with all tokens on N queries (default 50)"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep documents and index in DIR, and use them again")


def evaluate(options: argparse.Namespace, config: Config) -> int:
    """Measure how well searches find what is known to answer."""
    from colbert_mcp.measuring.comparing import check_writable, write_rows
    from colbert_mcp.measuring.evaluating import evaluate, in_use
    from colbert_mcp.render.measuring import eval_lines

    how = _how(options)
    if options.rows is not None:
        settings = options.config or default_config_file()
        check_writable(options.rows, [*in_use(config, options.dataset, how), settings])
    with steps("reading", shown=not options.json) as step:
        rows = evaluate(config, options.dataset, how, _escaped(step))
    if options.rows is not None:
        write_rows(rows, options.rows)
    return show_result(rows.output, options, eval_lines)


def compare(options: argparse.Namespace, config: Config) -> int:
    """Compare two configurations on the same queries."""
    from colbert_mcp.measuring.comparing import compare, compare_configurations, read_rows
    from colbert_mcp.render.measuring import compare_lines

    if options.changed < 0:
        raise ConfigError(f"--changed is {options.changed}; it must be 0 or more.")
    if options.config is not None:
        raise ConfigError("compare takes its configurations as A and B; leave --config out.")
    if options.on is None:
        if given := ", ".join(f"--{name}" for name in _given(options)):
            raise ConfigError(f"{given}: only to evaluate; give a data set: colbert-mcp compare A B --on DATASET.")
        output = compare(read_rows(Path(options.a)), read_rows(Path(options.b)))
    else:
        a, b = (_configuration(name, options.index) for name in (options.a, options.b))
        with steps("reading", shown=not options.json) as step:
            output = compare_configurations(a, b, options.on, _how(options), _escaped(step))
    names = (options.a, options.b)
    return show_result(output, options, lambda shown: compare_lines(shown, names, options.changed))


def _how(options: argparse.Namespace) -> Any:
    from colbert_mcp.measuring.evaluating import Evaluation

    return Evaluation(**_given(options))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of an evaluation that were typed; the others are Evaluation's to choose."""
    values = {name: getattr(options, name) for name in ("split", "queries", "mode", "exhaustive", "keep")}
    return {name: value for name, value in values.items() if value is not None}


def _configuration(name: str, index: str | None) -> Config:
    """The configuration of a file, or the program's own defaults; of the index, option and environment win."""
    from colbert_mcp.measuring.reading import is_there

    if name != DEFAULT:
        file = Path(name)
        if not is_there(file):
            raise ConfigError(f"There is no configuration file {file}; give one that is there, or `{DEFAULT}`.")
        if not file.is_file():
            raise ConfigError(f"{file} is not a regular file; give a configuration file, or `{DEFAULT}`.")
        if _holds_rows(file):
            raise ConfigError(f"{file} is no configuration file; compare what eval --rows wrote without --on.")
        return load_config(file, index=index)
    return Config(index=IndexConfig(path=index or os.environ.get(INDEX_VARIABLE, "")))


def _holds_rows(file: Path) -> bool:
    """Whether a file may be what eval --rows writes: JSON, which no configuration file begins like."""
    try:
        with file.open("rb") as opened:
            return opened.read(1) == b"{"
    except OSError:
        return False


def _escaped(step: Callable[[str], None] | None) -> Callable[[str], None]:
    return (lambda _: None) if step is None else lambda what: step(escape(what))
