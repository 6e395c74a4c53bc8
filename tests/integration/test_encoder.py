"""The real encoder code on miniature models in each layout, and what a checkpoint may not do."""

import fnmatch
import json
import threading
from itertools import pairwise
from pathlib import Path
from typing import Literal

import miniature
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from colbert_mcp.chunking import cut
from colbert_mcp.config import ModelConfig
from colbert_mcp.encoder import Fingerprint, Tokenized, load_encoder, loading
from colbert_mcp.encoder.base import count_coverage
from colbert_mcp.encoder.batching import Budget
from colbert_mcp.encoder.checkpoint import inspect
from colbert_mcp.encoder.colbert import ColBERTEncoder
from colbert_mcp.encoder.hardware import choose_device, hardware, release_memory
from colbert_mcp.encoder.passes import computing_on, share
from colbert_mcp.errors import EncoderError, ModelNotFoundError
from colbert_mcp.maxsim import TokenMatrix, quantise
from colbert_mcp.types import Coverage

TEXTS = ["The mill, by the water. Bread of the field is good!", "x", "Water & bread; " * 9, "of it"]


def load(directory: Path, **settings: object) -> ColBERTEncoder:
    encoder = load_encoder(ModelConfig(name=str(directory), dtype="float32", **settings))  # type: ignore[arg-type]
    assert isinstance(encoder, ColBERTEncoder)
    return encoder


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
def test_embeddings_equal_pylates_own(tmp_path: Path, layout: type) -> None:
    encoder = load(layout(tmp_path))
    documents = encoder.encode_documents(encoder.tokenize(TEXTS))
    for mine, theirs in zip(documents, encoder._model.encode(TEXTS, is_query=False), strict=True):
        np.testing.assert_allclose(mine.token_embeddings, theirs, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(mine.dense), 1, atol=1e-5)
    for query in ("bread and water", "the field " * 30):
        mine = encoder.encode_query(query)
        np.testing.assert_allclose(mine.token_embeddings, encoder._model.encode(query, is_query=True), atol=1e-5)


