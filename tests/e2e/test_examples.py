"""The product as users meet it: the built-in encoder, real processes, the example documents and scripts."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters
from support import PROJECT

from colbert_mcp import Index
from colbert_mcp.cli import main
from colbert_mcp.lexical import STOP_WORDS
from colbert_mcp.results import Passage, SearchOutput
from colbert_mcp.results.measuring import EvalOutput
from colbert_mcp.sharing.launch import stop_engine
from colbert_mcp.sharing.rendezvous import Rendezvous

pytestmark = pytest.mark.real_encoder

EXAMPLES = PROJECT / "examples"
QUESTIONS = [
    {"question": asked["question"], "quote": asked["quote"], "file": expected["path"], "line": expected["lines"][0]}
    for asked in map(json.loads, (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines())
    for expected in asked["expected"]
]
FIRST = 3


@pytest.fixture(scope="module")
def index(examples_index: Path) -> Iterator[Index]:
    with Index.open(examples_index) as opened:
        yield opened


def answers(passage: Passage, question: dict[str, object]) -> bool:
    return (
        passage.path == str(EXAMPLES / str(question["file"]))
        and passage.line_start <= int(str(question["line"])) <= passage.line_end
        and str(question["quote"]) in passage.text
    )


def rank(output: SearchOutput, question: dict[str, object]) -> int | None:
    return next((n for n, passage in enumerate(output.results, 1) if answers(passage, question)), None)


def content_words(text: str) -> set[str]:
    words = {word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in STOP_WORDS}
    return {re.sub(r"(?:es|s|ed|ing)$", "", word) for word in words}


def test_the_examples_evaluated(copied_index: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(EXAMPLES / "questions.jsonl"), "--index", str(copied_index), "--json"]) == 0
    output = EvalOutput.model_validate_json(capsys.readouterr().out)
    values = {estimate.metric: estimate.value for estimate in output.metrics}
    assert output.queries == 20
    assert values["ndcg_at_10"] > 0.9
    assert values["recall_at_10"] == 1
    assert output.candidate_recall_at_10 == 1


def test_the_examples_are_twenty_questions_on_twelve_or_more_files() -> None:
    assert len(QUESTIONS) == 20
    assert len({question["file"] for question in QUESTIONS}) >= 12


def test_eighteen_of_twenty_questions_are_answered_among_the_first_three(
    index: Index, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks = {mode: [] for mode in ("hybrid", "semantic", "lexical")}  # type: dict[str, list[int | None]]
    for question in QUESTIONS:
        for mode, found in ranks.items():
            output = index.search(question["question"], limit=10, mode=mode, max_tokens=50_000)  # type: ignore[arg-type]
            found.append(rank(output, question))
    hits = {mode: sum(n is not None and n <= FIRST for n in found) for mode, found in ranks.items()}
    with capsys.disabled():
        print(f"\nanswered among the first {FIRST} of 20: hybrid {hits['hybrid']}, ", end="")
        print(f"MaxSim alone {hits['semantic']}, BM25 alone {hits['lexical']}")
    missed = [q["question"] for q, n in zip(QUESTIONS, ranks["hybrid"], strict=True) if n is None or n > FIRST]
    assert hits["hybrid"] >= 18, missed


def test_the_questions_share_at_most_half_of_their_content_words_with_the_answer(index: Index) -> None:
    for question in QUESTIONS:
        output = index.search(str(question["quote"]), limit=10, mode="lexical", max_tokens=50_000)
        passage = next(passage for passage in output.results if answers(passage, question))
        asked = content_words(question["question"])
        assert len(asked & content_words(passage.text)) <= len(asked) / 2, question["question"]


def test_every_example_passage_is_its_source(index: Index) -> None:
    for source in index.list_sources().documents:
        for passage in index.search("a", path=source.path, limit=50, max_tokens=100_000).results:
            if source.encoding == "extracted":
                assert (passage.byte_start, passage.byte_end) == (None, None)
                assert passage.sha256 == hashlib.sha256(passage.text.encode()).hexdigest()
                continue
            raw = Path(passage.path).read_bytes()[passage.byte_start : passage.byte_end]
            assert raw.decode(source.encoding) == passage.text


def test_read_index_goes_from_a_chroma_record_to_source_and_tokens(copied_index: Path) -> None:
    script = EXAMPLES / "read_index.py"
    imports = set(re.findall(r"^(?:import|from) (\w+)", script.read_text(), re.MULTILINE))
    assert imports - sys.stdlib_module_names == {"chromadb", "numpy"}
    done = subprocess.run([sys.executable, script, copied_index], capture_output=True, text=True, check=True)
    assert "hash holds" in done.stdout
    assert re.search(r"tokens   \d+ x 128, lengths 1\.00", done.stdout)
    assert re.search(r"^\d+ records, 0 whose source bytes no longer have their hash$", done.stdout, re.MULTILINE)


def test_the_example_agent_prints_a_quote_with_its_citation(copied_index: Path, environment: dict[str, str]) -> None:
    question = "How many days apart should spring inspections be to prevent swarming?"
    command = [sys.executable, EXAMPLES / "agent.py", copied_index, EXAMPLES, question]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    quote, citation = re.fullmatch(r"“(.+)”\n(\[.+)\n", done.stdout, re.DOTALL).groups()  # type: ignore[union-attr]
    assert quote in (EXAMPLES / "documents/outdoors/beekeeping-year.md").read_text(encoding="utf-8-sig")
    assert re.match(
        r"\[beekeeping-year\.md > .+\]\(file:///.+beekeeping-year\.md#L\d+-L\d+\), current, sha256 ", citation
    )


def test_the_builtin_model_opens_no_connection(copied_index: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "otter.md").write_text("# Otters\n\nAn otter sleeps on its back and holds a paw.\n")
    code = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if not (event == "socket.connect" and isinstance(arguments[1], (str, bytes))):
            raise SystemExit(f"a connection was attempted: {event} {arguments[1:]}")
sys.addaudithook(refuse)
from colbert_mcp.cli import main
sys.exit(main(["index", sys.argv[1], "--index", sys.argv[2]]) or main(["search", "sleeping otters", "--index", sys.argv[2]]))
"""
    command = [sys.executable, "-c", code, tmp_path / "otter.md", copied_index]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "otter.md:1" in done.stdout


