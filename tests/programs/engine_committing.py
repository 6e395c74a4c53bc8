"""``engine.py``, but each document is a commit, and its passages are short: there is much to be interrupted.

python engine_committing.py INDEX
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fake_encoder import FakeEncoder

import colbert_mcp.indexing.indexer
from colbert_mcp.sharing.daemon import main

if __name__ == "__main__":
    colbert_mcp.indexing.indexer._GROUP_TOKENS = 1
    main(FakeEncoder(content_length=12))