def test_stanford_and_pylate_layouts_of_one_model_agree(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, two = load(miniature.pylate(tmp_path / "a")), load(miniature.stanford(tmp_path / "b"))
    text = ["The mill by the water"]
    np.testing.assert_allclose(
        one.encode_documents(one.tokenize(text))[0].token_embeddings,
        two.encode_documents(two.tokenize(text))[0].token_embeddings,
        atol=1e-5,
    )
    assert two.fingerprint.document_length == 64
    assert two.fingerprint.document_prefix == "[unused1]"


def test_embeddings_do_not_depend_on_batch_neighbours(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    alone = encoder.encode_documents(encoder.tokenize(TEXTS[:1]))[0]
    together = encoder.encode_documents(encoder.tokenize(TEXTS))[0]
    np.testing.assert_allclose(alone.token_embeddings, together.token_embeddings, atol=1e-5)


def test_rows_are_traced_to_their_characters_and_the_skiplist_leaves_none(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    document = encoder.tokenize(["bread, of water."])[0]
    spans = encoder.kept_spans(document)
    assert len(spans) == len(encoder.encode_documents([document])[0].token_embeddings)
    covered = "".join("bread, of water."[start:end] for start, end in spans)
    assert covered == "breadofwater"
    assert spans[:2].tolist() == [[0, 0], [0, 0]]  # [CLS] and the prefix


def test_no_chunk_is_longer_than_the_encoder_takes(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    text = "Bread is baked. " * 300
    pieces = cut(text, [], encoder, encoder.content_length, is_code=False)
    assert encoder.content_length == 64 - 3
    encoded = encoder.encode_documents([piece.tokens for piece in pieces])
    assert max(len(item.token_embeddings) for item in encoded) <= 64


def test_a_document_that_does_not_fit_is_refused_not_truncated(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    with pytest.raises(EncoderError, match="nothing is truncated"):
        encoder.encode_documents(encoder.tokenize(["bread " * 100]))


def test_what_a_query_loses_to_its_length_is_reported(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path), query_length=8)
    assert encoder.encode_query("the mill").unread == ""
    assert encoder.encode_query("of in to of in bread").unread == "bread"


def test_lengths_are_overrides(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path), document_length=100)
    assert encoder.fingerprint.document_length == 100
    with pytest.raises(EncoderError, match="reads 128 tokens"):
        load(tmp_path, document_length=129)


def test_a_model_without_a_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="no ColBERT projection"):
        load(miniature.backbone_only(tmp_path))


def test_a_sentence_transformer_is_refused(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    transformer = json.loads((tmp_path / "modules.json").read_text())[0]
    pooling = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
    (tmp_path / "modules.json").write_text(json.dumps([transformer, pooling]))
    with pytest.raises(EncoderError, match="no ColBERT projection"):
        load(tmp_path)


def test_a_stanford_checkpoint_without_its_projection_is_refused(tmp_path: Path) -> None:
    miniature.backbone_only(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}))
    with pytest.raises(EncoderError, match="no ColBERT projection"):
        load(tmp_path)


def test_a_folder_without_a_model_and_an_unknown_name_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="holds no model"):
        load(tmp_path)
    with pytest.raises(ModelNotFoundError, match="builtin"):
        load_encoder(ModelConfig(name="nobody/no-such-model"))


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    weights = tmp_path / "1_Dense" / "model.safetensors"
    weights.rename(tmp_path / "1_Dense" / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="can run code"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("file", "key", "value", "reason"),
    [
        ("1_Dense/config.json", "activation_function", "canary.Planted", "not one of torch's own"),
        ("config.json", "auto_map", {"AutoModel": "canary.Planted"}, "code of its own"),
    ],
)
def test_a_checkpoint_cannot_name_code_to_be_run(
    tmp_path: Path, file: str, key: str, value: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    miniature.pylate(tmp_path)
    (tmp_path / "canary.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**config, key: value}))
    with pytest.raises(EncoderError, match=reason):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("canary.Planted", "code of its own"),
        ("os.path", "code of its own"),
        ("sentence_transformers.models.LSTM", "not one that is loaded"),
    ],
)
def test_a_checkpoint_cannot_name_a_module_of_its_choice(tmp_path: Path, kind: str, reason: str) -> None:
    miniature.pylate(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    (tmp_path / "modules.json").write_text(json.dumps([*modules, {"idx": 2, "name": "2", "path": "", "type": kind}]))
    with pytest.raises(EncoderError, match=reason):
        load(tmp_path)


def test_a_module_outside_of_the_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    model = miniature.pylate(tmp_path / "model")
    (model / "1_Dense").rename(tmp_path / "elsewhere")
    modules = json.loads((model / "modules.json").read_text())
    for path in ("../elsewhere", str(tmp_path / "elsewhere"), "link"):
        (model / "modules.json").write_text(json.dumps([modules[0], {**modules[1], "path": path}]))
        (model / "link").unlink(missing_ok=True)
        (model / "link").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(EncoderError, match="a module outside of its own directory"):
            load(model)


def test_the_fingerprint_follows_the_weights_and_not_the_device(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    one = load(miniature.pylate(tmp_path / "a", seed=1)).fingerprint
    two = load(miniature.pylate(tmp_path / "b", seed=2)).fingerprint
    again = load(tmp_path / "a", batch_tokens=64, threads=1).fingerprint
    assert one == again
    assert one.digest != two.digest


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford])
def test_each_row_of_a_query_is_traced_to_its_characters(tmp_path: Path, layout: type) -> None:
    encoder = load(layout(tmp_path))
    text = "  bread of\nthe Mill"
    query = encoder.encode_query(text)
    assert query.tokens[:2] == ("[CLS]", "[unused0]")
    assert set(query.tokens[-4:]) == {"[MASK]"}  # expansion up to query_length
    assert len(query.spans) == len(query.tokens) == len(query.token_embeddings) == 16
    words = [text[start:end] for start, end in query.spans if end]
    assert "".join(words) == "breadoftheMill"
    named = [name.removeprefix("##") for name, (_, end) in zip(query.tokens, query.spans, strict=True) if end]
    assert named == [word.lower() for word in words]


def test_a_query_that_is_cut_is_traced_as_far_as_it_is_read(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path), query_length=8)
    text = "of in to of in bread"
    query = encoder.encode_query(text)
    assert [text[start:end] for start, end in query.spans] == ["", "", "of", "in", "to", "of", "in", ""]


