"""The commands about models: what is shown is used, what is exported encodes the same, lengths are measured."""

import json
import re
import string
from pathlib import Path

import miniature
import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_layouts import edit, load

from colbert_mcp.chunking import cut
from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, ModelConfig, StoreConfig
from colbert_mcp.encoder.description import describe
from colbert_mcp.encoder.exporting import export, make_head
from colbert_mcp.encoder.heads import orthogonal_head
from colbert_mcp.encoder.reference_texts import REFERENCE_TEXTS
from colbert_mcp.engine import Engine
from colbert_mcp.errors import ConfigError, EncoderError, UnreadableDocumentError
from colbert_mcp.measuring.labelled import read_labelled
from colbert_mcp.measuring.lengths import LENGTHS, Sample, measure
from colbert_mcp.results import LengthsOutput, ModelCheckOutput, ModelOutput, ModelWritten

TEXTS = ["The mill, by the water. Bread of the field is good!", "x", "of it", *REFERENCE_TEXTS[:3]]


def settings_mode(folder: Path) -> int:
    (folder / "new").touch()
    return (folder / "new").stat().st_mode


def config_file(folder: Path, **model: object) -> Path:
    lines = [f"{key} = {json.dumps(value)}" for key, value in model.items()]
    file = folder / "settings.toml"
    file.write_text("\n".join(["[store]", "chroma = false", "[model]", 'device = "cpu"', *lines]))
    return file


def test_three_layouts_of_one_model_give_the_same_embeddings_after_export(tmp_path: Path) -> None:
    stanford = miniature.stanford(tmp_path / "stanford", seed=5)
    edit(stanford / "artifact.metadata", doc_maxlen=100, attend_to_mask_tokens=True)
    written = export(ModelConfig(name=str(stanford)), tmp_path / "exported")
    pylate = miniature.pylate(tmp_path / "pylate", seed=5)
    edit(
        pylate / "config_sentence_transformers.json",
        document_length=100,
        attend_to_expansion_tokens=True,
        skiplist_words=list(string.punctuation),
    )
    first, *others = (load(Path(name)) for name in (stanford, written.directory, pylate))
    for other in others:
        assert other.content_length == first.content_length
        documents = zip(
            first.encode_documents(first.tokenize(TEXTS)), other.encode_documents(other.tokenize(TEXTS)), strict=True
        )
        for mine, theirs in documents:
            np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
        for query in ("bread and water", "the field " * 30):
            mine, theirs = first.encode_query(query), other.encode_query(query)
            np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
            assert (mine.tokens, mine.unread) == (theirs.tokens, theirs.unread)


def test_an_export_takes_no_overrides_along(tmp_path: Path) -> None:
    miniature.stanford(tmp_path / "stanford")
    export(ModelConfig(name=str(tmp_path / "stanford"), document_length=99), tmp_path / "out")
    assert load(tmp_path / "out").fingerprint.document_length == 64


def test_an_export_keeps_the_code_of_a_model_and_runs_none(tmp_path: Path) -> None:
    model = miniature.with_code(tmp_path / "model", tmp_path / "canary")
    written = export(ModelConfig(name=str(model)), tmp_path / "out")
    assert not (tmp_path / "canary").exists()
    assert "modeling_mini.py" in written.files
    assert any("only if allowed" in note for note in written.notes)
    with pytest.raises(EncoderError, match="code of its own"):
        load(tmp_path / "out")


def _unknown_metadata(model: Path) -> None:
    edit(model / "artifact.metadata", query_pooling="mean")


def _no_metadata(model: Path) -> None:
    (model / "artifact.metadata").unlink()


def _no_projection(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    del tensors["linear.weight"]
    save_file(tensors, model / "model.safetensors")


def _bias(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "linear.bias": torch.zeros(miniature.DIMENSION)}, model / "model.safetensors")


