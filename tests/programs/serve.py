"""``serve`` with an engine that has the fake encoder in the model's place.

python serve.py INDEX GATE_OR_EMPTY [ROOT …]
"""

import sys
from pathlib import Path

from colbert_mcp.config import load_config
from colbert_mcp.sharing.stdio import serve

if __name__ == "__main__":
    index, gate, *roots = sys.argv[1:]
    engine = [sys.executable, str(Path(__file__).with_name("engine.py"))]
    serve(load_config(index=index), roots, command=[*engine, gate] if gate else engine)