def test_rows_of_a_document_have_names(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    document = encoder.tokenize(["bread, of water."])[0]
    assert encoder.kept_tokens(document) == ("[CLS]", "[unused1]", "bread", "of", "water", "[SEP]")


def test_coverage_counts_what_no_embedding_tells_of(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    # The snowman is unknown, stops and commas are skipped, and the tokenizer drops control characters.
    text = "bread, ☃☃ \x07of water.\n"
    assert encoder.coverage(encoder.tokenize([text])[0], text) == Coverage(unknown=2, skipped=2, untokenized=1)


@settings(database=None, deadline=None)
@given(st.text("ab ,☃\x07\u3000\U0001f600\ud800", max_size=40), st.data())
def test_coverage_is_what_a_walk_over_the_characters_counts(text: str, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, 5)), max_size=12))
    spans = sorted((start, min(len(text), start + length)) for start, length in cuts)
    kinds = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(spans), max_size=len(spans))), np.int64)
    starts, ends = np.array(spans, np.int64).reshape(-1, 2).T
    expected = {"unknown": 0, "skipped": 0, "untokenized": 0}
    for at, character in enumerate(text):
        over = {int(kind) for kind, (start, end) in zip(kinds, spans, strict=True) if start <= at < end}
        if not character.isspace() and 0 not in over:
            expected["unknown" if 1 in over else "skipped" if 2 in over else "untokenized"] += 1
    found = count_coverage(Tokenized(kinds, starts, ends), text, kinds == 1, kinds == 2)
    assert found == Coverage(**expected)


def test_the_fingerprint_holds_everything_that_changes_what_is_stored(tmp_path: Path) -> None:
    found = load(miniature.pylate(tmp_path)).fingerprint
    assert found == Fingerprint(
        model=str(tmp_path),
        digest=inspect(tmp_path).digest,
        dimension=miniature.DIMENSION,
        dense_dimension=miniature.DIMENSION,
        document_prefix="[unused1]",
        document_length=64,
        skiplist=(".", ","),
    )


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (miniature.pylate, "model.safetensors"),
        (miniature.pylate, "1_Dense/model.safetensors"),
        (miniature.pylate, "1_Dense/config.json"),
        (miniature.pylate, "tokenizer.json"),
        (miniature.stanford, "model.safetensors"),
        (miniature.stanford, "tokenizer.json"),
    ],
)
def test_the_digest_follows_every_file_that_shapes_an_embedding(tmp_path: Path, layout: type, name: str) -> None:
    directory = layout(tmp_path)
    before = inspect(directory).digest
    assert inspect(directory).digest == before
    with (directory / name).open("ab") as file:
        file.write(b" ")
    assert inspect(directory).digest != before