def _more_tensors(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({**tensors, "score.weight": torch.zeros(2)}, model / "model.safetensors")


def _no_code(model: Path) -> None:
    edit(model / "config.json", auto_map={"AutoModel": "modeling_lost.Model"})


def _output_there(model: Path) -> None:
    (model.parent / "out").mkdir()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_unknown_metadata, "sets query_pooling, which may change how texts are encoded"),
        (_no_metadata, "has no artifact.metadata"),
        (_no_projection, "no ColBERT projection"),
        (_bias, "has a bias"),
        (_more_tensors, "more than a backbone and linear.weight"),
        (_no_code, "does not hold the code"),
        (_output_there, "is there already"),
    ],
)
def test_what_cannot_be_read_is_not_written(tmp_path: Path, spoil: type, reason: str) -> None:
    model = miniature.stanford(tmp_path / "model")
    spoil(model)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EncoderError, match=reason):
        export(ModelConfig(name=str(model)), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_a_pylate_directory_needs_no_export(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="needs no export"):
        export(ModelConfig(name=str(miniature.pylate(tmp_path / "a"))), tmp_path / "out")


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("shutil.copyfile", OSError(28, "No space left on device")),
        ("save_file", SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")),
    ],
)
def test_an_export_that_fails_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    miniature.stanford(tmp_path / "model")

    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"colbert_mcp.encoder.exporting.{step}", full)
    for output in (tmp_path / "out", tmp_path / "a" / "b" / "out"):
        with pytest.raises(EncoderError, match="No space left"):
            export(ModelConfig(name=str(tmp_path / "model")), output)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _write(how: str, source: Path, output: Path) -> None:
    """By the command that writes a model from this one."""
    export(ModelConfig(name=str(source)), output) if how == "export" else make_head(source, output, 8)


