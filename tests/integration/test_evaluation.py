"""Evaluating and comparing: metrics are those of their definitions, sets are read whatever they hold, both commands."""

import gzip
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_encoder import FakeEncoder
from samples import CREDENTIALS
from support import PROJECT

import colbert_mcp.engine
import colbert_mcp.measuring.evaluating
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, ModelConfig, SearchConfig, StoreConfig
from colbert_mcp.encoder import Encoder, Query
from colbert_mcp.errors import ColbertMCPError, ConfigError, QueryError, StoreError, UnreadableDocumentError
from colbert_mcp.maxsim import maxsim
from colbert_mcp.measuring.asking import Asker, candidate_recall, exhaustive_scores, held
from colbert_mcp.measuring.comparing import compare, compare_configurations
from colbert_mcp.measuring.corpus import write_documents
from colbert_mcp.measuring.evaluating import Evaluation, evaluate
from colbert_mcp.measuring.labelled import read_labelled
from colbert_mcp.measuring.metrics import METRICS, interval, per_query
from colbert_mcp.measuring.questions import read_questions
from colbert_mcp.measuring.reading import MAX_LINE_BYTES
from colbert_mcp.render.measuring import eval_lines
from colbert_mcp.results.measuring import CompareOutput, EvalOutput, EvalRow, EvalRows, Judged
from colbert_mcp.store.lock import IndexLock

Run = Callable[..., tuple[int, str, str]]
CORPUS = {
    "bread": "Feed the starter three times when it smells of varnish.",
    "bees": "Inspect the hives every seventh day in May.",
    "tide": "The gauge shows the height of the tide each hour.",
    "kiln": "Open the damper slowly while the kiln cools.",
    "choir": "Scores are lent for six weeks at a time.",
}
QUERIES = {"q1": "starter smells", "q2": "inspect hives", "q3": "height of the tide", "q4": "lent scores"}
JUDGED = {"q1": {"bread": 1}, "q2": {"bees": 2, "kiln": 1}, "q3": {"tide": 1}}


def dataset(folder: Path, split: str = "test") -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": name, "title": "", "text": text} for name, text in CORPUS.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    lines = [f"{query}\t{document}\t{gain}\n" for query, gains in JUDGED.items() for document, gain in gains.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[FakeEncoder]:
    """Fake encoders in the place of models, each named as the configured model; those that were loaded."""
    encoders: list[FakeEncoder] = []

    def load(model: ModelConfig) -> Encoder:
        encoders.append(FakeEncoder(name=model.name))
        return encoders[-1]

    for module in (colbert_mcp.engine, colbert_mcp.measuring.evaluating):
        monkeypatch.setattr(module, "load_encoder", load)
    return encoders