def test_the_dense_vector_is_the_mean_of_the_token_embeddings(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    for document in encoder.encode_documents(encoder.tokenize(TEXTS)):
        mean = document.token_embeddings.mean(axis=0)
        np.testing.assert_allclose(document.dense, mean / np.linalg.norm(mean), atol=1e-6)
    query = encoder.encode_query("bread and water")
    np.testing.assert_allclose(np.linalg.norm(query.dense), 1, atol=1e-6)


def test_batches_hold_at_most_the_tokens_allowed_in_few_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load(miniature.pylate(tmp_path), batch_tokens=100)
    lengths = [3, 60, 17, 16, 1, 33, 2, 40, 5]
    forward, given = encoder._forward, []
    monkeypatch.setattr(encoder, "_forward", lambda features: (given.append(features), forward(features))[1])
    encoder.encode_documents(encoder.tokenize(["bread " * length for length in lengths]))
    sizes = [[int(count) for count in features["attention_mask"].sum(dim=1)] for features in given]
    assert sorted(count for batch in sizes for count in batch if count > 1) == sorted(length + 3 for length in lengths)
    for features in given:
        rows, padded = features["input_ids"].shape
        assert rows * padded <= 100
        assert padded % 16 == 0
    assert len(given) < len(lengths)


def test_passes_that_run_at_once_have_no_more_tokens_or_threads_than_one_would() -> None:
    for tokens, longest, threads in [(4096, 200, 2), (4096, 200, 16), (4096, 3000, 8), (64, 9, 4), (100, 900, 3)]:
        sharing = share(tokens, longest, threads)
        assert 1 <= sharing.passes <= threads
        assert sharing.passes * sharing.tokens <= tokens
        assert sharing.passes * sharing.threads <= threads
        assert sharing.passes == 1 or sharing.tokens >= longest  # else one text each could be more than all
    assert share(4096, 200, 2).passes == 2


def test_embeddings_do_not_depend_on_how_many_passes_run_at_once(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        encoder = load(miniature.pylate(tmp_path), batch_tokens=8192, threads=3, device="cpu")
        texts = [f"bread of {number} fields " * (number % 5) for number in range(600)]
        tokens = encoder.tokenize(texts)
        names: set[str] = set()
        encoder.backbone.register_forward_pre_hook(lambda *_: names.add(threading.current_thread().name))
        together = encoder.encode_documents(tokens)
        assert len(names) > 1
        assert torch.get_num_threads() == 3
        for place in range(0, len(texts), 50):
            (alone,) = encoder.encode_documents(tokens[place : place + 1])
            np.testing.assert_allclose(together[place].token_embeddings, alone.token_embeddings, atol=1e-5)
            np.testing.assert_allclose(together[place].dense, alone.dense, atol=1e-5)
    finally:
        torch.set_num_threads(threads)


def test_a_query_does_not_wait_for_a_pass_over_documents(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    begun, answered = threading.Event(), threading.Event()
    in_time: list[bool] = []

    def hold(*_: object) -> None:
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            in_time.append(answered.wait(10))

    encoder.backbone.register_forward_pre_hook(hold)
    tokens = encoder.tokenize(["bread and water"])
    documents = threading.Thread(target=encoder.encode_documents, args=(tokens,))
    documents.start()
    try:
        assert begun.wait(60)
        encoder.encode_query("bread")
    finally:
        answered.set()
        documents.join()
    assert in_time == [True]


def test_a_query_that_is_soon_encoded_and_its_search_take_one_thread(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        encoder = load(miniature.pylate(tmp_path), threads=3, device="cpu")
        counts: list[int] = []
        encoder.backbone.register_forward_pre_hook(lambda *_: counts.append(torch.get_num_threads()))
        query = encoder.encode_query("bread")
        encoder._parameters = 10**9
        encoder.encode_query("bread")
        assert counts == [1, 3]
        tokens = TokenMatrix(*quantise(query.token_embeddings), np.array([0, len(query.token_embeddings)]))
        encoder.scorer.best_matches(query.token_embeddings, tokens)
        assert torch.get_num_threads() == 3
        with pytest.raises(ZeroDivisionError), computing_on(1):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_a_pass_that_fails_stops_those_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    try:
        encoder = load(miniature.pylate(tmp_path), batch_tokens=4096, threads=3, device="cpu")
        forward, passes = encoder._forward, []

        def failing(features: dict[str, torch.Tensor]) -> object:
            passes.append(1)
            if len(passes) == 2:
                raise EncoderError("no")
            return forward(features)

        monkeypatch.setattr(encoder, "_forward", failing)
        tokens = encoder.tokenize(["bread of many fields"] * 5_000)
        with pytest.raises(EncoderError, match="^no$"):
            encoder.encode_documents(tokens)
        assert len(passes) <= 4
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_code_of_a_checkpoint_runs_in_one_pass_at_a_time(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path), batch_tokens=4096, threads=2, device="cpu")
    encoder._alone = threading.Lock()
    names: set[str] = set()
    encoder.backbone.register_forward_pre_hook(lambda *_: names.add(threading.current_thread().name))
    encoder.encode_documents(encoder.tokenize(["bread of many fields"] * 2_000))
    assert names == {threading.current_thread().name}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_number_format_is_that_of_the_backbone_alone(tmp_path: Path, dtype: Literal["bfloat16", "float16"]) -> None:
    encoder = load_encoder(ModelConfig(name=str(miniature.pylate(tmp_path)), dtype=dtype))
    assert encoder.dtype == dtype
    query = encoder.encode_query("bread")
    assert query.token_embeddings.dtype == query.dense.dtype == np.float32
    (document,) = encoder.encode_documents(encoder.tokenize(["bread and water"]))
    assert document.token_embeddings.dtype == document.dense.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(document.token_embeddings, axis=1), 1, atol=1e-5)


def test_the_best_device_there_is_chosen_and_a_missing_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert (choose_device("auto"), choose_device("cpu")) == ("cpu", "cpu")
    for device in ("cuda", "mps"):
        with pytest.raises(EncoderError, match=f'device = "{device}" is not available'):
            choose_device(device)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (choose_device("auto"), choose_device("cpu")) == ("cuda", "cpu")


def test_a_device_that_is_not_there_is_an_error_of_the_model_that_says_what_torch_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = miniature.pylate(tmp_path)
    for build, reason in ((None, "built without CUDA"), ("12.8", "finds no GPU of its kind")):
        monkeypatch.setattr(torch.version, "cuda", build)
        for ask in (load, lambda directory, **settings: hardware(ModelConfig(name=str(directory), **settings))):
            with pytest.raises(EncoderError, match=rf'"cuda" is not available here \(torch [^ ]+ .*{reason}\)'):
                ask(model, device="cuda")


@pytest.mark.parametrize(
    ("cuda", "mps", "half", "expected"),
    [
        (True, False, True, ("cuda", "a GPU was found", "bfloat16", "half precision")),
        (True, True, False, ("cuda", "a GPU was found", "float16", "half precision")),
        (False, True, False, ("mps", "an Apple GPU was found", "float32", "full precision on Apple GPUs")),
    ],
)
def test_what_is_used_of_a_machine_is_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, half: bool, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: half)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    found = hardware(ModelConfig())
    assert (found.device, found.device_why, found.dtype, found.dtype_why) == expected
    named = hardware(ModelConfig(device=expected[0], dtype="float32", batch_tokens=99, threads=3))  # type: ignore[arg-type]
    assert (named.device_why, named.dtype, named.dtype_why) == ("[model] device", "float32", "[model] dtype")
    assert (named.batch_tokens, named.threads) == (99, 3)
    assert hardware(ModelConfig(device="cpu")).device == "cpu"


def test_memory_of_a_device_is_given_back_where_it_was_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: called.append("cuda"))
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: called.append("mps"))
    for device in ("cpu", "cuda", "mps"):
        release_memory(device)
    assert called == ["cuda", "mps"]


