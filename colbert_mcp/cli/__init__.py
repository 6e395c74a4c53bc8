"""The command line: a client of the same functions as the MCP server, and the only part that prints.

Results go to standard output, progress and errors to standard error. Exit codes: 0, 1 (unexpected), 2 (usage), and one
for each branch of ``errors``; 8 where ``verify`` met a quotation that does not stand; 9 where ``check`` leaves damage
or ``doctor`` an error; 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence

from colbert_mcp.cli.arguments import command_parser
from colbert_mcp.cli.output import INTERRUPTED, fail
from colbert_mcp.config import Config, load_config
from colbert_mcp.errors import ColbertMCPError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = command_parser().parse_args(arguments)
    config = Config()
    try:
        config = load_config(options.config, index=options.index) if options.reads_settings else config
        code: int = options.run(options, config)
    except ColbertMCPError as error:
        fail(config.for_index(str(error)))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more while it flushes at exit.
        sys.stdout = None
        return 0
    return code
