"""What a client waits for and what each costs: `initialize` of `serve` against the SDK's floor, and many at once.

    python bench/startup.py [--rounds 7] [--clients 20]

Prints the median time from starting a process to its answer to `initialize`, for a server of the SDK that does nothing
and for `serve`, in turn, and their ratio; what a call costs on its way to the engine; then starts so many `serve` at
once over an index of the project's examples and prints how many engines there are, what each process takes, and how
long all of them wait for their first search.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from colbert_mcp import Index
from colbert_mcp.sharing.launch import engine_output, stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

EXAMPLES = Path(__file__).parent.parent / "examples" / "documents"
FLOOR = "from mcp.server import MCPServer\nMCPServer('floor').run()\n"
CLIENT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}}
MEGABYTE = 1e6


class Server:
    """A server process on pipes."""

    def __init__(self, *arguments: str) -> None:
        self._started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, number: int, method: str, params: dict[str, object]) -> dict[str, object]:
        """The answer to a request."""
        self.tell({"id": number, "method": method, "params": params})
        assert self.process.stdout is not None
        answer: dict[str, object] = json.loads(self.process.stdout.readline())
        return answer

    def tell(self, message: dict[str, object]) -> None:
        """Send a message."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def initialize(self) -> float:
        """Seconds from the start of the process to the answer."""
        self.ask(1, "initialize", CLIENT)
        seconds = time.perf_counter() - self._started
        self.tell({"method": "notifications/initialized"})
        return seconds

    def end(self) -> None:
        """Close its input and wait."""
        self.process.communicate()


def resident(pid: int) -> float:
    """Resident memory in megabytes (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MEGABYTE for line in lines if line.startswith("VmRSS"))


def initialize_seconds(*arguments: str) -> float:
    """How long a fresh process takes to answer `initialize`."""
    server = Server(*arguments)
    seconds = server.initialize()
    server.end()
    return seconds


def search(index: Path) -> tuple[Server, float]:
    """Start `serve` and search; the server is left running."""
    began = time.perf_counter()
    server = Server("-m", "colbert_mcp", "--index", str(index), "serve")
    server.initialize()
    answer = server.ask(2, "tools/call", {"name": "search", "arguments": {"query": "what smells of nail varnish?"}})
    result = answer["result"]
    assert isinstance(result, dict)
    assert result["structuredContent"]["results"], result
    return server, time.perf_counter() - began


def median_call(index: Index) -> float:
    """Seconds that a question about the index takes, the median of many."""
    seconds = []
    for _ in range(50):
        began = time.perf_counter()
        index.index_status()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=20, help="0: only the first measurement")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        rendezvous = Rendezvous(path)
        with Index.open(path) as index:
            index.index_path(EXAMPLES)
        kept, _ = search(path)  # an engine runs, so that starting one does not disturb the measurement
        floors, serves = [], []
        for _ in range(options.rounds):
            floors.append(initialize_seconds("-c", FLOOR))
            serves.append(initialize_seconds("-m", "colbert_mcp", "--index", str(path), "serve"))
        floor, serve = statistics.median(floors), statistics.median(serves)
        print(f"initialize: SDK {floor:.3f} s, serve {serve:.3f} s, ratio {serve / floor:.2f}")
        with Index.open(path) as index:
            print(f"a call that does next to nothing: {median_call(index) * 1000:.0f} ms through the engine", end=", ")
        kept.end()
        stop_engine(rendezvous)
        with Index.open(path) as index:
            print(f"{median_call(index) * 1000:.0f} ms without")

        if not options.clients:
            return
        with ThreadPoolExecutor(options.clients) as threads:
            answered = list(threads.map(search, [path] * options.clients))
        each = [resident(server.process.pid) for server, _ in answered]
        status = engine_output(rendezvous).engine
        assert status is not None
        starts = rendezvous.log.read_text(encoding="utf-8").count(" serves ")
        print(
            f"{options.clients} at once: {starts - 1} engine started, {len(answered)} answers, {status.clients} clients"
        )
        print(f"first answer after {max(seconds for _, seconds in answered):.1f} s (the last of them)")
        print(f"resident: engine {resident(status.pid):.0f} MB, serve {statistics.mean(each):.0f} MB each")
        for server, _ in answered:
            server.end()
        stop_engine(rendezvous)


if __name__ == "__main__":
    main()