def test_a_document_length_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    assert load(miniature.pylate(tmp_path), document_length=11).content_length == 8
    with pytest.raises(EncoderError, match="document_length to at least 11"):
        load(tmp_path, document_length=10)


def test_a_query_length_that_leaves_no_room_is_refused(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path), query_length=4)
    assert encoder.encode_query("bread water").unread == "water"
    with pytest.raises(EncoderError, match="query_length to at least 4"):
        load(tmp_path, query_length=3)


def test_a_model_that_changes_text_outside_of_its_tokenizer_is_refused(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 64, "do_lower_case": True}))
    with pytest.raises(EncoderError, match="lower-cases outside its tokenizer"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("config.json", b"{", "Cannot read"),
        ("modules.json", b"[1]", "not a list of modules"),
        ("1_Dense/config.json", b"[]", "not one of torch's own"),
        ("1_Dense/model.safetensors", b"torn", "not a safetensors file"),
        ("tokenizer.json", None, "no tokenizer.json"),
        ("model.safetensors", None, "no model.safetensors"),
        ("model.safetensors", b"torn", "not a safetensors file"),
    ],
)
def test_a_damaged_checkpoint_is_a_typed_error(tmp_path: Path, name: str, content: bytes | None, reason: str) -> None:
    miniature.pylate(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=reason):
        load(tmp_path)


@pytest.mark.parametrize("header", [(2**62).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"torn", b""])
def test_a_header_of_any_length_is_not_believed(tmp_path: Path, header: bytes) -> None:
    miniature.stanford(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(header)
    with pytest.raises(EncoderError, match="not a safetensors file"):
        load(tmp_path)


def test_a_tokenizer_that_came_with_truncation_and_padding_does_neither(tmp_path: Path) -> None:
    miniature.pylate(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=12)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = load(tmp_path)
    assert [len(document.ids) for document in encoder.tokenize(["bread " * 20, "bread"])] == [20, 1]


def test_a_hub_is_asked_after_its_cache_and_for_nothing_that_can_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, object]] = []

    def download(name: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((revision, local_files_only))
        for file in ("pytorch_model.bin", "modeling.py", "model.pkl", "model.pt", "model.ckpt"):
            assert not any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns)
        if local_files_only:
            raise LocalEntryNotFoundError(name)
        return str(miniature.pylate(tmp_path))

    monkeypatch.setattr(loading, "snapshot_download", download)
    encoder = load_encoder(ModelConfig(name="someone/model", revision="v1"))
    assert asked == [("v1", True), ("v1", False)]
    assert encoder.fingerprint.model == "someone/model"

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(loading, "snapshot_download", unreachable)
    with pytest.raises(ModelNotFoundError, match="no model someone/model"):
        load_encoder(ModelConfig(name="someone/model"))