@pytest.mark.parametrize("how", ["export", "make-head"])
def test_nothing_is_written_where_something_is_or_into_the_model_itself(tmp_path: Path, how: str) -> None:
    model = (miniature.stanford if how == "export" else miniature.backbone_only)(tmp_path / "model")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name, reason in {
        "dangling": "is there already",
        "loop": "is there already|Cannot write",
        "file": "is there already",
        "empty": "is there already",
        "model": "is there already",
        "model/out": "lies in the model's own directory",
        "model/deep/out": "lies in the model's own directory",
        "file/out": "Cannot write",
        "loop/out": "Cannot write",
        "new/" + "x" * 300: "Cannot write .*File name too long",
    }.items():
        with pytest.raises(EncoderError, match=reason):
            _write(how, model, tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before, name
    with pytest.raises((EncoderError, ConfigError), match="no user"):
        _write(how, model, Path("~nobody-of-this-name/out"))


def test_a_head_over_what_can_be_no_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises((EncoderError, ConfigError), match="no user"):
        make_head(Path("~nobody-of-this-name/m"), tmp_path / "out", 8)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(EncoderError, match="Cannot read"):
        make_head(tmp_path / "loop", tmp_path / "out", 8)


def test_a_head_is_fixed_and_orthogonal_and_the_model_loads(tmp_path: Path) -> None:
    miniature.backbone_only(tmp_path / "plain")
    one = make_head(tmp_path / "plain", tmp_path / "one", 16)
    make_head(tmp_path / "plain", tmp_path / "two", 16)
    first, second = load(tmp_path / "one"), load(tmp_path / "two")
    query = first.encode_query("bread and water")
    np.testing.assert_array_equal(query.token_embeddings, second.encode_query("bread and water").token_embeddings)
    assert query.token_embeddings.shape == (5, 16)
    assert first.fingerprint.digest == second.fingerprint.digest
    assert "not trained" in one.notes[0]
    head = orthogonal_head(384, 128).astype(np.float64)
    np.testing.assert_allclose(head @ head.T, np.eye(128), atol=1e-3)
    with pytest.raises(EncoderError, match="has a projection of its own"):
        make_head(tmp_path / "one", tmp_path / "three", 16)
    for dimension in (0, 33):
        with pytest.raises(EncoderError, match=f"dimension is {dimension}"):
            make_head(tmp_path / "plain", tmp_path / "three", dimension)


def test_model_show_tells_what_is_used_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = miniature.stanford(tmp_path / "model")
    settings = config_file(tmp_path, name=str(model), document_length=100, attend_to_expansion_tokens=True)
    assert main(["--config", str(settings), "model", "show", "--json"]) == 0
    told = ModelOutput.model_validate_json(capsys.readouterr().out)
    encoder = load(model, document_length=100, attend_to_expansion_tokens=True)
    for name in ("document_length", "query_length", "document_prefix", "query_prefix", "attend_to_expansion_tokens"):
        assert told.value(name) == getattr(encoder._model, name), name
    sources = {value.name: value.source for value in told.values}
    assert sources["document_length"] == "[model] document_length"
    assert sources["attend_to_expansion_tokens"] == "[model] attend_to_expansion_tokens"
    assert sources["query_length"] == "artifact.metadata: query_maxlen"
    assert told.value("dimension") == encoder.fingerprint.dimension
    assert told.value("window") == encoder.window
    assert told.value("device") == encoder.device
    assert (told.remote_code, told.value("remote_code")) == (False, False)
    assert told.notices == list(encoder.notices) != []
    assert main(["--config", str(settings), "model", "show", str(model)]) == 0
    shown = capsys.readouterr().out
    for part in ("trained_document_length", "artifact.metadata: doc_maxlen", "longer than the 64 tokens"):
        assert part in shown


def test_model_show_tells_that_code_runs_and_another_models_never_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = miniature.with_code(tmp_path / "model", tmp_path / "canary")
    other = miniature.with_code(tmp_path / "other", tmp_path / "canary")
    settings = config_file(tmp_path, name=str(model), trust_remote_code=True)
    assert main(["--config", str(settings), "model", "show"]) == 0
    shown = capsys.readouterr().out
    assert "config.json: modeling_mini.MiniConfig; config.json: modeling_mini.MiniModel; modeling_mini.py" in shown
    assert "It runs code of its own" in shown
    for command in (["show", str(other)], ["check", str(other)], ["check", str(model), str(other)]):
        assert main(["--config", str(settings), "model", *command]) == 5
        assert "which is not run" in capsys.readouterr().err
    (tmp_path / "canary").unlink(missing_ok=True)
    index = tmp_path / "index"
    engine = Engine.open(Config(index=IndexConfig(path=str(index))), create_missing=True)
    (tmp_path / "model" / "note.txt").write_text("Bread.")
    with engine._store.transaction() as writer:
        writer.put_root(bytes(tmp_path / "model"), (), ())
    engine.close()
    for command in (["show"], ["check", str(model)], ["lengths", str(model)]):
        assert main(["--config", str(settings), "--index", str(index), "model", *command]) == 5
        assert "lies in the indexed folder" in capsys.readouterr().err
    assert not (tmp_path / "canary").exists()


def test_settings_without_effect_on_a_model_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pinned: dict[str, object] = {"revision": "main", "trust_remote_code": True, "code_revision": "0123"}
    names = [f"[model] {key}" for key in pinned]

    def told(**model: object) -> str:
        assert main(["--config", str(config_file(tmp_path, **model)), "model", "show", "--json"]) == 0
        return " ".join(ModelOutput.model_validate_json(capsys.readouterr().out).notices)

    assert told() == ""
    assert told(**pinned) == f"{', '.join(names)} have no effect on builtin."
    assert told(revision="main") == "[model] revision has no effect on builtin."
    plain = str(miniature.pylate(tmp_path / "plain"))
    assert told(name=plain) == ""
    assert told(name=plain, **pinned) == f"{', '.join(names)} have no effect on {plain}."
    coded = str(miniature.with_code(tmp_path / "coded", tmp_path / "canary"))
    assert told(name=coded, trust_remote_code=True) == ""
    assert told(name=coded, **pinned) == f"[model] revision, [model] code_revision have no effect on {coded}."
    settings = config_file(tmp_path, **pinned)
    assert main(["--config", str(settings), "--index", str(tmp_path / "index"), "doctor"]) == 0
    shown = capsys.readouterr().out
    assert "have no effect on builtin" in shown
    assert "take it out of the configuration file" in shown


def test_a_model_without_a_name_and_an_export_of_the_built_in_one_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "show", ""]) == ConfigError.exit_code
    assert "The name of the model is empty" in capsys.readouterr().err
    assert main(["model", "make-head", "builtin", "--output", "never-written"]) == EncoderError.exit_code
    assert "has its head already" in capsys.readouterr().err
    assert main(["model", "export", "builtin", "never-written"]) == EncoderError.exit_code
    assert "nothing to export" in capsys.readouterr().err


