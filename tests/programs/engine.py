"""An engine with the fake encoder in the model's place: the same functions as the real one, started in the same way.

    python engine.py [GATE] INDEX

The first batch of documents waits until the FIFO ``GATE`` has been opened for writing and closed again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from fake_encoder import FakeEncoder

from colbert_mcp.sharing.daemon import main


def _gated(gate: Path) -> FakeEncoder:
    waited: list[bool] = []

    def wait() -> None:
        if not waited:
            waited.append(True)
            gate.read_bytes()

    return FakeEncoder(before_batch=wait)


if __name__ == "__main__":
    main(_gated(Path(sys.argv[1])) if len(sys.argv) > 2 else FakeEncoder())
