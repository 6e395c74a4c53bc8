"""Starts the child process. Run as a file, so that none of the packages above it are executed: they load too much."""

import sys
import types
from pathlib import Path


def _bare_packages() -> None:
    """Make the modules of this folder importable under their full names, and no more than that."""
    names = "colbert_mcp.documents.extraction", "colbert_mcp.documents", "colbert_mcp"
    for name, folder in zip(names, Path(__file__).resolve().parent.parents, strict=False):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package


if __name__ == "__main__":
    _bare_packages()
    from colbert_mcp.documents.extraction.worker.serve import main

    main(sys.argv[1:])