def test_queries_encoded_together_are_those_encoded_alone(tmp_path: Path) -> None:
    encoder = load(miniature.pylate(tmp_path))
    texts = ["bread and water", "the mill", "the field " * 30]
    for text, together in zip(texts, encoder.encode_queries(texts), strict=True):
        alone = encoder.encode_query(text)
        np.testing.assert_allclose(together.token_embeddings, alone.token_embeddings, atol=1e-5)
        np.testing.assert_allclose(together.dense, alone.dense, atol=1e-5)
        assert (together.tokens, together.unread) == (alone.tokens, alone.unread)
        np.testing.assert_array_equal(together.spans, alone.spans)


def test_a_batch_that_memory_is_too_little_for_is_halved_and_the_size_that_fits_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = load(miniature.pylate(tmp_path), batch_tokens=1024, device="cpu")
    texts = [f"bread of {number} fields" for number in range(200)]
    expected = encoder.encode_documents(encoder.tokenize(texts))
    queries = encoder.encode_queries(texts)
    forward, sizes = encoder._forward, []

    def scarce(features: dict[str, torch.Tensor]) -> object:
        rows = len(features["input_ids"])
        sizes.append(rows)
        if rows > 6:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return forward(features)

    monkeypatch.setattr(encoder, "_forward", scarce)
    found = encoder.encode_documents(encoder.tokenize(texts))
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
    too_large = [size for size in sizes if size > 6]
    assert sizes[: len(too_large)] == too_large == sorted(too_large, reverse=True), "it fails at the beginning only"
    assert len(too_large) <= 5
    assert caplog.text.count("Too little memory on cpu") == len(too_large)
    sizes.clear()
    for mine, theirs in zip(encoder.encode_queries(texts), queries, strict=True):
        np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
    assert sum(size > 6 for size in sizes) <= 1, "it does not begin with what has failed before"


def test_rows_that_only_fill_up_a_batch_do_not_make_a_text_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(miniature.pylate(tmp_path), device="cpu")
    forward = encoder._forward

    def scarce(features: dict[str, torch.Tensor]) -> object:
        if len(features["input_ids"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(features)

    monkeypatch.setattr(encoder, "_forward", scarce)
    assert len(encoder.encode_documents(encoder.tokenize(["bread of the field"]))) == 1


def test_batches_grow_again_after_many_that_fitted_and_ever_more_slowly_after_failures() -> None:
    budget, sizes = Budget(1024), []
    for _ in range(2000):
        sizes.append(budget.tokens)
        budget.failed(budget.tokens) if budget.tokens > 300 else budget.fitted()
    assert sizes[:3] == [1024, 512, 256]
    failures = [at for at, size in enumerate(sizes) if size > 300]
    apart = [later - earlier for earlier, later in pairwise(failures[1:])]
    assert all(later > 1.9 * earlier for earlier, later in pairwise(apart))
    assert len(failures) <= 6
    for _ in range(10_000):
        budget.fitted()
    assert budget.tokens == 1024


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."),
        MemoryError(),
    ],
)
def test_a_single_text_that_does_not_fit_memory_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    encoder = load(miniature.pylate(tmp_path), device="cpu")

    def never(_: object) -> None:
        raise error

    monkeypatch.setattr(encoder, "_forward", never)
    with pytest.raises(EncoderError, match="memory of cpu is too little"):
        encoder.encode_documents(encoder.tokenize(["bread", "water"]))
    with pytest.raises(EncoderError, match="memory of cpu is too little"):
        encoder.encode_query("bread")


def test_another_error_of_the_device_is_not_taken_for_a_lack_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(miniature.pylate(tmp_path))

    def broken(_: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(encoder, "_forward", broken)
    with pytest.raises(RuntimeError, match="device-side assert"):
        encoder.encode_documents(encoder.tokenize(["bread", "water"]))


def test_rows_that_only_fill_up_a_batch_do_not_multiply_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load(miniature.pylate(tmp_path), document_length=128, batch_tokens=128)
    shapes = []
    forward = encoder._forward
    monkeypatch.setattr(
        encoder, "_forward", lambda features: (shapes.append(features["input_ids"].shape), forward(features))[1]
    )
    encoder.encode_documents(encoder.tokenize(["bread " * 120, "bread " * 14, "water " * 14]))
    assert [tuple(shape) for shape in shapes] == [(1, 128), (4, 32)]


def test_a_tokenizer_that_panics_on_a_text_is_an_error_that_says_so(tmp_path: Path) -> None:
    folder = miniature.pylate(tmp_path)
    told = json.loads((folder / "tokenizer.json").read_text())
    told["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(EncoderError, match="tokenizer fails on a text"):
        load(folder).tokenize(["a" * 40 + "!"])