def test_a_read_only_index_is_searched_by_someone_who_may_not_write(
    copied_index: Path, environment: dict[str, str]
) -> None:
    command = [
        sys.executable,
        "-m",
        "colbert_mcp",
        "--index",
        str(copied_index),
        "search",
        "swarming",
        "--mode=lexical",
    ]
    for path in [copied_index, *copied_index.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    if os.geteuid() == 0:  # root may write anywhere unless it gives that capability up
        command = ["setpriv", "--bounding-set=-dac_override", *command]
    before = {path: path.stat().st_mtime_ns for path in copied_index.rglob("*")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    for path in [copied_index, *copied_index.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert (done.returncode, done.stderr) == (0, "")
    assert "beekeeping-year.md" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in copied_index.rglob("*")} == before


def test_serve_speaks_over_real_pipes_and_ends_with_its_input(copied_index: Path, environment: dict[str, str]) -> None:
    async def body() -> None:
        arguments = ["-m", "colbert_mcp", "serve", "--index", str(copied_index)]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
        async with Client(server) as client:
            found = await client.call_tool("search", {"query": "when may the hives be opened?", "limit": 1})
            assert not found.is_error
            assert found.structured_content is not None
            assert "beekeeping" in found.structured_content["results"][0]["path"]

    anyio.run(body)
    assert Rendezvous(copied_index).endpoint() is not None, "the engine goes on"
    assert stop_engine(Rendezvous(copied_index)).stopped
    assert not (copied_index / "owner.json").exists()
    shutil.rmtree(copied_index)