def test_model_check_compares_layouts_and_texts_with_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = miniature.stanford(tmp_path / "model")
    assert main(["model", "export", str(model), str(tmp_path / "out"), "--json"]) == 0
    written = ModelWritten.model_validate_json(capsys.readouterr().out)
    assert {"1_Dense/config.json", "config_sentence_transformers.json", "modules.json"} <= set(written.files)
    modes = {(tmp_path / "out" / name).stat().st_mode for name in written.files}
    assert modes == {settings_mode(tmp_path)}, "others may read the weights as far as they may any new file"
    assert main(["model", "check", str(model), written.directory, "--json"]) == 0
    same = ModelCheckOutput.model_validate_json(capsys.readouterr().out)
    assert same.same
    assert same.difference is not None
    assert same.difference < 1e-5
    assert same.found_first + len(same.confused) == same.texts == len(REFERENCE_TEXTS)
    assert 5 < same.found_first < same.texts
    assert "도서관" in " ".join(same.confused)  # its tokenizer knows no word of it

    assert main(["model", "check", str(model), written.directory]) == 0
    assert "out: the same: largest difference" in capsys.readouterr().out
    dense = tmp_path / "out" / "1_Dense" / "model.safetensors"
    weight = load_file(dense)["linear.weight"]
    weight[3] *= -1
    save_file({"linear.weight": weight}, dense)
    assert main(["model", "check", str(model), written.directory]) == 9
    assert "not the same: largest difference 1." in capsys.readouterr().out
    edit(tmp_path / "out" / "config_sentence_transformers.json", query_length=15)
    assert main(["model", "check", str(model), written.directory]) == 9
    assert "cannot be compared: query" in capsys.readouterr().out


def test_make_head_is_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniature.backbone_only(tmp_path / "plain")
    command = ["model", "make-head", str(tmp_path / "plain"), "--output", str(tmp_path / "out"), "--dimension", "8"]
    assert main(command) == 0
    assert "not trained" in capsys.readouterr().out
    assert describe(ModelConfig(name=str(tmp_path / "out"))).value("dimension") == 8
    assert main(command) == 5
    assert "is there already" in capsys.readouterr().err


PROSE = " ".join(f"The mill by the water is for bread of field {number}." for number in range(700))


@pytest.mark.parametrize("length", LENGTHS)
def test_at_every_length_no_chunk_is_longer_than_the_limit_and_none_is_cut(tmp_path: Path, length: int) -> None:
    encoder = load(miniature.pylate(tmp_path, window=8192), document_length=length, batch_tokens=8192)
    pieces = cut(PROSE, [], encoder, encoder.content_length, is_code=False)
    seen: list[int] = []
    encoder.backbone.register_forward_pre_hook(
        lambda _, arguments: seen.extend(arguments[0]["attention_mask"].sum(dim=1).tolist())
    )
    encoded = encoder.encode_documents([piece.tokens for piece in pieces])
    assert max(len(piece.tokens.ids) for piece in pieces) + 3 <= length == encoder.fingerprint.document_length
    # What the backbone was given, rows that fill up a batch aside, is every token and [CLS], [D] and [SEP].
    expected = sorted(len(piece.tokens.ids) + 3 for piece in pieces)
    assert sorted(count for count in seen if count > 1) == expected
    kept = [len(encoder.kept_spans(piece.tokens)) for piece in pieces]
    assert [len(item.token_embeddings) for item in encoded] == kept
    assert len(pieces) >= len(PROSE.split()) // length
    words = "".join(PROSE[piece.start : piece.end] for piece in pieces).split()
    assert "".join(words) == "".join(PROSE.split())


