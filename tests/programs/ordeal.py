"""Uses copies of an index that are handed to it, each in a process of its own, forked with everything imported.

    python ordeal.py

Reads lines of JSON, ``[index, tree, ids, chroma]``, and answers each with one: ``signal`` (what ended the process, 0 for none), and,
if it came to its end, ``answers`` (by passage id, all that was said of it, before and after the tree was indexed again),
``verdicts``, ``errors`` (typed ones) and ``crashes`` (tracebacks of others).
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import chromadb  # noqa: F401  # imported once, for all forks
from fake_encoder import FakeEncoder

import colbert_mcp.store.vectors  # noqa: F401
from colbert_mcp.config import Config, IndexConfig, SearchConfig, StoreConfig
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ColbertMCPError, PassageNotFoundError
from colbert_mcp.results import Passage
from colbert_mcp.retrieval import count_tokens

SECONDS = 60
ADDRESS_SPACE = 6_000_000_000
QUESTIONS = ("the river and its bank", "queen heron")
SCORES = {
    "score", "maxsim", "bm25", "dense", "quote", "quote_span", "explanation", "also_at", "near_duplicate_of",
    "indexed_at", "status_reason",
}  # fmt: skip


class Ordeal:
    """What is asked of one index, and what came of it."""

    def __init__(self, index: str, tree: str, known: list[str], chroma: bool) -> None:
        self.config = Config(
            index=IndexConfig(path=index), search=SearchConfig(min_candidates=5), store=StoreConfig(chroma=chroma)
        )
        self.tree = tree
        self.known = known
        self.answers: dict[str, dict[str, list[dict[str, Any]]]] = {"before": {}, "after": {}}
        self.verdicts: list[str] = []
        self.errors: list[str] = []
        self.crashes: list[str] = []

    def run(self) -> None:
        engine = self.tried(lambda: Engine.open(self.config, create_missing=False, encoder=FakeEncoder()))
        if engine is None:
            return
        self.ask(engine, "before")
        self.tried(lambda: engine.index_path(self.tree))
        self.ask(engine, "after")
        self.tried(engine.close)

    def ask(self, engine: Engine, when: str) -> None:
        for question in QUESTIONS:
            for mode in ("lexical", "semantic", "hybrid"):
                self.tried(lambda: self.search(engine, when, question, mode))  # noqa: B023
        for passage_id in list(self.known):
            self.tried(lambda: self.get(engine, when, passage_id))  # noqa: B023
        for quote, target in (
            ("A queen cell means swarming", None),
            ("A queen cell means swarming", self.known[0] if self.known else None),
            ("A queen bee means no honey at all this year", None),
        ):
            self.tried(lambda: self.verify(engine, quote, target))  # noqa: B023
        self.tried(engine.list_sources)
        self.tried(engine.index_status)

    def search(self, engine: Engine, when: str, question: str, mode: Any) -> None:
        for passage in engine.search(question, limit=8, mode=mode, max_tokens=10**6, explain=mode == "hybrid").results:
            assert passage.quote is None or passage.quote in passage.text
            self.keep(when, passage)
            if passage.id not in self.known:
                self.known.append(passage.id)

    def get(self, engine: Engine, when: str, passage_id: str) -> None:
        output = engine.get_passage(passage_id)
        self.keep(when, output.passage)
        around = {"before": output.before_text, "after": output.after_text}
        self.put(when, passage_id + " around", around)

    def verify(self, engine: Engine, quote: str, target: str | None) -> None:
        output = engine.verify_quote(quote, target)
        self.verdicts.append(output.verdict)
        for match in output.matches:
            self.put(when="before", key=match.passage_id + " match " + quote, value=match.model_dump(mode="json"))

    def keep(self, when: str, passage: Passage) -> None:
        self.put(when, passage.id, passage.model_dump(mode="json", exclude=SCORES))

    def put(self, when: str, key: str, value: dict[str, Any]) -> None:
        said = self.answers[when].setdefault(key, [])
        if value not in said:
            said.append(value)

    def tried(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except ColbertMCPError as error:
            if not isinstance(error, PassageNotFoundError):
                self.errors.append(f"{type(error).__name__}: {error}")
        except BaseException:  # noqa: BLE001  # told to the test
            self.crashes.append(traceback.format_exc())
        return None


def _child(line: str, descriptor: int) -> None:
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    index, tree, known, chroma = json.loads(line)
    ordeal = Ordeal(index, tree, known, chroma)
    ordeal.run()
    said = {name: getattr(ordeal, name) for name in ("answers", "verdicts", "errors", "crashes", "known")}
    with os.fdopen(descriptor, "w") as pipe:
        json.dump(said, pipe)


def main() -> None:
    """Answer one line after another."""
    count_tokens("")  # loads the vocabulary
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(reading)
                _child(line, writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        answer = json.loads(said) if said else {}
        print(json.dumps({**answer, "signal": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
