"""Commands about models: model show, export, make-head, check, lengths.

A model that is named on the command line and not in the configuration never runs code of its own.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from colbert_mcp.cli.output import escape, show_result
from colbert_mcp.cli.progress import spinner, steps
from colbert_mcp.config import BUILTIN, Config, ModelConfig
from colbert_mcp.errors import ConfigError

# Not an error of the program, so no branch of ``errors``: the two models are not the same.
DIFFERENT = 9


def add_model_commands(actions: Any, add: Any) -> None:
    """Add the commands under ``model``; ``add`` makes a parser with the options that all commands have."""
    show_parser = add(actions, "show", show, "show what is used of a model, and where each value comes from")
    show_parser.add_argument("name", nargs="?", help="a directory or hub id (default: [model] name)")

    export_parser = add(actions, "export", export, "write a Stanford ColBERT checkpoint as a PyLate directory")
    export_parser.add_argument("name", help="a directory or hub id")
    export_parser.add_argument("output", type=Path, help="the directory to write; nothing may be there yet")

    head = add(actions, "make-head", make_head, "put a fixed projection over a plain transformer, on purpose")
    head.add_argument("directory", type=Path, help="a transformer without a projection")
    head.add_argument("--output", type=Path, required=True, metavar="DIR", help="the directory to write")
    head.add_argument("--dimension", type=int, default=128, help="dimensions of a token embedding (default 128)")

    check_parser = add(actions, "check", check, "encode reference texts, and compare two layouts of one model")
    check_parser.add_argument("name", help="a directory or hub id")
    check_parser.add_argument("other", nargs="?", help="another layout of the same model")

    lengths_parser = add(actions, "lengths", lengths, "measure what longer passages cost on files of yours")
    lengths_parser.add_argument("path", help="folder or file; a sample of it is indexed with each length")
    lengths_parser.add_argument("--labelled", type=Path, metavar="DIR", help="a labelled set in BEIR's layout")
    lengths_parser.add_argument("--sample-bytes", type=int, metavar="N", help="bytes of files (default 200000)")
    lengths_parser.add_argument("--queries", type=int, metavar="N", help="queries of the labelled set (default 50)")
    lengths_parser.add_argument("--documents", type=int, metavar="N", help="documents of it (default 300)")


def show(options: argparse.Namespace, config: Config) -> int:
    """Show what is used of a model, and why."""
    from colbert_mcp.encoder.description import describe  # torch loads with it
    from colbert_mcp.render.models import model_lines

    model = _named(config, options.name)
    # A reranker belongs to the configuration, not to a model that is only looked at.
    search = config.search if model is config.model else None
    return show_result(describe(model, search), options, model_lines)


def export(options: argparse.Namespace, config: Config) -> int:
    """Write a Stanford ColBERT checkpoint as a PyLate directory."""
    from colbert_mcp.encoder.exporting import export  # torch loads with it
    from colbert_mcp.render.models import written_lines

    return show_result(export(_named(config, options.name), options.output), options, written_lines)


def make_head(options: argparse.Namespace, config: Config) -> int:
    """Write a plain transformer as a PyLate directory under a fixed projection."""
    from colbert_mcp.encoder.exporting import make_head  # torch loads with it
    from colbert_mcp.render.models import written_lines

    return show_result(make_head(options.directory, options.output, options.dimension), options, written_lines)


def check(options: argparse.Namespace, config: Config) -> int:
    """Encode reference texts, and compare two layouts of one model."""
    from colbert_mcp.encoder import load_encoder
    from colbert_mcp.encoder.comparing import check_model
    from colbert_mcp.render.models import model_check_lines

    with spinner("loading the model", shown=not options.json):
        names = [options.name] if options.other is None else [options.name, options.other]
        # In full precision: what is compared is the layouts, not the number format.
        models = [_named(config, name).model_copy(update={"dtype": "float32"}) for name in names]
        output = check_model(*map(load_encoder, models))
    show_result(output, options, model_check_lines)
    return 0 if output.same else DIFFERENT


def lengths(options: argparse.Namespace, config: Config) -> int:
    """Measure what longer passages cost."""
    from colbert_mcp.measuring.lengths import Sample, measure
    from colbert_mcp.render.models import lengths_lines

    _named(config, None)
    given = {"bytes": options.sample_bytes, "queries": options.queries, "documents": options.documents}
    sample = Sample(**{name: value for name, value in given.items() if value is not None})
    with steps("loading the model", shown=not options.json) as step:
        told = (lambda _: None) if step is None else lambda what: step(escape(what))
        output = measure(config, options.path, options.labelled, sample, told)
    return show_result(output, options, lengths_lines)


def _named(config: Config, name: str | None) -> ModelConfig:
    """The configured model, or another one without the right to run code; never one in an indexed folder with it."""
    if name is None or _is_same(name, config.model):
        if config.model.trust_remote_code:
            from colbert_mcp.encoder import check_outside
            from colbert_mcp.store import roots_of  # numpy loads with it

            check_outside(config.model, roots_of(config.index_path.resolve()))
        return config.model
    if not name:
        raise ConfigError("The name of the model is empty; give a directory or a hub id.")
    kept = {key: getattr(config.model, key) for key in ("device", "dtype", "threads", "batch_tokens")}
    return ModelConfig(name=_with_full_path(name), **kept)


def _is_same(name: str, model: ModelConfig) -> bool:
    """Whether a name on the command line is that of a model, or another path of its directory."""
    if name == model.name or model.directory is None or not name:
        return name == model.name
    return _with_full_path(name) == os.path.realpath(model.directory)


def _with_full_path(name: str) -> str:
    """The name of a model; of what lies at such a path, also in the working directory, the full path."""
    given = ModelConfig(name=name).directory or Path(name)
    return os.path.realpath(given) if name != BUILTIN and os.path.lexists(given) else name