@pytest.mark.parametrize(
    ("layout", "settings"),
    [
        (miniature.pylate, {}),
        (miniature.stanford, {"attend_to_expansion_tokens": True}),
        (miniature.several_projections, {"query_length": 40}),
        (miniature.sentence_transformers, {}),
    ],
)
def test_a_query_of_500_words_says_what_was_not_used(tmp_path: Path, layout: type, settings: dict[str, object]) -> None:
    model = ModelConfig(name=str(layout(tmp_path / "model")), device="cpu", **settings)  # type: ignore[arg-type]
    config = Config(index=IndexConfig(path=str(tmp_path / "index")), model=model, store=StoreConfig(chroma=False))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "bread.txt").write_text("Bread is of the field, and the mill is by the water.")
    words = [f"mill{number}" if number % 50 == 0 else "bread" for number in range(500)]
    engine = Engine.open(config, create_missing=True)
    engine.index_path(tmp_path / "notes")
    query = " ".join(words)
    notice = engine.search(query).notice
    unread = engine._ready_encoder().encode_query(query).unread
    assert notice is not None
    assert query.endswith(unread)
    count = len(unread.split())
    assert 400 < count < 500
    assert f"its last {count} words were not used" in notice
    assert " ".join(unread.split()[:10]) in notice
    assert " ".join(unread.split()[-10:]) in notice, "what was added at the end of a long question shows"
    assert engine.search("bread " * 8).notice is None
    engine.close()


def labelled(folder: Path) -> Path:
    folder.mkdir()
    (folder / "qrels").mkdir()
    matters = {"a": "the mill", "b": "bread of the field", "c": "water", "d": "Zeppelin!"}
    documents = [{"_id": name, "title": "", "text": text} for name, text in matters.items()]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    queries = [{"_id": f"q{name}", "text": text} for name, text in matters.items()]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"q{name}\t{name}\t1\n" for name in "abc") + "qd\ta\t0\n"
    )
    return folder


def test_lengths_are_measured_on_files_of_the_user(
    tmp_path: Path, notes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (notes / "long.txt").write_text(PROSE)
    model = miniature.pylate(tmp_path / "model", window=8192)
    settings = config_file(tmp_path, name=str(model))
    command = ["--config", str(settings), "model", "lengths", str(notes), "--labelled", str(labelled(tmp_path / "set"))]
    assert main([*command, "--json"]) == 0
    output = LengthsOutput.model_validate_json(capsys.readouterr().out)
    assert [row.document_length for row in output.rows] == [64, *LENGTHS]
    assert [row.document_length for row in output.rows if row.current] == [64]
    assert (output.sample_files, output.total_files) == (4, 4)
    assert output.labelled == "3 queries, 4 documents"
    chunks = [row.chunks for row in output.rows]
    assert chunks == sorted(chunks, reverse=True)
    assert chunks[1] > 2 * chunks[3]
    assert all(row.tokens > 7_000 and row.bytes > 100_000 and row.seconds > 0 for row in output.rows)
    assert all(row.ndcg_at_10 is not None and row.ndcg_at_10 > 0.6 for row in output.rows)
    assert [row.document_length for row in output.rows if row.trained] == [64]
    (notes / "long.txt").unlink()
    (notes / "second.txt").write_text("Bread. " * 100)
    short = config_file(tmp_path, name=str(miniature.pylate(tmp_path / "short", window=300)))
    command[1] = str(short)
    assert main([*command, "--sample-bytes", "600"]) == 0
    shown = capsys.readouterr().out
    assert "Measured on a sample: 3 of 4 files" in shown
    assert re.search(r"For all 4 files, multiply by about \d\.\d\.", shown)
    assert re.search(r"^ +64 now ", shown, re.MULTILINE)
    assert re.search(r"^ +300  ", shown, re.MULTILINE)
    assert "Longer than the 64 tokens that the model was trained for: 300." in shown
    assert "nDCG@10" in shown


def test_lengths_count_only_what_would_be_indexed(tmp_path: Path, notes: Path) -> None:
    (notes / "picture.dat").write_bytes(b"\x89PNG\0" * 100_000)
    (notes / "wide.txt").write_text("Bread of the field.", encoding="utf-16")
    (notes / "slides.pptx").write_text("Bread." * 100_000)
    (notes / "broken.pdf").write_bytes(b"%PDF")
    (notes / "empty.txt").touch()
    (notes / "link").symlink_to("bees.txt")
    (notes / "index").mkdir()
    (notes / "index" / "catalog.sqlite").write_text("Bread." * 100_000)
    config = Config(
        index=IndexConfig(path=str(notes / "index")),
        model=ModelConfig(name=str(miniature.pylate(tmp_path / "model", window=300)), device="cpu"),
        store=StoreConfig(chroma=False),
    )
    output = measure(config, notes, None, Sample())
    assert (output.sample_files, output.total_files) == (4, 4)
    assert output.sample_bytes == output.total_bytes < 1_000
    (notes / "large.txt").write_text("Bread of the field. " * 50_000)
    output = measure(config, notes, None, Sample())
    assert (output.sample_files, output.total_files) == (4, 5)
    assert 1_000_000 < output.total_bytes < 1_001_000


def test_lengths_beyond_the_window_are_left_out_and_said(tmp_path: Path, notes: Path) -> None:
    model = miniature.pylate(tmp_path / "model", window=600)
    config = Config(model=ModelConfig(name=str(model), device="cpu"), store=StoreConfig(chroma=False))
    output = measure(config, notes, None, Sample())
    assert [row.document_length for row in output.rows] == [64, 300, 512]
    assert output.left_out == [1024, 2048, 4096, 8192]
    assert output.rows[0].ndcg_at_10 is None
    assert "300, 512: how well it ranks there is not known" in output.notices[0]
    chosen = config.model_copy(update={"model": config.model.model_copy(update={"document_length": 512})})
    assert [(row.document_length, row.current) for row in measure(chosen, notes, None, Sample()).rows] == [
        (300, False),
        (512, True),
    ]
    small = Config(model=ModelConfig(name=str(miniature.pylate(tmp_path / "small")), device="cpu"))
    with pytest.raises(EncoderError, match="reads 128 tokens"):
        measure(small, notes, None, Sample())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableDocumentError, match="no file"):
        measure(config, tmp_path / "empty", None, Sample())


