"""Commands that keep an index and say what it holds: index, sources, status, remove, gc; and its processes."""

import argparse
import sys
from functools import partial
from pathlib import Path

from colbert_mcp.attach import Index, opened_to_plan
from colbert_mcp.cli.output import INTERRUPTED, print_json, print_lines, print_note, show_result
from colbert_mcp.cli.progress import progress_bar, spinner
from colbert_mcp.config import Config
from colbert_mcp.errors import UnreadableDocumentError
from colbert_mcp.results import IndexOutput, RemoveOutput


def serve(options: argparse.Namespace, config: Config) -> int:
    """Serve MCP on standard input and output."""
    from colbert_mcp.sharing.stdio import serve  # mcp loads for this command alone

    for root in options.root:
        if not Path(root).expanduser().exists():
            raise UnreadableDocumentError(f"There is no folder {root}; --root takes one that is there.")
    if options.watch:
        config = config.model_copy(update={"server": config.server.model_copy(update={"watch": True})})
    serve(config, options.root, standalone=options.standalone)
    return 0


def engine(options: argparse.Namespace, config: Config) -> int:
    """Show or end the engine of the index."""
    from colbert_mcp.render.upkeep import engine_lines
    from colbert_mcp.sharing.launch import engine_output, stop_engine
    from colbert_mcp.sharing.rendezvous import Rendezvous

    rendezvous = Rendezvous(config.index_path.resolve())
    output = engine_output(rendezvous) if options.action == "status" else stop_engine(rendezvous)
    return show_result(output, options, partial(engine_lines, named=config.for_index))


def index(options: argparse.Namespace, config: Config) -> int:
    """Index folders or files, or plan it."""
    from colbert_mcp.render.upkeep import index_lines

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
                    print_note("It stops after the batch at hand; what is committed is kept.")
                    output = index.wait_for_run(path, None)
            outputs.append(output)
            if not options.json:
                print_lines(index_lines(output, list_skipped=options.list_skipped))
            if interrupted:
                break
    if options.json:
        print_json(outputs)
    return INTERRUPTED if interrupted else 0


def status(options: argparse.Namespace, config: Config) -> int:
    """Show what the index holds and its model."""
    from colbert_mcp.render.upkeep import status_lines

    with Index.open(config=config, create=False) as index:
        output = index.index_status()
    return show_result(output, options, status_lines)


def sources(options: argparse.Namespace, config: Config) -> int:
    """List what is indexed."""
    from colbert_mcp.render.upkeep import sources_lines

    with Index.open(config=config, create=False) as index:
        output = index.list_sources(options.path, limit=options.limit)
    return show_result(output, options, sources_lines)


def remove(options: argparse.Namespace, config: Config) -> int:
    """Take folders or files out of the index."""
    from colbert_mcp.render.upkeep import remove_lines

    outputs: list[RemoveOutput] = []
    with Index.open(config=config, create=False) as index:
        for path in options.path:
            outputs.append(index.remove_path(path))
            if not options.json:
                print_lines(remove_lines(outputs[-1]))
    if options.json:
        print_json(outputs)
    return 0


def gc(options: argparse.Namespace, config: Config) -> int:
    """Give back disk space."""
    from colbert_mcp.render.upkeep import gc_lines

    shown = not options.json
    with Index.open(config=config, create=False) as index, spinner("writing the index's files anew", shown=shown):
        output = index.gc(options.former_days)
    return show_result(output, options, gc_lines)
