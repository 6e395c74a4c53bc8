"""Commands that look after an index and what is around it: check, doctor."""

import argparse

from colbert_mcp.attach import Index
from colbert_mcp.cli.output import escape, show_result
from colbert_mcp.cli.progress import steps
from colbert_mcp.config import Config
from colbert_mcp.errors import IndexCorruptError
from colbert_mcp.results import CheckOutput

# Not an error of the program, so no branch of ``errors``: what was looked at is not well.
UNSOUND = 9


def check(options: argparse.Namespace, config: Config) -> int:
    """Verify the index, and repair it if asked to."""
    from colbert_mcp.render.health import check_lines

    with steps("checking the index", shown=not options.json) as step:
        try:
            with Index.open(config=config, create=False) as index:
                output = index.check(
                    read_data=options.read_data,
                    repair=options.repair,
                    step=None if step is None else lambda what: step(escape(what)),
                )
        except IndexCorruptError as error:
            output = _beyond_repair(config, error)
    show_result(output, options, check_lines)
    return 0 if output.sound else UNSOUND


def doctor(options: argparse.Namespace, config: Config) -> int:
    """Look at everything that is needed here; the settings may be what is wrong, so it reads them itself."""
    from colbert_mcp.doctor import examine
    from colbert_mcp.render.health import doctor_lines

    with steps("looking around", shown=not options.json) as step:
        told = (lambda _: None) if step is None else step
        output = examine(options.config, index=options.index, quick=options.quick, step=told)
    show_result(output, options, doctor_lines)
    return UNSOUND if output.errors else 0


def _beyond_repair(config: Config, error: IndexCorruptError) -> CheckOutput:
    """What is answered where the catalogue cannot be opened: which folders to index anew, if it still tells."""
    from colbert_mcp.store import roots_of
    from colbert_mcp.upkeep.integrity import unreadable

    directory = config.index_path.resolve()
    return unreadable(str(directory), roots_of(directory), error, config.for_index)