def test_a_labelled_set_is_read_and_what_is_none_refused(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "set")
    found = read_labelled(folder, queries=2, documents=3)
    assert len(found.queries) == 2
    assert len(found.documents) == 3
    assert all(set(found.relevance[query]) <= found.documents.keys() for query in found.queries)
    (folder / "queries.jsonl").write_text('{"_id": 1}')
    with pytest.raises(UnreadableDocumentError, match=r"queries\.jsonl"):
        read_labelled(folder, queries=2, documents=3)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(UnreadableDocumentError, match="Cannot read"):
        read_labelled(folder, queries=2, documents=3)


def test_a_length_beyond_the_training_is_told_by_answers_to_indexing_and_status_and_the_log(
    tmp_path: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = ModelConfig(name=str(miniature.pylate(tmp_path / "model")), device="cpu", document_length=100)
    config = Config(index=IndexConfig(path=str(tmp_path / "index")), model=model, store=StoreConfig(chroma=False))
    engine = Engine.open(config, create_missing=True)
    output = engine.index_path(notes)
    assert output.state == "done"
    assert "longer than the 64 tokens" in str(output.notice)
    assert "longer than the 64 tokens" in str(engine.index_status().notice)
    assert caplog.text.count("longer than the 64 tokens") == 1
    engine.close()


def test_a_model_is_named_on_the_command_line_as_any_path_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = miniature.stanford(tmp_path / "model")
    (tmp_path / "a-file").touch()
    (tmp_path / "builtin").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["model", "show", "builtin", "--json"]) == 0
    assert ModelOutput.model_validate_json(capsys.readouterr().out).model == "builtin"
    settings = config_file(tmp_path, name=str(model), document_length=50)
    for name in ("model", "./model", "../" + tmp_path.name + "/model"):
        assert main(["--config", str(settings), "model", "show", name, "--json"]) == 0
        told = ModelOutput.model_validate_json(capsys.readouterr().out)
        assert told.value("document_length") == 50, "the configured model keeps its settings under any of its paths"
    for name, reason in {
        "a-file": "There is no folder",
        "./nowhere": "There is no folder",
        "nowhere": "There is no model nowhere",
        "~nobody-of-this-name/model": "no user",
        "x" * 300: "There is no model xxx",
    }.items():
        assert main(["model", "show", name]) in (ConfigError.exit_code, EncoderError.exit_code)
        assert reason in capsys.readouterr().err