@pytest.fixture
def run(tmp_path: Path, loaded: list[FakeEncoder], capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command over ``tmp_path/index``; returns exit code, standard output and standard error."""

    def command(*arguments: object) -> tuple[int, str, str]:
        code = main([*map(str, arguments), "--index", str(tmp_path / "index")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def config(**search: float) -> Config:
    return Config(search=SearchConfig(**search), store=StoreConfig(chroma=False))  # type: ignore[arg-type]


# Metrics


def test_metrics_are_those_of_their_definitions() -> None:
    rankings = [["a", "b"], ["x", "a"], ["a", "b"], ["x"] + [f"y{n}" for n in range(9)] + ["a"], []]
    relevance = [{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 3}, {"a": 1, "b": 1}, {"a": 1}]
    second = 1 / math.log2(3)
    expected = [
        [1, 1, 1, 1],
        [second, 1, 1, 1 / 2],
        [(1 + 3 * second) / (3 + second), 1, 1, 1],
        [0, 0, 1 / 2, 0],  # at rank 11: beyond what nDCG@10, Recall@10 and MRR@10 see
        [0, 0, 0, 0],
    ]
    assert METRICS == ("ndcg_at_10", "recall_at_10", "recall_at_100", "mrr_at_10")
    np.testing.assert_allclose(per_query(rankings, relevance), expected, atol=1e-9)


def test_recall_ends_at_a_hundred_and_order_is_kept_that_far() -> None:
    ranking = [f"d{n}" for n in range(150)]
    values = per_query([ranking, ranking, ranking], [{"d99": 1}, {"d100": 1}, {"d9": 1, "d10": 1}])
    assert values[:, 2].tolist() == [1, 0, 1]
    assert values[:, 1].tolist() == [0, 0, 0.5]


def test_names_of_any_kind_are_told_apart() -> None:
    names = ["a\0b", "a\0c", "a", " a", "", "é", "é"]
    for name in names:
        assert per_query([names], [{name: 1}])[0, 3] == pytest.approx(1 / (names.index(name) + 1))


def test_a_missing_library_is_told_before_anything_is_done(
    tmp_path: Path, run: Run, notes: Path, loaded: list[FakeEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    folder = dataset(tmp_path / "set")
    for command in (["eval", folder], ["model", "lengths", notes, "--labelled", folder]):
        code, _, err = run(*command)
        assert (code, "pip install pytrec-eval-terrier" in err) == (3, True)
    assert not loaded


def test_an_interval_is_that_of_resampled_means_and_the_same_each_time() -> None:
    values = np.array([0.0] * 30 + [1.0] * 70)
    found = interval(values)
    assert found == interval(values)
    assert found.mean == 0.7
    draws = np.random.default_rng(5).choice(values, (4000, 100)).mean(axis=1)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=0.011)
    assert interval(np.array([0.5])) == (0.5, None, None)
    assert interval(np.ones(4)) == (1, 1, 1)


# Reading


@pytest.mark.parametrize("packed", [False, True])
def test_a_set_is_read_with_what_ends_lines_elsewhere(tmp_path: Path, packed: bool) -> None:
    folder = dataset(tmp_path / "set")
    text = "one\u2028two\u2029three\x85four\x0bfive\x1csix"
    lines = json.dumps({"_id": 7, "title": "Ends", "text": text}, ensure_ascii=False) + "\r\n\r\n"
    (folder / "corpus.jsonl").write_bytes(b"\xef\xbb\xbf" + lines.encode())
    (folder / "qrels" / "test.tsv").write_text("q1\t7\t1.0\nq2\t7\t0\nq2\tabsent\t-1\nq3\tabsent\t2\nlost\t7\t1\n")
    if packed:
        for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    found = read_labelled(folder)
    assert found.documents == {"7": f"Ends\n\n{text}"}
    assert found.relevance == {"q1": {"7": 1}, "q3": {"absent": 2}}
    assert (found.missing, found.unasked) == (1, 2)


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "not JSON": ("corpus.jsonl", b"{'_id': 1}", r"corpus\.jsonl, line 1: it is not JSON"),
    "nested beyond measure": ("corpus.jsonl", b"[" * 100_000, "it is not JSON"),
    "no object": ("corpus.jsonl", b"[]", "not a JSON object"),
    "no text": ("corpus.jsonl", b'{"_id": "a"}', "no text under text"),
    "a number for a text": ("corpus.jsonl", b'{"_id": "a", "text": 3}', "no text under text"),
    "an id that is none": ("corpus.jsonl", b'{"_id": true, "text": "x"}', "no text under _id"),
    "a title that is none": ("corpus.jsonl", b'{"_id": "a", "text": "x", "title": ["y"]}', "no text under title"),
    "a lone surrogate": ("corpus.jsonl", b'{"_id": "a", "text": "\\ud800"}', "half of a surrogate pair"),
    "a lone surrogate in an id": ("corpus.jsonl", b'{"_id": "\\udfff", "text": "x"}', "half of a surrogate pair"),
    "two of an id": ("corpus.jsonl", b'{"_id": 1, "text": "x"}\n{"_id": "1", "text": "y"}', "line 2: another document"),
    "not UTF-8": ("corpus.jsonl", b'{"_id": "a", "text": "\xff"}', "not UTF-8"),
    "nothing": ("corpus.jsonl", b"", "no query of the split test with a relevant document"),
    "none of what is judged": ("corpus.jsonl", b'{"_id": "other", "text": "x"}', "no query of the split"),
    "an empty query": ("queries.jsonl", b'{"_id": "q1", "text": " \\n"}', "text of the query is empty"),
    "a query with half a pair": ("queries.jsonl", b'{"_id": "q1", "text": "\\udc00"}', "half of a surrogate pair"),
    "no queries": ("queries.jsonl", b"\n\n", "no query of the split test"),
    "two columns": ("qrels/test.tsv", b"a\tb\tc\nq1\tbread\n", "line 2: it does not have"),
    "relevance without a number": ("qrels/test.tsv", b"a\tb\tc\nq1\tbread\tyes\n", "line 2: the relevance is not"),
    "infinite relevance": ("qrels/test.tsv", b"q1\tbread\tinf\n", "the relevance is not"),
    "relevance that is no number": ("qrels/test.tsv", b"q1\tbread\tnan\n", "the relevance is not"),
    "half relevant": ("qrels/test.tsv", b"q1\tbread\t0.5\n", "the relevance is not"),
    "relevance beyond measure": ("qrels/test.tsv", b"q1\tbread\t1e300\n", "the relevance is not"),
    "only headings": ("qrels/test.tsv", b"a\tb\tc\n", "no query of the split test"),
    "NUL in a judgement": ("qrels/test.tsv", b"q1\0\tbread\t1\n", "no query of the split test"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_set_may_not_hold_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    name, content, message = HOSTILE[case]
    folder = dataset(tmp_path / "set")
    (folder / name).write_bytes(content)
    with pytest.raises(UnreadableDocumentError, match=message):
        read_labelled(folder)


def damaged_archives() -> dict[str, bytes]:
    whole = gzip.compress(json.dumps({"_id": "a", "text": "text " * 1000}).encode(), mtime=0)
    flipped = bytearray(whole)
    flipped[20] ^= 0xFF
    checked = bytearray(whole)
    checked[-6] ^= 0xFF
    return {
        "cut off": whole[:-20],
        "cut off in its header": whole[:5],
        "flipped": bytes(flipped),
        "another sum": bytes(checked),
        "none": b"plain text",
        "rubbish behind": whole + b"rubbish",
    }


@pytest.mark.parametrize("case", damaged_archives())
def test_a_damaged_archive_is_told_as_such(tmp_path: Path, case: str) -> None:
    folder = dataset(tmp_path / "set")
    (folder / "corpus.jsonl").unlink()
    (folder / "corpus.jsonl.gz").write_bytes(damaged_archives()[case])
    with pytest.raises(UnreadableDocumentError, match="is damaged"):
        read_labelled(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "corpus.jsonl.gz"])
@pytest.mark.parametrize("kind", ["FIFO", "device", "folder"])
def test_only_regular_files_of_a_set_are_read(tmp_path: Path, name: str, kind: str) -> None:
    folder = dataset(tmp_path / "set")
    (folder / name.removesuffix(".gz")).unlink()
    in_the_way(folder / name, kind)
    with pytest.raises(UnreadableDocumentError, match="is not a regular file"):
        read_labelled(folder)


@pytest.mark.parametrize("kind", ["FIFO", "device"])
def test_only_regular_files_are_asked_or_compared(tmp_path: Path, run: Run, kind: str) -> None:
    in_the_way(tmp_path / "odd", kind)
    for command in (["eval", tmp_path / "odd"], ["compare", tmp_path / "odd", tmp_path / "odd"]):
        code, _, err = run(*command)
        assert (code, "is not a regular file" in err) == (4, True)
    code, _, err = run("compare", "default", tmp_path / "odd", "--on", dataset(tmp_path / "set"))
    assert (code, "is not a regular file; give a configuration file" in err) == (3, True)


def in_the_way(path: Path, kind: str) -> None:
    """Something that is no regular file."""
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to(os.devnull)
    else:
        path.mkdir()


@pytest.mark.parametrize("packed", [False, True])
def test_a_line_beyond_measure_is_told_before_it_is_read_whole(tmp_path: Path, packed: bool) -> None:
    folder = dataset(tmp_path / "set")
    (folder / "corpus.jsonl").unlink()
    content = b"\n" + b" " * (MAX_LINE_BYTES + 1)
    if packed:
        (folder / "corpus.jsonl.gz").write_bytes(gzip.compress(content * 4, 1))
    else:
        (folder / "corpus.jsonl").write_bytes(content)
    with pytest.raises(UnreadableDocumentError, match="line 2: it is longer than 67,108,864 bytes"):
        read_labelled(folder)


def test_names_that_no_file_can_have_are_told(tmp_path: Path, run: Run) -> None:
    long = "a" * 300
    code, _, err = run("eval", dataset(tmp_path / "set"), "--split", long)
    assert (code, "has no split" in err) == (4, True)
    absent = tmp_path / long
    for command, told in ((["eval", absent], "There is no"), (["compare", absent, absent], "Cannot read")):
        code, _, err = run(*command)
        assert (code, told in err) == (4, True)
    assert run("compare", "default", "default", "--on", tmp_path / long)[0] == 4
    assert run("compare", "default", tmp_path / long, "--on", tmp_path / "set")[0] == 3
    keep = ["--keep", tmp_path / long]
    assert run("eval", tmp_path / "set", *keep)[0] == 6
    assert run("eval", tmp_path / "set", *keep, "--rows", tmp_path / "rows.json")[0] == 6


def test_a_split_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set", split="dev")
    with pytest.raises(UnreadableDocumentError, match=r"no split test; choose one with --split: dev\."):
        read_labelled(folder)
    assert len(read_labelled(folder, split="dev").queries) == 3
    with pytest.raises(UnreadableDocumentError, match="not in BEIR's layout"):
        read_labelled(tmp_path)
    with pytest.raises(UnreadableDocumentError, match="is not a folder"):
        read_labelled(tmp_path / "absent")


@pytest.mark.parametrize("number", [0, -1])
def test_numbers_below_one_are_refused(tmp_path: Path, number: int, run: Run, notes: Path) -> None:
    folder = dataset(tmp_path / "set")
    for arguments in ({"queries": number}, {"documents": number}):
        with pytest.raises(QueryError, match=f"is {number}; it must be at least 1"):
            read_labelled(folder, **arguments)
    assert run("eval", folder, "--queries", number)[0] == 7
    assert "exhaustive is -1" in run("eval", folder, "--exhaustive", -1)[2]
    for option in ("--queries", "--documents", "--sample-bytes"):
        code, _, err = run("model", "lengths", notes, "--labelled", folder, option, number)
        assert (code, f"is {number}; it must be at least 1" in err) == (7, True), option


def test_queries_are_drawn_alike_each_time(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set")
    assert read_labelled(folder, queries=2) == read_labelled(folder, queries=2)
    assert read_labelled(folder, queries=2).documents.keys() == CORPUS.keys()


QUESTIONS = {
    "no question": ('{"expected": [{"path": "a.md"}]}', "no text under question"),
    "an empty one": ('{"question": " ", "expected": [{"path": "a.md"}]}', "the question is empty"),
    "nothing expected": ('{"question": "x"}', "does not say what is expected"),
    "an empty list": ('{"question": "x", "expected": []}', "does not say what is expected"),
    "a path alone": ('{"question": "x", "expected": ["a.md"]}', "does not say what is expected"),
    "no path": ('{"question": "x", "expected": [{"lines": [1, 2]}]}', "no text under path"),
    "a NUL": ('{"question": "x", "expected": [{"path": "a\\u0000"}]}', "has a NUL"),
    "one line": ('{"question": "x", "expected": [{"path": "a", "lines": 3}]}', "lines are not"),
    "line 0": ('{"question": "x", "expected": [{"path": "a", "lines": [0, 3]}]}', "lines are not"),
    "lines backwards": ('{"question": "x", "expected": [{"path": "a", "lines": [4, 3]}]}', "lines are not"),
    "lines that are none": ('{"question": "x", "expected": [{"path": "a", "lines": [true, 3]}]}', "lines are not"),
    "no questions": ("\n", "holds no questions"),
    "one id twice": ('{"id": 1, "question": "x", "expected": [{"path": "a"}]}\n' * 2, "line 2: another question"),
}


@pytest.mark.parametrize("case", QUESTIONS)
def test_what_is_no_question_is_told_with_its_place(tmp_path: Path, case: str) -> None:
    content, message = QUESTIONS[case]
    (tmp_path / "questions.jsonl").write_text(content)
    with pytest.raises(UnreadableDocumentError, match=message):
        read_questions(tmp_path / "questions.jsonl")


# Evaluating


def test_a_set_is_indexed_and_asked(tmp_path: Path, run: Run) -> None:
    code, out, err = run("eval", dataset(tmp_path / "set"), "--rows", tmp_path / "rows.json", "--json")
    assert (code, err) == (0, "")
    output = EvalOutput.model_validate_json(out)
    assert (output.queries, output.documents, output.passages, output.split) == (3, 5, 5, "test")
    assert output.candidate_recall_at_10 == 1
    assert output.exhaustive_queries == 3
    assert output.settings["search"] == Config().search.model_dump()
    rows = EvalRows.model_validate_json((tmp_path / "rows.json").read_bytes())
    assert rows.output == output
    found = {row.id: row for row in rows.rows}
    assert found["q1"].first[0] == "bread"
    assert found["q1"].rank == 1
    ranking = found["q2"].first
    assert found["q2"].relevant == [
        Judged(name="bees", relevance=2, rank=ranking.index("bees") + 1),
        Judged(name="kiln", relevance=1, rank=ranking.index("kiln") + 1),
    ]
    second = ranking.index("kiln") + 1
    assert found["q2"].ndcg_at_10 == pytest.approx((2 + 1 / math.log2(second + 1)) / (2 + 1 / math.log2(3)))
    value = next(estimate.value for estimate in output.metrics if estimate.metric == "ndcg_at_10")
    assert value == pytest.approx(np.mean([row.ndcg_at_10 for row in rows.rows]))
    assert {latency.what for latency in output.latency} == {"answer", "encoding", "search"}
    assert not (tmp_path / "index").exists(), "the user's own index has no part in it"


def test_what_is_printed_says_on_what_it_was_measured(tmp_path: Path, run: Run) -> None:
    settings = tmp_path / "settings.toml"
    settings.write_text("[search]\nbm25_weight = 0.25\n[store]\nchroma = false\n")
    folder = dataset(tmp_path / "set")
    with (folder / "qrels" / "test.tsv").open("a") as judgements:
        judgements.write("q4\tabsent\t1\nq9\tbees\t1\n")
    code, out, _ = run("--config", settings, "eval", folder, "--mode", "semantic", "--exhaustive", 2)
    assert code == 0
    assert f"4 queries of {folder} (test); 5 documents, 5 passages" in out
    assert "mode semantic; builtin on cpu in float32; search.bm25_weight = 0.25; store.chroma = False." in out
    assert re.search(r"nDCG@10 +0\.\d{3}  0\.\d{3} … 1\.000", out)
    assert re.search(r"encoding +\d+\.\d +\d+\.\d", out)
    assert "Candidates hold 1.000 of the ten best by MaxSim over all stored tokens (2 queries; 5 of 5" in out
    assert "Relevant documents that are not in the corpus, and count as not found: 1." in out
    assert "Judged queries left out, without a text or a relevant document: 1." in out


def test_a_folder_that_is_kept_is_used_again(tmp_path: Path, run: Run, loaded: list[FakeEncoder]) -> None:
    folder, keep = dataset(tmp_path / "set"), tmp_path / "kept"
    first = EvalOutput.model_validate_json(run("eval", folder, "--keep", keep, "--json")[1])
    again = EvalOutput.model_validate_json(run("eval", folder, "--keep", keep, "--json")[1])
    assert [encoder.encoded for encoder in loaded][1] == 0, "no document is encoded again"
    assert (first.indexing_seconds is None, again.indexing_seconds) == (False, None)
    assert again.metrics == first.metrics
    records = (folder / "corpus.jsonl").read_text().splitlines()
    (folder / "corpus.jsonl").write_text("\n".join(records[1:]))
    fewer = EvalOutput.model_validate_json(run("eval", folder, "--keep", keep, "--json")[1])
    assert fewer.documents == 4
    settings = tmp_path / "settings.toml"
    settings.write_text('[model]\nname = "other"\n')
    assert run("--config", settings, "eval", folder, "--keep", keep)[0] == 0
    assert len(list(keep.glob("index-*"))) == 2, "another model has an index of its own"
    settings.write_text('[store]\nembedding_format = "float16"\nchroma = false\n')
    assert run("--config", settings, "eval", folder, "--keep", keep)[0] == 0
    assert len(list(keep.glob("index-*"))) == 3, "and so has another way to store"


def test_a_model_under_another_name_has_the_same_index(
    tmp_path: Path, loaded: list[FakeEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, how = dataset(tmp_path / "set"), Evaluation(keep=tmp_path / "kept")
    evaluate(config(), folder, how)
    same = FakeEncoder(name="builtin")
    same.fingerprint = replace(same.fingerprint, model="a directory")
    monkeypatch.setattr(colbert_mcp.measuring.evaluating, "load_encoder", lambda _: same)
    evaluate(config(), folder, how)
    assert same.encoded == 0


def test_a_kept_folder_may_lie_where_nothing_else_is_indexed(tmp_path: Path, run: Run) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".gitignore").write_text("*\n")
    code, out, _ = run("eval", dataset(tmp_path / "set"), "--keep", tmp_path / ".kept", "--json")
    assert code == 0
    assert EvalOutput.model_validate_json(out).documents == 5


def test_a_folder_with_other_files_is_not_written_to(tmp_path: Path, run: Run, notes: Path) -> None:
    before = sorted(notes.rglob("*"))
    code, _, err = run("eval", dataset(tmp_path / "set"), "--keep", notes)
    assert code == 3
    assert "holds other files" in err
    assert sorted(notes.rglob("*")) == before
    assert run("eval", tmp_path / "set", "--keep", notes / "bees.txt")[0] == 6
    kept = tmp_path / "kept"
    assert run("eval", tmp_path / "set", "--keep", kept)[0] == 0
    shutil.rmtree(kept / "documents")
    (kept / "documents").write_text("in the way")
    code, _, err = run("eval", tmp_path / "set", "--keep", kept)
    assert (code, "Cannot write documents below" in err) == (6, True)


@pytest.mark.parametrize("marker", ["{}", '{"score": 0.5}', "not JSON", "[" * 5000, json.dumps(list(range(5000)))])
def test_a_folder_whose_evaluation_is_another_programs_is_not_written_to(tmp_path: Path, run: Run, marker: str) -> None:
    keep = tmp_path / "mine"
    (keep / "documents" / "letters").mkdir(parents=True)
    (keep / "documents" / "letters" / "aunt.txt").write_text("mine")
    (keep / "evaluation.json").write_text(marker)
    before = sorted(keep.rglob("*"))
    code, _, err = run("eval", dataset(tmp_path / "set"), "--keep", keep)
    assert (code, "holds other files" in err) == (3, True)
    assert sorted(keep.rglob("*")) == before


PLANTED = [
    "evaluation.json",
    "documents",
    "documents/.ignore",
    "documents/0000",
    "documents/0000/0000000.txt",
    "documents/0001",
    "documents/other",
    "documents/0000/other",
]


@pytest.mark.parametrize("name", PLANTED)
def test_no_link_in_a_kept_folder_is_followed(tmp_path: Path, run: Run, name: str) -> None:
    folder, keep, elsewhere = dataset(tmp_path / "set"), tmp_path / "kept", tmp_path / "elsewhere"
    assert run("eval", folder, "--keep", keep)[0] == 0
    planted = keep / name
    if planted.exists():
        shutil.move(planted, elsewhere)
    else:
        elsewhere.mkdir()
        (elsewhere / "aunt.txt").write_text("mine")
    planted.symlink_to(elsewhere)
    (folder / "corpus.jsonl").write_text(
        "\n".join(json.dumps({"_id": name, "text": f"{text} More."}) for name, text in list(CORPUS.items())[:4])
    )
    (keep / "documents" / "0000" / "0000001.txt").write_text("changed")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = run("eval", folder, "--keep", keep)
    assert (code in (3, 6), str(planted) in err.replace("\n", "")) == (True, True), err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["x.txt", "letters/aunt.txt", "0000/aunt.txt", "0000/0000000.txt/aunt.txt"])
def test_what_else_lies_among_documents_is_told_and_kept(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "documents"
    stray = folder / name
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    before = sorted(folder.rglob("*"))
    with pytest.raises(StoreError, match=r"was not written there by an evaluation; move it away"):
        write_documents({"d0": "text", "d1": "other"}, folder)
    assert sorted(folder.rglob("*")) == before


def test_a_document_that_is_also_another_file_leaves_that_one_as_it_is(tmp_path: Path) -> None:
    folder, mine = tmp_path / "documents", tmp_path / "mine.txt"
    (folder / "0000").mkdir(parents=True)
    mine.write_text("mine")
    os.link(mine, folder / "0000" / "0000000.txt")
    write_documents({"d0": "text"}, folder)
    assert mine.read_text() == "mine"
    assert (folder / "0000" / "0000000.txt").read_text() == "text"


def test_documents_are_written_once_and_those_that_are_gone_deleted(tmp_path: Path) -> None:
    names = write_documents({f"d{n}": f"text {n}" for n in range(1002)}, tmp_path / "documents")
    assert names["0001/0001001.txt"] == "d1001"
    unchanged = tmp_path / "documents" / "0000" / "0000000.txt"
    os.utime(unchanged, ns=(0, 0))
    assert len(write_documents({"d0": "text 0", "d1": "other"}, tmp_path / "documents")) == 2
    files = sorted(path.name for path in (tmp_path / "documents").rglob("*.txt"))
    assert files == ["0000000.txt", "0000001.txt"]
    assert unchanged.stat().st_mtime_ns == 0
    assert (tmp_path / "documents" / "0000" / "0000001.txt").read_text() == "other"


def test_documents_that_the_index_refuses_are_told(tmp_path: Path, run: Run) -> None:
    folder = dataset(tmp_path / "set")
    with (folder / "corpus.jsonl").open("a") as corpus:
        corpus.write("\n" + json.dumps({"_id": "key", "text": CREDENTIALS[0]}))
    code, out, _ = run("eval", folder)
    assert code == 0
    assert (
        "were not indexed, and count as not found: holds what looks like a private key, an access token or password hashes (1)."
        in out
    )


def test_a_query_that_cannot_be_asked_is_named_before_anything_is_indexed(
    tmp_path: Path, run: Run, loaded: list[FakeEncoder]
) -> None:
    folder = dataset(tmp_path / "set")
    with (folder / "queries.jsonl").open("a") as queries:
        queries.write("\n" + json.dumps({"_id": "q1", "text": "word " * 3000}))
    code, _, err = run("eval", folder)
    assert code == 7
    assert "In query q1 of" in err
    assert not loaded


def test_ranks_are_of_documents_each_by_its_best_passage(tmp_path: Path, loaded: list[FakeEncoder]) -> None:
    folder = dataset(tmp_path / "set")
    long = "\n\n".join(f"The starter smells again, on day {n}, of something else altogether." for n in range(30))
    records = [{"_id": "long", "text": long}, *({"_id": name, "text": text} for name, text in CORPUS.items())]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, records)))
    rows = evaluate(config(), folder, Evaluation(mode="semantic"))
    assert rows.output.passages > 10
    row = next(row for row in rows.rows if row.id == "q1")
    assert sorted(row.first) == sorted([*CORPUS, "long"])
    assert row.rank in (1, 2)


def test_candidates_are_compared_with_maxsim_over_all_stored_tokens(tmp_path: Path, loaded: list[FakeEncoder]) -> None:
    folder = dataset(tmp_path / "set")
    words = np.random.default_rng(3)
    corpus = [{"_id": f"d{n}", "text": " ".join(f"w{word}" for word in words.integers(0, 400, 30))} for n in range(300)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "w1 w2 w3 w4 w5 w6 w7 w8"}')
    (folder / "qrels" / "test.tsv").write_text("q1\td0\t1\n")
    found = {}
    for least in (10, 1000):
        how = Evaluation(mode="semantic", keep=tmp_path / "kept")
        output = evaluate(config(min_candidates=least, candidate_growth=0.0), folder, how).output
        found[least] = output.candidates, output.candidate_recall_at_10
    assert found[1000] == (300, 1)
    assert found[10][0] == 10
    (index,) = (tmp_path / "kept").glob("index-*")
    own = config(min_candidates=10, candidate_growth=0.0).model_copy(update={"index": IndexConfig(path=str(index))})
    with held([own]) as (store,), store.snapshot() as snapshot:
        asker = Asker(store, loaded[0], own, "semantic")
        query = loaded[0].encode_query("w1 w2 w3 w4 w5 w6 w7 w8")
        exact = exhaustive_scores(snapshot, query)
        np.testing.assert_array_equal(exact, maxsim(query.token_embeddings, snapshot.gather(np.arange(len(snapshot)))))
        best = set(snapshot.chunks[np.argsort(-exact)[:10]].tolist())
        share = len(best & set(asker.ask("w1 w2 w3 w4 w5 w6 w7 w8").chunks.tolist())) / 10
    assert found[10][1] == pytest.approx(share)
    assert share < 1


def test_any_of_equal_scores_is_a_candidate_that_counts() -> None:
    exact = np.array([0.9, *[0.5] * 20, 0.1], np.float32)
    assert candidate_recall(exact, np.array([0, *range(11, 20)])) == 1
    assert candidate_recall(exact, np.array([*range(1, 10)])) == 0.9
    assert candidate_recall(exact, np.array([21])) == 0
    assert candidate_recall(exact[:2], np.array([1])) == 0.5
    rounded = np.array([0.5] * 10 + [np.nextafter(np.float32(0.5), np.float32(0))], np.float32)
    assert candidate_recall(rounded, np.arange(1, 11)) == 1


# Questions on the user's own index


def test_questions_are_asked_of_the_users_own_index(tmp_path: Path, run: Run, notes: Path) -> None:
    run("index", notes)
    asked = [
        {"question": "a queen cell", "expected": [{"path": "bees.txt"}]},
        {"question": "open the damper", "expected": [{"path": "bread.md", "lines": [7, 7]}], "id": "steam"},
        {"question": "feed three times", "expected": [{"path": str(notes / "bread.md"), "lines": [3, 3]}]},
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)))
    code, out, _ = run("eval", file, "--json", "--rows", tmp_path / "rows.json")
    assert code == 0
    output = EvalOutput.model_validate_json(out)
    assert (output.kind, output.split, output.queries, output.documents) == ("questions", None, 3, 3)
    first, second, third = EvalRows.model_validate_json((tmp_path / "rows.json").read_bytes()).rows
    assert (first.id, first.first[0], len(first.first)) == ("1", str(notes / "bees.txt"), 3)
    assert (second.id, second.relevant[0].name) == ("steam", f"{notes / 'bread.md'}:7-7")
    assert [row.rank for row in (first, second, third)] == [1, 1, 1]
    assert len(second.first) == 4, "where lines count, passages are ranked"
    lexical = run("eval", file, "--mode", "lexical")
    assert lexical[0] == 0
    assert "mode lexical; no model loaded" in lexical[1]
    assert "--keep is for a labelled set" in run("eval", file, "--keep", tmp_path / "kept")[2]


def test_an_index_that_an_engine_has_is_told_with_what_ends_it_before_a_model_is_loaded(
    tmp_path: Path, run: Run, notes: Path, loaded: list[FakeEncoder]
) -> None:
    run("index", notes)
    loaded.clear()
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": "a queen cell", "expected": [{"path": "bees.txt"}]}))
    owner = {"pid": 1, "command": "colbert-mcp engine", "since": "now"}
    lock = IndexLock(tmp_path / "index")
    lock.acquire()
    try:
        (tmp_path / "index" / "owner.json").write_text(json.dumps(owner))
        for command in (["eval", file], ["compare", "default", "default", "--on", file]):
            code, _, err = run(*command)
            assert (code, f"colbert-mcp --index {tmp_path / 'index'} engine stop" in err) == (6, True)
    finally:
        lock.release()
    assert not loaded


def test_questions_about_what_is_not_indexed_are_told(tmp_path: Path, run: Run, notes: Path) -> None:
    run("index", notes)
    file = tmp_path / "questions.jsonl"
    for expected, message in (
        ({"path": "honey.md"}, "line 1: honey.md is not in the index"),
        ({"path": "bees.txt", "lines": [90, 95]}, "no passage of bees.txt has one of the lines 90 to 95"),
    ):
        file.write_text(json.dumps({"question": "x", "expected": [expected]}))
        code, _, err = run("eval", file)
        assert (code, message in err) == (4, True)
    shutil.rmtree(tmp_path / "index")
    code, _, err = run("eval", file)
    assert (code, "There is no index" in err) == (6, True)


def test_the_questions_of_the_examples_are_understood(tmp_path: Path, run: Run) -> None:
    run("index", PROJECT / "examples")
    code, out, _ = run("eval", PROJECT / "examples" / "questions.jsonl", "--json")
    assert code == 0
    assert EvalOutput.model_validate_json(out).queries == 20


# Comparing


def test_two_configurations_are_compared_on_the_same_queries(
    tmp_path: Path, run: Run, loaded: list[FakeEncoder]
) -> None:
    folder, settings = dataset(tmp_path / "set"), tmp_path / "words.toml"
    settings.write_text("[search]\nmaxsim_weight = 0.0\ndense_weight = 0.0\n")
    code, out, err = run("compare", "default", settings, "--on", folder, "--json")
    assert (code, err) == (0, "")
    output = CompareOutput.model_validate_json(out)
    assert output.settings == ["search.maxsim_weight: 0.4 → 0.0", "search.dense_weight: 0.3 → 0.0"]
    assert len(loaded) == 1, "a model that both name is loaded once"
    assert loaded[0].encoded == 5, "and what it makes of the documents is shared"
    for difference in output.differences:
        assert difference.difference == pytest.approx(difference.b - difference.a)
        assert difference.wins + difference.ties + difference.losses == output.queries == 3
    assert run("compare", "default", "default", "--on", folder)[1].endswith("No query changed.\n")


def test_each_query_is_asked_of_both_and_who_is_first_alternates(
    tmp_path: Path, loaded: list[FakeEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    original = FakeEncoder.encode_query

    def encode_query(self: FakeEncoder, query: str) -> Query:
        asked.append((self.fingerprint.model, query))
        return original(self, query)

    monkeypatch.setattr(FakeEncoder, "encode_query", encode_query)
    a, b = (config().model_copy(update={"model": ModelConfig(name=name)}) for name in "ab")
    output = compare_configurations(a, b, dataset(tmp_path / "set"), Evaluation(exhaustive=1))
    one, two, three = (QUERIES[name] for name in JUDGED)
    warm, compared = [("a", one), ("b", one)], [("a", one), ("b", one)]
    timed = [("a", one), ("b", one), ("b", two), ("a", two), ("a", three), ("b", three)]
    assert asked == warm + timed + compared
    assert (output.a.exhaustive_queries, output.b.candidate_recall_at_10) == (1, 1)


def rows(**values: tuple[float, int | None]) -> EvalRows:
    """Rows with an nDCG and a first rank each."""
    output = EvalOutput.model_validate(
        {
            "dataset": "d",
            "kind": "labelled set",
            "split": "test",
            "mode": "hybrid",
            "model": "m",
            "device": None,
            "dtype": None,
            "queries": len(values),
            "documents": 1,
            "passages": 1,
            "tokens": 1,
            "metrics": [],
            "latency": [],
            "candidates": 1.0,
            "candidate_recall_at_10": None,
            "exhaustive_queries": 0,
            "indexing_seconds": None,
            "bytes": 1,
            "settings": {},
            "version": "0",
            "notices": [],
        }
    )
    told = [
        EvalRow(
            id=name,
            query=f"text of {name}",
            ndcg_at_10=ndcg,
            recall_at_10=float(ndcg > 0),
            recall_at_100=1.0,
            mrr_at_10=ndcg,
            rank=rank,
            relevant=[Judged(name="a", relevance=1, rank=rank)],
            first=[],
            encoding_ms=1,
            search_ms=1,
            candidate_recall_at_10=None,
        )
        for name, (ndcg, rank) in values.items()
    ]
    return EvalRows(output=output, rows=told)


def test_differences_are_paired_and_the_largest_changes_come_first() -> None:
    a = rows(q1=(0.5, 3), q2=(1.0, 1), q3=(0.0, None), q4=(0.0, 30), q5=(0.3, 9))
    b = rows(q1=(0.6, 2), q2=(0.2, 8), q3=(0.0, None), q4=(0.0, 12), q6=(1.0, 1))
    output = compare(a, b)
    assert output.queries == 4
    assert output.notices == ["Left out: 2 queries that only one of the two has."]
    ndcg = output.differences[0]
    assert (ndcg.a, ndcg.b, ndcg.difference) == pytest.approx((0.375, 0.2, -0.175))
    assert (ndcg.wins, ndcg.ties, ndcg.losses) == (1, 2, 1)
    assert ndcg.low is not None
    assert ndcg.high is not None
    assert ndcg.low < ndcg.difference < ndcg.high
    changed = [(query.id, query.rank_a, query.rank_b) for query in output.changed]
    assert changed == [("q2", 1, 8), ("q1", 3, 2), ("q4", 30, 12)]


def test_a_difference_that_is_the_same_everywhere_is_sure() -> None:
    output = compare(rows(q1=(0.1, 9), q2=(0.8, 1)), rows(q1=(0.2, 8), q2=(0.9, 1)))
    assert (output.differences[0].low, output.differences[0].high) == pytest.approx((0.1, 0.1))


def test_written_rows_are_compared(tmp_path: Path, run: Run) -> None:
    folder = dataset(tmp_path / "set")
    for mode in ("hybrid", "lexical"):
        assert run("eval", folder, "--mode", mode, "--rows", tmp_path / mode)[0] == 0
    code, out, _ = run("compare", tmp_path / "hybrid", tmp_path / "lexical", "--changed", 1)
    assert code == 0
    assert "What differs: search.mode: hybrid → lexical." in out
    assert re.search(r"nDCG@10 +[01]\.\d{3} +[01]\.\d{3} +[+-]0\.\d{3} +[+-][01]\.\d{3} … ", out)
    assert "1 query changed; 1 shown" in out
    assert re.search(r"1\.000 → 0\.\d{3}  rank 1 → \S+ +q2: inspect hives|0\.\d{3} → 0\.\d{3}  rank 1 → 1 +q2", out)


ALTERED: dict[str, tuple[tuple[str | int, ...], object]] = {
    "a metric above one": (("rows", 0, "ndcg_at_10"), 1.5),
    "a metric below none": (("rows", 0, "mrr_at_10"), -0.1),
    "a metric that is no number": (("rows", 0, "recall_at_10"), math.nan),
    "a metric without end": (("rows", 0, "recall_at_100"), math.inf),
    "rank 0": (("rows", 0, "rank"), 0),
    "a judged rank below one": (("rows", 0, "relevant", 0, "rank"), -1),
    "relevance of nothing": (("rows", 0, "relevant", 0, "relevance"), 0),
    "time that ran backwards": (("rows", 0, "search_ms"), -1.0),
    "time without end": (("rows", 0, "encoding_ms"), math.inf),
    "one id twice": (("rows", 1, "id"), "q1"),
    "more queries than rows": (("output", "queries"), 3),
    "fewer than no passages": (("output", "passages"), -1),
    "fewer than no bytes": (("output", "bytes"), -1),
    "candidates that are no number": (("output", "candidates"), math.nan),
    "an unknown metric": (("output", "metrics"), [{"metric": "luck", "value": 1, "low": None, "high": None}]),
    "an estimate above one": (("output", "metrics"), [{"metric": "mrr_at_10", "value": 2, "low": None, "high": None}]),
    "a latency that is no number": (("output", "latency"), [{"what": "answer", "p50": math.nan, "p95": 1.0}]),
}


@pytest.mark.parametrize("case", ALTERED)
def test_rows_that_no_evaluation_has_are_not_compared(tmp_path: Path, run: Run, case: str) -> None:
    file, whole = tmp_path / "rows.json", rows(q1=(0.5, 1), q2=(1.0, 1)).model_dump(mode="json")
    file.write_text(json.dumps(whole))
    assert run("compare", file, file)[0] == 0
    (*way, last), value = ALTERED[case]
    part: Any = whole
    for step in way:
        part = part[step]
    part[last] = value
    file.write_text(json.dumps(whole))
    code, _, err = run("compare", file, file)
    assert (code, "is not what eval --rows writes" in err) == (4, True)


def test_a_terminal_obeys_nothing_of_written_rows(tmp_path: Path, run: Run) -> None:
    odd = "\x1b[2J\u202e\x07\n"
    whole = rows(q1=(0.5, 1)).model_dump(mode="json")
    for name in ("dataset", "split", "model", "device", "dtype", "reranker", "version"):
        whole["output"][name] = odd
    whole["output"]["settings"] = {odd: {odd: odd}}
    whole["output"]["latency"] = [{"what": odd, "p50": 1.0, "p95": 1.0}]
    whole["output"]["notices"] = [odd]
    whole["rows"][0].update(id=odd, query=odd, first=[odd])
    whole["rows"][0]["relevant"][0]["name"] = odd
    (tmp_path / "a").write_text(json.dumps(whole))
    whole["output"]["settings"] = {odd: {odd: "other"}}
    whole["rows"][0].update(ndcg_at_10=1.0)
    (tmp_path / "b").write_text(json.dumps(whole))
    code, out, _ = run("compare", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "1 query changed" in out
    assert not {"\x1b", "\u202e", "\x07"} & set(out)
    shown = list(
        eval_lines(
            EvalRows.model_validate_json((tmp_path / "a").read_bytes()).output.model_copy(update={"settings": {}})
        )
    )
    assert not {"\x1b", "\u202e", "\x07", "\n"} & set("".join(line.plain for line in shown))
    whole["rows"][0].update(query="other")
    (tmp_path / "b").write_text(json.dumps(whole))
    code, _, err = run("compare", tmp_path / "a", tmp_path / "b")
    assert (code, "\x1b" in err) == (3, False)


def test_what_cannot_be_compared_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match="no query in common"):
        compare(rows(q1=(0.5, 1)), rows(q2=(0.5, 1)))
    other = rows(q1=(0.5, 1))
    changed = other.model_copy(update={"rows": [other.rows[0].model_copy(update={"query": "another"})]})
    with pytest.raises(ConfigError, match=r"other queries or judgements \(q1\)"):
        compare(other, changed)
    (tmp_path / "settings.toml").write_text("")
    code, _, err = run("compare", tmp_path / "settings.toml", "default")
    assert (code, "settings.toml is not what eval --rows writes" in err) == (4, True)
    (tmp_path / "rows.json").write_text(other.model_dump_json())
    for a, b in (("default", "settings.toml"), (tmp_path / "rows.json", "absent.json"), (tmp_path, "default")):
        err = run("compare", a, b)[2]
        assert "`colbert-mcp eval DATASET --rows FILE`" in err
        assert "colbert-mcp compare A B --on DATASET" in err
    on = ("--on", dataset(tmp_path / "set"))
    code, _, err = run("compare", "default", tmp_path / "absent.toml", *on)
    assert (code, "absent.toml; give one that is there, or `default`" in err) == (3, True)
    assert "compare what eval --rows wrote without --on" in run("compare", tmp_path / "rows.json", "default", *on)[2]
    code, _, err = run("compare", "default", "default", "--on", tmp_path / "nowhere")
    assert (code, "give a folder in BEIR's layout, or a file of questions" in err) == (4, True)
    assert "--queries, --mode: only to evaluate" in run("compare", "a", "b", "--queries", 2, "--mode", "lexical")[2]
    assert "leave --config out" in run("--config", tmp_path / "settings.toml", "compare", "a", "b")[2]
    assert "--changed is -1" in run("compare", "a", "b", "--changed", -1)[2]


def test_rows_that_cannot_be_written_are_told_before_anything_is_evaluated(
    tmp_path: Path, run: Run, loaded: list[FakeEncoder]
) -> None:
    code, _, err = run("eval", dataset(tmp_path / "set"), "--rows", tmp_path / "absent" / "rows.json")
    assert (code, "choose another file with --rows" in err) == (4, True)
    assert not loaded


@pytest.mark.parametrize("way", ["itself", "link", "hard link", "another name"])
@pytest.mark.parametrize("name", ["set/corpus.jsonl", "set/queries.jsonl", "set/qrels/test.tsv", "set/qrels/dev.tsv"])
def test_rows_replace_nothing_that_is_read(
    tmp_path: Path, run: Run, loaded: list[FakeEncoder], name: str, way: str
) -> None:
    folder, target = dataset(tmp_path / "set"), tmp_path / name
    (folder / "qrels" / "dev.tsv").write_text("")
    rows = tmp_path / "rows.json"
    if way == "link":
        rows.symlink_to(target)
    elif way == "hard link":
        os.link(target, rows)
    else:
        rows = target if way == "itself" else target.parent / ".." / target.parent.name / target.name
    refused(tmp_path, run, folder, rows)
    assert not loaded


def test_rows_replace_no_questions_settings_index_or_kept_folder(tmp_path: Path, run: Run, notes: Path) -> None:
    run("index", notes)
    file, keep, settings = tmp_path / "questions.jsonl", tmp_path / "kept", tmp_path / "settings.toml"
    file.write_text(json.dumps({"question": "a queen cell", "expected": [{"path": "bees.txt"}]}))
    settings.write_text("")
    folder = dataset(tmp_path / "set")
    assert run("eval", folder, "--keep", keep, "--rows", tmp_path / "rows.json")[0] == 0
    refused(tmp_path, run, file, file)
    refused(tmp_path, run, file, tmp_path / "index" / "rows.json")
    refused(tmp_path, run, file, settings, "--config", settings)
    refused(tmp_path, run, folder, folder / "queries.jsonl.gz")
    (index,) = keep.glob("index-*")
    for rows in (keep / "evaluation.json", keep / "documents" / "rows.json", index / "rows.json"):
        refused(tmp_path, run, folder, rows, "--keep", keep)
    assert run("eval", folder, "--keep", keep, "--rows", keep / "rows.json")[0] == 0
    assert run("eval", folder, "--keep", keep, "--rows", keep / "rows.json")[0] == 0


def test_rows_replace_no_file_but_earlier_rows(tmp_path: Path, run: Run, notes: Path) -> None:
    run("index", notes)
    before = (notes / "bees.txt").read_bytes()
    code, _, err = run("eval", dataset(tmp_path / "set"), "--rows", notes / "bees.txt")
    assert (code, "it is there, and not what eval --rows writes" in err) == (4, True)
    assert (notes / "bees.txt").read_bytes() == before


def refused(tmp_path: Path, run: Run, dataset: Path, rows: Path, *options: object) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, _, err = (
        run(*options, "eval", dataset, "--rows", rows)
        if "--config" in options
        else run("eval", dataset, "--rows", rows, *options)
    )
    assert (code, "this evaluation reads or keeps it" in err) == (4, True), err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_an_evaluation_that_fails_leaves_no_rows_and_those_that_were(tmp_path: Path, run: Run) -> None:
    rows = tmp_path / "rows.json"
    assert run("eval", tmp_path / "absent", "--rows", rows)[0] == 4
    assert list(tmp_path.iterdir()) == []
    assert run("eval", dataset(tmp_path / "set"), "--rows", rows)[0] == 0
    earlier = rows.read_bytes()
    assert run("eval", tmp_path / "absent", "--rows", rows)[0] == 4
    assert rows.read_bytes() == earlier


def test_rows_are_written_through_a_link_with_the_rights_that_were(tmp_path: Path, run: Run) -> None:
    rows, link = tmp_path / "rows.json", tmp_path / "link"
    rows.touch()
    rows.chmod(0o640)
    link.symlink_to(rows)
    assert run("eval", dataset(tmp_path / "set"), "--rows", link)[0] == 0
    assert link.is_symlink()
    assert rows.stat().st_mode & 0o777 == 0o640
    assert len(EvalRows.model_validate_json(rows.read_bytes()).rows) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "rows.json", "set"]


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "link to nothing", "name too long"])
def test_rows_go_to_regular_files_alone(tmp_path: Path, run: Run, loaded: list[FakeEncoder], kind: str) -> None:
    rows = tmp_path / ("a" * 300 if kind == "name too long" else "rows")
    if kind == "link to nothing":
        rows.symlink_to(tmp_path / "nothing")
    elif kind != "name too long":
        in_the_way(rows, kind)
    code, _, err = run("eval", dataset(tmp_path / "set"), "--rows", rows)
    assert (code, "choose another file with --rows" in err) == (4, True)
    assert not loaded
    assert not (tmp_path / "nothing").exists()


def test_a_comparison_of_questions_asks_one_index_twice(
    tmp_path: Path, run: Run, notes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("index", notes)
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps({"question": "a queen cell", "expected": [{"path": "bees.txt"}]}))
    monkeypatch.setenv("COLBERT_MCP_INDEX", str(tmp_path / "index"))
    assert main(["compare", "default", "default", "--on", str(file)]) == 0
    assert "No query changed." in capsys.readouterr().out
    own = Config(index=IndexConfig(path=str(tmp_path / "index")))
    steps: list[str] = []
    output = compare_configurations(own, own, file, Evaluation(), steps.append)
    assert (output.queries, output.changed) == (1, [])
    assert {"A: loading the model", "B: loading the model", "asking query 1 of 1"} <= set(steps)
    with pytest.raises(ColbertMCPError, match="--keep is for a labelled set"):
        compare_configurations(own, own, file, Evaluation(keep=tmp_path / "kept"))
    apart = compare_configurations(own, own.model_copy(update={"store": StoreConfig(chroma=False)}), file, Evaluation())
    assert apart.settings == ["store.chroma: True → False"]
    other = own.model_copy(update={"model": ModelConfig(name="other")})
    with pytest.raises(StoreError, match="made with the model"):
        compare_configurations(own, other, file, Evaluation())
