"""``python -m colbert_mcp``: the command line."""

import sys

from colbert_mcp.cli import main

sys.exit(main())
