"""The reranker: what it reads comes first in its order, nothing of it is loaded unasked, and it is judged before."""

import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import miniature
import numpy as np
import pytest
import torch
from fake_encoder import FakeEncoder
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from support import EngineFactory
from transformers import T5Config

import colbert_mcp.encoder.reranking
import colbert_mcp.engine
import colbert_mcp.measuring.evaluating
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, ModelConfig, SearchConfig, StoreConfig, load_config
from colbert_mcp.doctor import examine
from colbert_mcp.encoder import LazyReranker, Reranker, load_reranker
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ConfigError, EncoderError, ModelNotFoundError
from colbert_mcp.results import Passage, SearchOutput
from colbert_mcp.results.measuring import CompareOutput
from colbert_mcp.retrieval.ranking import Question, allowed_by, rank
from colbert_mcp.retrieval.request import Request
from colbert_mcp.retrieval.reranking import reranked

COMMIT = "a" * 40
QUERY = "bread of the mill"
TEXTS = [
    "The mill is by the water.",
    "Bread and water in the field!",
    "water " * 60,
    "x",
    "The bread at the mill: bread of the field, or that of the water?",
    "of the mill " * 20,
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return miniature.cross_encoder(tmp_path / "cross-encoder")


@pytest.fixture
def mills(tmp_path: Path) -> Path:
    """Eight files, one passage each, in which the query's words stand more and more often."""
    folder = tmp_path / "mills"
    folder.mkdir()
    for number in range(8):
        words = " ".join([*["bread of the mill"] * number, f"and field {number} by the water"])
        (folder / f"{number}.txt").write_text(f"{words}.\n")
    return folder


def loaded(model: Path, **settings: object) -> Reranker:
    given = ModelConfig.model_validate({"dtype": "float32", "device": "cpu", **settings})
    return load_reranker(SearchConfig(reranker=str(model)), given)


def searched(engine: Engine, query: str = QUERY, **how: object) -> list[Passage]:
    output: SearchOutput = engine.search(query, limit=50, max_tokens=10**6, **how)  # type: ignore[arg-type]
    return output.results


# Scores


@pytest.mark.parametrize("batch_tokens", [0, 130])
def test_scores_equal_the_librarys(model: Path, batch_tokens: int) -> None:
    expected = CrossEncoder(str(model), device="cpu").predict([(QUERY, text) for text in TEXTS])
    assert np.ptp(expected) > 0.05
    found = loaded(model, batch_tokens=batch_tokens).scores(QUERY, TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_activation_is_the_checkpoints_own(model: Path) -> None:
    sigmoid = loaded(model).scores(QUERY, TEXTS)
    config = json.loads((model / "config.json").read_text())
    for key, value in (
        ("sentence_transformers", {"activation_fn": "torch.nn.modules.linear.Identity"}),
        ("sbert_ce_default_activation_function", "torch.nn.modules.linear.Identity"),
    ):
        (model / "config.json").write_text(json.dumps({**config, key: value}))
        expected = CrossEncoder(str(model), device="cpu").predict([(QUERY, text) for text in TEXTS])
        found = loaded(model).scores(QUERY, TEXTS)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        np.testing.assert_allclose(sigmoid, 1 / (1 + np.exp(-found)), atol=1e-6)


def test_half_precision_is_near_and_the_head_is_not_in_it(model: Path) -> None:
    half = loaded(model, dtype="bfloat16")
    assert half.dtype == "bfloat16"
    np.testing.assert_allclose(half.scores(QUERY, TEXTS), loaded(model).scores(QUERY, TEXTS), atol=0.03)
    many = half.scores(QUERY, [f"the mill {number}" for number in range(100)])
    assert len(set(many.tolist())) > 90, "scores of the head would be equal in bfloat16"


def test_a_long_passage_has_the_score_of_its_best_part_and_loses_none(model: Path) -> None:
    reranker = loaded(model)
    room = miniature.WINDOW - 3 - 4  # special tokens, and those of the query
    words = np.random.default_rng(2).choice(["mill", "bread", "water", "field", "the", "of"], 3 * room).tolist()
    step = room - room // 4
    parts = [" ".join(words[start : start + room]) for start in range(0, len(words) - room // 4, step)]
    assert len(parts) == 4
    expected = CrossEncoder(str(model), device="cpu").predict([(QUERY, part) for part in parts])
    found = reranker.scores(QUERY, ["bread", " ".join(words), "mill"])
    assert found[1] == pytest.approx(expected.max(), abs=1e-6)
    np.testing.assert_allclose(found[[0, 2]], reranker.scores(QUERY, ["bread", "mill"]), atol=1e-6)


def test_a_query_has_half_of_the_window_and_what_is_left_out_is_told(
    model: Path, open_engine: EngineFactory, mills: Path
) -> None:
    reranker = loaded(model)
    query = " ".join(f"bread{number % 10}" for number in range(40))
    unread = reranker.unread(query)
    assert reranker.unread(QUERY) == ""
    assert query.endswith(unread)
    read = query[: -len(unread)]
    assert read.count("bread") == 31, "of 128 tokens three are special; a word has two"
    np.testing.assert_array_equal(reranker.scores(query, TEXTS), reranker.scores(read, TEXTS))
    engine = open_engine(search=SearchConfig(reranker=str(model)))
    engine.index_path(mills)
    notice = engine.search(query).notice or ""
    assert "longer than the reranker reads: its last 9 words were not used, “bread1 bread2" in notice
    assert "longer than the reranker" not in (engine.search(QUERY).notice or "")


def test_numbers_that_are_none_are_an_error(model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights["classifier.bias"] = torch.tensor([math.nan])
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(EncoderError, match="gives no numbers in float32"):
        loaded(model)


def test_too_little_memory_is_told_with_what_to_set(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = loaded(model)

    def fail(**_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(reranker, "_model", fail)
    with pytest.raises(EncoderError, match=r"memory of cpu is too little for the reranker; set \[model\] batch_tokens"):
        reranker.scores(QUERY, TEXTS)


# Order


@pytest.mark.parametrize("mode", ["hybrid", "semantic"])
def test_the_first_are_in_the_rerankers_order_and_the_others_stay(
    model: Path, open_engine: EngineFactory, mills: Path, mode: str
) -> None:
    plain = open_engine()
    plain.index_path(mills)
    before = searched(plain, mode=mode)
    plain.close()
    assert len(before) == 8
    assert {passage.reranker for passage in before} == {None}
    engine = open_engine(search=SearchConfig(reranker=str(model), reranker_depth=5))
    found = searched(engine, mode=mode)
    scores = (
        LazyReranker(SearchConfig(reranker=str(model)), ModelConfig()).get().scores(QUERY, [p.text for p in before])
    )  # type: ignore[union-attr]
    expected = [before[index].id for index in np.argsort(-scores[:5], kind="stable")]
    assert expected != [passage.id for passage in before[:5]]
    assert [passage.id for passage in found[:5]] == expected
    told = [round(float(score), 4) for score in np.sort(scores[:5])[::-1]]
    assert [passage.reranker for passage in found[:5]] == told
    for one, other in zip(before[5:], found[5:], strict=True):
        assert (one.id, one.maxsim, one.bm25, one.dense, other.reranker) == (
            other.id, other.maxsim, other.bm25, other.dense, None,
        )  # fmt: skip
        assert other.score == pytest.approx((one.score or 0) / 2, abs=1e-4)
    ordered = [passage.score or 0 for passage in found]
    assert ordered == sorted(ordered, reverse=True), "score orders the answer"
    assert ordered[0] == 1
    assert ordered[4] >= 0.5
    own = {passage.id: passage for passage in before}
    assert all(own[passage.id].maxsim == passage.maxsim for passage in found), "scores stay with their passages"


def test_all_that_is_known_of_a_passage_moves_with_it(model: Path, open_engine: EngineFactory, mills: Path) -> None:
    engine = open_engine(search=SearchConfig(reranker=str(model)))
    engine.index_path(mills)
    encoder, request = FakeEncoder(), Request('"field 3" by the mill', 5, (), (), "hybrid", 10**6)
    question = Question(encoder.encode_query(request.query), encoder.scorer)
    with engine._store.snapshot() as snapshot:
        before = rank(engine._store, snapshot, question, request, SearchConfig(), allowed_by(snapshot, request))
        assert before.verbatim.max() == 1
        drawn = np.random.default_rng(0).random
        before = replace(before, matches=drawn(before.matches.shape), verbatim=drawn(8) / 100)
        after = reranked(snapshot, before, request.query, loaded(model), 5)
        same = reranked(snapshot, before, request.query, None, 5)
    assert same is before
    assert after.evidence == before.evidence
    places = [before.positions.tolist().index(position) for position in after.positions.tolist()]
    assert places != sorted(places)
    for name in ("maxsim", "bm25", "dense", "verbatim", "matches"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[..., places], name)


def test_passages_that_hold_a_quoted_text_come_first_all_the_same(
    model: Path, open_engine: EngineFactory, mills: Path
) -> None:
    engine = open_engine(search=SearchConfig(reranker=str(model)))
    engine.index_path(mills)
    for number in (0, 3, 7):
        first = searched(engine, f'what is in "field {number} by the water"?')[0]
        assert Path(first.path).name == f"{number}.txt"


def test_equal_passages_are_read_once(model: Path, open_engine: EngineFactory, mills: Path) -> None:
    (mills / "copy.txt").write_bytes((mills / "4.txt").read_bytes())
    engine = open_engine(search=SearchConfig(reranker=str(model)))
    engine.index_path(mills)
    read: list[list[str]] = []
    reranker = engine._reranker.get()
    assert reranker is not None
    plain = reranker.scores
    reranker.scores = lambda query, texts: read.append(list(texts)) or plain(query, texts)  # type: ignore
    found = searched(engine)
    assert len(read) == 1
    assert len(read[0]) == len(set(read[0])) == 8
    assert len(found) == 8


def test_the_order_is_equal_in_every_process(
    tmp_path: Path, model: Path, mills: Path, environment: dict[str, str]
) -> None:
    miniature.pylate(tmp_path / "colbert")
    settings = tmp_path / "config.toml"
    settings.write_text(
        f'[index]\npath = "index"\n[model]\nname = "colbert"\ndocument_length = 128\n'
        f'[search]\nreranker = "{model.name}"\nreranker_depth = 5\n[store]\nchroma = false\n'
    )
    config = load_config(settings)
    engine = Engine.open(config, create_missing=True)
    engine.index_path(mills)
    own = [(passage.id, passage.reranker) for passage in searched(engine)]
    engine.close()
    assert sum(score is not None for _, score in own) == 5
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "colbert_mcp", "--config", settings, "search", "--json", "--limit", "50",
             "--max-tokens", "1000000", QUERY],
            env={**environment, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = SearchOutput.model_validate_json(done.stdout).results
        assert [(passage.id, passage.reranker) for passage in found] == own


# What is loaded


def test_without_the_setting_nothing_is_loaded(
    open_engine: EngineFactory, mills: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.encoder.reranking, "load_reranker", lambda *_: pytest.fail("it was loaded"))
    assert SearchConfig().reranker == ""
    engine = open_engine()
    engine.index_path(mills)
    engine.warm_up()
    assert searched(engine)


def test_the_mode_lexical_loads_nothing_and_others_name_the_key(
    tmp_path: Path, open_engine: EngineFactory, mills: Path
) -> None:
    engine = open_engine(search=SearchConfig(reranker=str(tmp_path / "none")))
    engine.index_path(mills)
    found = searched(engine, mode="lexical")
    assert len(found) == 7
    assert {passage.reranker for passage in found} == {None}
    for mode in ("hybrid", "semantic"):
        with pytest.raises(ModelNotFoundError, match=r"no folder .*none; name .* in \[search\] reranker"):
            searched(engine, mode=mode)


def test_all_callers_share_one(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[SearchConfig] = []
    plain = load_reranker

    def load(search: SearchConfig, config: ModelConfig) -> Reranker:
        loads.append(search)
        return plain(search, config)

    monkeypatch.setattr(colbert_mcp.encoder.reranking, "load_reranker", load)
    lazy = LazyReranker(SearchConfig(reranker=str(model)), ModelConfig())
    assert not loads
    found: list[tuple[Reranker | None, list[float]]] = []

    def ask() -> None:
        reranker = lazy.get()
        assert reranker is not None
        found.append((reranker, reranker.scores(QUERY, TEXTS).tolist()))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert [scores for _, scores in found] == [found[0][1]] * 4
    assert {id(reranker) for reranker, _ in found} == {id(lazy.get())}


def test_a_hub_id_is_read_from_the_cache_alone(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = loaded(model).scores(QUERY, TEXTS)
    miniature.hub_cache(tmp_path / "cache", model, "someone/reranker", COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for revision in (COMMIT, "main", ""):
        search = SearchConfig(reranker="someone/reranker", reranker_revision=revision)
        reranker = load_reranker(search, ModelConfig(dtype="float32", device="cpu"))
        assert reranker.name == "someone/reranker"
        np.testing.assert_array_equal(reranker.scores(QUERY, TEXTS), expected)
    asked = []
    monkeypatch.setattr(
        colbert_mcp.encoder.loading, "snapshot_download",
        lambda *_, local_files_only, **__: asked.append(local_files_only) or 1 / 0,
    )  # fmt: skip
    search = SearchConfig(reranker="someone/other", reranker_revision="main")
    with pytest.raises(ModelNotFoundError, match=r"no reranker someone/other at main: .*hf download someone/other"):
        load_reranker(search, ModelConfig())
    assert asked == [True]


def test_a_name_that_can_be_no_path_is_told_as_such() -> None:
    with pytest.raises(ModelNotFoundError, match="There is no folder"):
        load_reranker(SearchConfig(reranker=f"/{'a' * 300}"), ModelConfig())


def test_a_relative_name_is_a_folder_beside_the_configuration(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "someone" / "reranker").mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    settings = tmp_path / "config.toml"
    for name, expected in (
        (model.name, str(model)),
        (f"./{model.name}", str(model)),
        ("./none", str(tmp_path / "none")),
        ("someone/reranker", "someone/reranker"),
        ("", ""),
    ):
        settings.write_text(f'[search]\nreranker = "{name}"\n')
        assert load_config(settings).search.reranker == expected
    for line in ("reranker_depth = 0", "reranker_depth = 201", "reranker = true"):
        settings.write_text(f"[search]\n{line}\n")
        with pytest.raises(ConfigError, match=line.split(" ")[0]):
            load_config(settings)


# What is refused


def with_config(**values: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**config, **values}))

    return change


def with_pickle(model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


def without(*names: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        weights = load_file(model / "model.safetensors")
        kept = {name: tensor for name, tensor in weights.items() if not name.startswith(names)}
        assert len(kept) < len(weights)
        save_file(kept, model / "model.safetensors", {"format": "pt"})

    return change


def plain_transformer(model: Path) -> None:
    miniature.backbone_only(model)


def two_scores(model: Path) -> None:
    miniature.cross_encoder(model, labels=2)


def with_modules(model: Path) -> None:
    kinds = ["sentence_transformers.models.Transformer", "modeling.Head"]
    (model / "modules.json").write_text(json.dumps([{"type": kind, "path": ""} for kind in kinds]))


def with_module_of_its_own(model: Path) -> None:
    (model / "modules.json").write_text(json.dumps([{"type": "modeling.Transformer", "path": ""}]))


def with_pipe(model: Path) -> None:
    os.mkfifo(model / "README.md")


def with_pipe_for(name: str) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        (model / name).unlink(missing_ok=True)
        os.mkfifo(model / name)

    return change


def with_inputs(names: list[str]) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        settings = json.loads((model / "tokenizer_config.json").read_text())
        (model / "tokenizer_config.json").write_text(json.dumps({**settings, "model_input_names": names}))

    return change


def with_token(model: Path) -> None:
    known = json.loads((model / "tokenizer.json").read_text())
    known["model"]["vocab"]["mill"] = 100_000
    (model / "tokenizer.json").write_text(json.dumps(known))


REFUSED = {
    "pickle": (with_pickle, "a pickle, which can run code"),
    "code": (with_config(auto_map={"AutoModelForSequenceClassification": "m.M"}), "code of its own"),
    "code in the tokenizer": (
        lambda model: (model / "tokenizer_config.json").write_text('{"auto_map": {"AutoTokenizer": ["t.T", null]}}'),
        "code of its own",
    ),
    "a kernel": (with_config(attn_implementation="someone/kernel"), "kernel from a hub"),
    "an adapter": (lambda model: (model / "adapter_config.json").write_text("{}"), "adapter over another model"),
    "an activation": (
        with_config(sentence_transformers={"activation_fn": "torch.hub.list"}),
        "names the activation torch.hub.list",
    ),
    "modules": (with_modules, "names more than a transformer"),
    "a module of its own": (with_module_of_its_own, "names more than a transformer"),
    "a plain transformer": (plain_transformer, r"no cross-encoder \(its config.json names BertModel\)"),
    "no architecture": (with_config(architectures=None), "no cross-encoder"),
    "another head": (with_config(architectures=["BertForTokenClassification"]), "no cross-encoder"),
    "two scores": (two_scores, "gives 2 scores"),
    "no head": (without("classifier"), "lack 2 tensors"),
    "no pooler": (without("bert.pooler"), r"lack 2 tensors \(such as bert.pooler"),
    "no layer": (without("bert.encoder.layer.1.output"), "lack 4 tensors"),
    "other sizes": (with_config(vocab_size=10**9), "sets vocab_size to 1000000000"),
    "a short window": (with_config(max_position_embeddings=12), "Cannot load|reads 12 tokens, which is too few"),
    "no tokenizer": (lambda model: (model / "tokenizer.json").unlink(), "no tokenizer.json"),
    "no model": (lambda model: (model / "config.json").unlink(), "no config.json"),
    "no configuration": (lambda model: (model / "config.json").write_text("{"), "Cannot read"),
    "a pipe": (with_pipe, "neither a file nor a folder"),
    "a pipe for a configuration": (with_pipe_for("config.json"), "neither a file nor a folder"),
    "a pipe for modules": (with_pipe_for("modules.json"), "neither a file nor a folder"),
    "a pipe for the tokenizer's": (with_pipe_for("tokenizer_config.json"), "neither a file nor a folder"),
    "no mask": (with_inputs(["input_ids"]), r"gives the inputs \['input_ids'\]; input_ids and attention_mask are needed"),
    "another input": (with_inputs(["input_ids", "attention_mask", "evil"]), "no others are known"),
    "an input in place of the mask": (with_inputs(["input_ids", "evil"]), "no others are known"),
    "no inputs": (with_inputs([]), "gives the inputs"),
    "a layer left out": (with_config(num_hidden_layers=1), r"fewer layers than .*bert\.encoder\.layer\.1\."),
    "no layers": (with_config(num_hidden_layers=0), "sets num_hidden_layers to 0"),
    "fewer than no layers": (with_config(num_hidden_layers=-3), "sets num_hidden_layers to -3"),
    "no attention heads": (with_config(num_attention_heads=0), "sets num_attention_heads to 0"),
    "an activation that is no name": (with_config(hidden_act=["a"]), "sets hidden_act to"),
    "padding beyond the vocabulary": (with_config(pad_token_id=10**9), "Cannot load the reranker"),
    "an empty vocabulary": (with_config(vocab_size=0), "sets vocab_size to 0"),
    "a type that is none": (with_config(model_type=["a"]), "Cannot load the reranker"),
    "a token beyond the embedding": (with_token, "has the token 'mill' with the id 100000, and the embedding has"),
    "a tokenizer that is none": (lambda model: (model / "tokenizer.json").write_text("{}"), "Cannot load the reranker"),
    "an unknown type": (with_config(model_type="none-of-these"), "Cannot load the reranker"),
    "another type": (lambda model: T5Config(vocab_size=220, d_model=32, d_ff=64, architectures=["T5ForSequenceClassification"], num_labels=1).save_pretrained(model), "Cannot load|lack"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_cross_encoder_or_would_run_code_is_refused(model: Path, name: str) -> None:
    change, message = REFUSED[name]
    change(model)
    with pytest.raises(EncoderError, match=message) as caught:
        loaded(model)
    assert "reranker" in str(caught.value)


def test_no_setting_lets_code_of_a_reranker_run(model: Path) -> None:
    with_config(auto_map={"AutoConfig": "m.C"})(model)
    with pytest.raises(EncoderError, match="which is never run"):
        loaded(model, trust_remote_code=True)


def test_a_modules_file_that_names_the_transformer_is_read(model: Path) -> None:
    expected = loaded(model).scores(QUERY, TEXTS)
    kind = "sentence_transformers.base.modules.transformer.Transformer"
    (model / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    (model / "config_sentence_transformers.json").write_text(
        json.dumps({"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"})
    )
    np.testing.assert_array_equal(loaded(model).scores(QUERY, TEXTS), expected)


# What is told


def test_model_show_and_the_doctor_tell_of_it(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text(f'[search]\nreranker = "{model.name}"\n')

    def shown(*arguments: str) -> dict[str, object]:
        assert main(["--config", str(settings), "model", "show", "--json", *arguments]) == 0
        return {value["name"]: value["value"] for value in json.loads(capsys.readouterr().out)["values"]}

    told = shown()
    assert (told["reranker"], told["reranker_directory"]) == (str(model), str(model))
    assert (told["reranker_window"], told["reranker_depth"]) == (miniature.WINDOW, 30)
    assert "reranker" not in shown(str(miniature.pylate(tmp_path / "other")))
    settings.write_text(f'[search]\nreranker = "{model.name}"\nreranker_revision = "main"\n')
    assert main(["--config", str(settings), "model", "show"]) == 0
    assert "reranker_revision has no effect" in capsys.readouterr().out
    found = {
        finding.topic: finding for finding in examine(settings, index=str(tmp_path / "none"), quick=False).findings
    }
    assert found["reranker"].state == "ok"
    for part in (f"{model} (from {model})", "runs on", "window 128", "the best 30 passages"):
        assert part in found["reranker"].what
    with_pickle(model)
    assert main(["--config", str(settings), "model", "show"]) == EncoderError.exit_code
    findings = examine(settings, index=str(tmp_path / "none"), quick=False).findings
    wrong = next(finding for finding in findings if finding.topic == "reranker")
    assert (wrong.state, "pickle" in wrong.what) == ("error", True)
    assert "[search] reranker" in str(wrong.mends)
    settings.write_text("")
    assert "reranker" not in shown()


def test_a_search_in_the_terminal_shows_its_score(
    model: Path, mills: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(colbert_mcp.engine, "load_encoder", lambda _: FakeEncoder())
    settings = tmp_path / "config.toml"
    settings.write_text(f'[index]\npath = "index"\n[search]\nreranker = "{model.name}"\n[store]\nchroma = false\n')
    assert main(["--config", str(settings), "index", str(mills)]) == 0
    assert main(["--config", str(settings), "search", QUERY]) == 0
    assert "score 1.000  reranker 0." in capsys.readouterr().out


# Measuring


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled set, its encoder being a fake one."""
    for module in (colbert_mcp.engine, colbert_mcp.measuring.evaluating):
        monkeypatch.setattr(module, "load_encoder", lambda _: FakeEncoder())
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    texts = {f"d{number}": f"{'bread of the mill ' * number}by water {number}" for number in range(8)}
    lines = [json.dumps({"_id": name, "title": "", "text": text}) for name, text in texts.items()]
    (folder / "corpus.jsonl").write_text("\n".join(lines))
    queries = {"q1": QUERY, "q2": "the water", "q3": "mill by the field"}
    (folder / "queries.jsonl").write_text("\n".join(json.dumps({"_id": k, "text": v}) for k, v in queries.items()))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td7\t1\nq2\td0\t1\nq3\td2\t1\n")
    return folder


def test_compare_measures_what_a_reranker_gains_and_costs(
    tmp_path: Path, model: Path, compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "with-reranker.toml"
    settings.write_text(f'[search]\nreranker = "{model.name}"\n')
    kept = str(tmp_path / "kept")
    command = ["compare", "default", str(settings), "--on", str(compared)]
    assert main([*command, "--json"]) == 0
    output = CompareOutput.model_validate_json(capsys.readouterr().out)
    assert output.settings == [f"search.reranker:  → {model}"]
    assert (output.a.reranker, output.b.reranker) == (None, str(model))
    assert [latency.what for latency in output.a.latency] == ["answer", "encoding", "search"]
    times = {latency.what: latency.p50 for latency in output.b.latency}
    assert list(times) == ["answer", "encoding", "search", "reranking"]
    assert 0 < times["reranking"] < times["search"]
    assert output.changed
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "reranking  " in shown
    rows = tmp_path / "rows.json"
    arguments = ["--config", str(settings), "eval", str(compared), "--keep", kept, "--rows", str(rows)]
    assert main(arguments) == 0
    assert f", then {model}" in capsys.readouterr().out
    # What was ranked is what a search answers.
    (index,) = (tmp_path / "kept").glob("index-*")
    config = Config(
        index=IndexConfig(path=str(index)), search=SearchConfig(reranker=str(model)), store=StoreConfig(chroma=False)
    )
    engine = Engine.open(config, create_missing=False, encoder=FakeEncoder())
    records = [json.loads(line) for line in (compared / "corpus.jsonl").read_text().splitlines()]
    ids = {record["text"]: record["_id"] for record in records}
    for row in json.loads(rows.read_text())["rows"]:
        assert [ids[passage.text.strip()] for passage in searched(engine, row["query"])] == row["first"]
    engine.close()
    assert main([*arguments[:-4], "--keep", kept, "--mode", "lexical", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reranker"] is None


def test_a_reranker_that_is_not_there_is_told_before_anything_is_indexed(
    tmp_path: Path, compared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "config.toml"
    settings.write_text('[search]\nreranker = "./none"\n')
    kept = tmp_path / "kept"
    assert main(["--config", str(settings), "eval", str(compared), "--keep", str(kept)]) == EncoderError.exit_code
    assert "[search] reranker" in capsys.readouterr().err
    assert not list(kept.glob("index-*"))
