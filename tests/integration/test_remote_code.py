"""Code in a checkpoint runs only for the model that the configuration names and trusts: a canary must not appear."""

import json
import sys
from pathlib import Path

import huggingface_hub.constants
import miniature
import numpy as np
import pytest
import transformers.dynamic_module_utils
from support import EngineFactory

from colbert_mcp.cli import main
from colbert_mcp.config import Config, IndexConfig, ModelConfig, StoreConfig
from colbert_mcp.encoder import load_encoder, loading
from colbert_mcp.encoder.exporting import export
from colbert_mcp.engine import Engine
from colbert_mcp.errors import EncoderError, ModelNotFoundError

COMMIT, CODE_COMMIT = "0123456789abcdef0123456789abcdef01234567", "89abcdef0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "planted", raising=False)  # else it would not run a second time


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"


def config(name: Path | str, **settings: object) -> ModelConfig:
    values = {"name": str(name), "dtype": "float32", "device": "cpu", **settings}
    return ModelConfig(**values)  # type: ignore[arg-type]


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def plant(model: Path, canary: Path, base: str = "object") -> None:
    """A Python file that leaves a canary, with a class that could be loaded."""
    code = f"import pathlib\nimport sentence_transformers.models\nimport transformers\npathlib.Path({str(canary)!r}).touch()\n"
    (model / "planted.py").write_text(f"{code}\n\nclass Planted({base}):\n    pass\n")


def in_config(model: Path, canary: Path) -> None:
    miniature.with_code(model, canary)


def in_tokenizer(model: Path, canary: Path) -> None:
    miniature.pylate(model)
    plant(model, canary, "transformers.PreTrainedTokenizerFast")
    edit(
        model / "tokenizer_config.json",
        tokenizer_class="Planted",
        auto_map={"AutoTokenizer": [None, "planted.Planted"]},
    )


def in_modules(model: Path, canary: Path) -> None:
    miniature.pylate(model)
    plant(model, canary, "sentence_transformers.models.Transformer")
    modules = json.loads((model / "modules.json").read_text())
    (model / "modules.json").write_text(json.dumps([{**modules[0], "type": "planted.Planted"}, *modules[1:]]))


WAYS = [in_config, in_tokenizer, in_modules]


@pytest.mark.parametrize("way", WAYS)
def test_code_does_not_run_without_the_setting_and_does_with_it(tmp_path: Path, canary: Path, way: type) -> None:
    model = tmp_path / "model"
    way(model, canary)
    with pytest.raises(EncoderError, match=r"brings code of its own .* trust_remote_code = true"):
        load_encoder(config(model))
    assert not canary.exists()
    encoder = load_encoder(config(model, trust_remote_code=True))
    assert canary.exists()
    assert len(encoder.encode_query("bread").token_embeddings) == 16


def test_python_files_that_nothing_names_do_not_run(tmp_path: Path, canary: Path) -> None:
    model = miniature.pylate(tmp_path / "model")
    for name in ("planted", "modeling_bert", "tokenization_bert", "sitecustomize", "Dense", "custom_st"):
        plant(model, canary)
        (model / "planted.py").rename(model / f"{name}.py")
    load_encoder(config(model, trust_remote_code=True))
    load_encoder(config(model))
    assert not canary.exists()


_AUTO = dict.fromkeys(
    ["AutoConfig", "AutoModel", "AutoProcessor", "AutoImageProcessor", "AutoFeatureExtractor", "AutoVideoProcessor"],
    "planted.Planted",
)
_NAMES_CODE: dict[str, object] = {
    "processor_config.json": {"auto_map": _AUTO, "processor_class": "planted.Planted"},
    "preprocessor_config.json": {"auto_map": _AUTO, "image_processor_type": "planted.Planted"},
    "video_preprocessor_config.json": {"auto_map": _AUTO, "video_processor_type": "planted.Planted"},
    "generation_config.json": {
        "auto_map": _AUTO,
        "custom_generate": "planted",
        "cache_implementation": "planted.Planted",
    },
    "router_config.json": {"types": {"query_0": "planted.Planted"}, "structure": {"query": ["query_0"]}},
    "special_tokens_map.json": {"auto_map": _AUTO},
    "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
    "config_sentence_transformers.json": {
        "auto_map": _AUTO,
        "modules": ["planted.Planted"],
        "loss": "planted.Planted",
        "prompts": {"query": "{{ cycler.__init__.__globals__.os.mkdir('CANARY') }}"},
        "activation_fn": "planted.Planted",
    },
    "config.json": {
        "custom_pipelines": {"embed": {"impl": "planted.Planted", "pt": ["AutoModel"]}},
        "tokenizer_class": "planted.Planted",
        "processor_class": "planted.Planted",
        "sentence_transformers": {"activation_fn": "planted.Planted"},
    },
    "tokenizer_config.json": {
        "processor_class": "planted.Planted",
        "chat_template": "{{ cycler.__init__.__globals__.os.mkdir('CANARY') }}",
    },
}


def _name_code_everywhere(model: Path, canary: Path) -> None:
    """Every file of a model that is no allowed place for code names some, and the code is there."""
    plant(model, canary, "transformers.PreTrainedTokenizerFast")
    for name, values in _NAMES_CODE.items():
        for folder in {model, *(file.parent for file in model.rglob("tokenizer.json"))}:
            file = folder / name
            known = json.loads(file.read_text()) if file.exists() else {}
            if known or name not in ("config.json", "config_sentence_transformers.json"):
                told = json.loads(json.dumps(values).replace("CANARY", str(canary)))
                file.write_text(json.dumps({**known, **told}))
    (model / "custom_generate").mkdir()
    for name in ("custom_generate/generate.py", "setup.py", "conftest.py", "__init__.py", "pipeline.py"):
        (model / name).write_text((model / "planted.py").read_text())
    template = f"{{{{ cycler.__init__.__globals__.os.mkdir({str(canary)!r}) }}}}"
    (model / "chat_template.jinja").write_text(template)
    front = f"!!python/object/apply:os.mkdir [{str(canary)!r}]"
    (model / "README.md").write_text(f"---\nlicense: {front}\ntags: {template}\n---\n{template}\n")


@pytest.mark.parametrize("layout", [miniature.pylate, miniature.stanford, miniature.sentence_transformers])
@pytest.mark.parametrize("trust", [False, True])
def test_code_that_other_files_name_never_runs(
    tmp_path: Path, canary: Path, layout: type, trust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = layout(tmp_path / "model")
    _name_code_everywhere(model, canary)
    monkeypatch.chdir(model)
    monkeypatch.syspath_prepend(model)
    encoder = load_encoder(config(model, trust_remote_code=trust))
    assert len(encoder.encode_query("bread").token_embeddings) > 2
    assert len(encoder.encode_documents(encoder.tokenize(["bread"]))) == 1
    if layout is miniature.stanford:
        export(config(model), tmp_path / "out")
        load_encoder(config(tmp_path / "out"))
    assert not canary.exists()


@pytest.mark.parametrize(
    "name",
    [
        "planted.Planted",
        "torch.nn.modules.activation.planted.Planted",
        "torch.nn.modules.activation..planted.Planted",
        "torch.nn.modules.activation.warnings",
        "torch.nn.modules.activation.MultiheadAttention",
        "torch.nn.modules.linear.Identity.planted",
        "torch.nn.modules.linear.Identityplanted",
        "sentence_transformers.models.Router",
        ["planted.Planted"],
    ],
)
def test_an_activation_is_one_of_torchs_own_and_nothing_else_is_imported(
    tmp_path: Path, canary: Path, name: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniature.pylate(tmp_path / "model")
    plant(model, canary)
    monkeypatch.syspath_prepend(model)
    edit(model / "1_Dense" / "config.json", activation_function=name)
    with pytest.raises(EncoderError):
        load_encoder(config(model, trust_remote_code=True))
    assert not canary.exists()


def test_the_code_is_part_of_what_ties_an_index_to_its_model(tmp_path: Path, canary: Path) -> None:
    model = miniature.with_code(tmp_path / "model", canary)
    before = load_encoder(config(model, trust_remote_code=True)).fingerprint
    with (model / "modeling_mini.py").open("a") as file:
        file.write("# changed\n")
    assert load_encoder(config(model, trust_remote_code=True)).fingerprint.digest != before.digest


def test_code_of_a_hub_id_needs_a_commit(tmp_path: Path, canary: Path) -> None:
    plain = miniature.stanford(tmp_path / "plain")
    expected = load_encoder(config(plain)).encode_query("bread").token_embeddings
    miniature.hub_cache(tmp_path / "cache", miniature.with_code(tmp_path / "model", canary), "someone/colbert", COMMIT)
    for revision in ("", "main", COMMIT[:12], COMMIT.upper()):
        with pytest.raises(EncoderError, match="40 digits of a commit of someone/colbert"):
            load_encoder(config("someone/colbert", revision=revision, trust_remote_code=True))
    with pytest.raises(EncoderError, match="which is not run"):
        load_encoder(config("someone/colbert", revision=COMMIT))
    assert not canary.exists()
    encoder = load_encoder(config("someone/colbert", revision=COMMIT, trust_remote_code=True))
    assert canary.exists()
    np.testing.assert_allclose(encoder.encode_query("bread").token_embeddings, expected, atol=1e-5)


def test_a_folder_of_the_working_directory_never_stands_in_for_a_hub_id(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strangers" / "someone").mkdir(parents=True)
    miniature.with_code(tmp_path / "strangers" / "someone" / "colbert", canary)
    monkeypatch.chdir(tmp_path / "strangers")
    trusted = {"revision": COMMIT, "trust_remote_code": True}
    with pytest.raises(ModelNotFoundError, match="no model someone/colbert"):
        load_encoder(config("someone/colbert", **trusted))
    assert not canary.exists()
    plain = miniature.pylate(tmp_path / "plain")
    miniature.hub_cache(tmp_path / "cache", plain, "someone/colbert", COMMIT)
    assert len(load_encoder(config("someone/colbert", **trusted)).encode_query("bread").token_embeddings) == 16
    assert not canary.exists()


def test_code_of_another_repository_needs_a_commit_of_its_own(tmp_path: Path, canary: Path) -> None:
    model = miniature.with_code(tmp_path / "model", canary, repository="someone/code")
    (tmp_path / "code").mkdir()
    (model / "modeling_mini.py").rename(tmp_path / "code" / "modeling_mini.py")
    miniature.hub_cache(tmp_path / "cache", model, "someone/colbert", COMMIT)
    settings = {"revision": COMMIT, "trust_remote_code": True}
    for code_revision in ("", "main"):
        with pytest.raises(EncoderError, match=r"from someone/code; set \[model\] code_revision"):
            load_encoder(config("someone/colbert", **settings, code_revision=code_revision))
    with pytest.raises(EncoderError, match=rf"someone/code at {CODE_COMMIT}, which is neither"):
        load_encoder(config("someone/colbert", **settings, code_revision=CODE_COMMIT))
    assert not canary.exists()
    miniature.hub_cache(tmp_path / "cache", tmp_path / "code", "someone/code", CODE_COMMIT)
    encoder = load_encoder(config("someone/colbert", **settings, code_revision=CODE_COMMIT))
    assert canary.exists()
    assert len(encoder.encode_query("bread").token_embeddings) == 16


def test_code_that_fails_is_an_error_of_the_model(tmp_path: Path, canary: Path) -> None:
    model = miniature.with_code(tmp_path / "model", canary)
    with (model / "modeling_mini.py").open("a") as file:
        file.write("raise ZeroDivisionError('of the model')\n")
    with pytest.raises(EncoderError, match="code of the model .* failed: ZeroDivisionError: of the model"):
        load_encoder(config(model, trust_remote_code=True))


def test_a_model_with_code_is_never_loaded_from_an_indexed_folder(
    tmp_path: Path, canary: Path, notes: Path, open_engine: EngineFactory
) -> None:
    model = miniature.with_code(notes / "deep" / "model", canary)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "text.txt").write_text("Bread of the field.")
    (tmp_path / "link").symlink_to(model)
    indexed = open_engine()
    indexed.index_path(notes)  # with an encoder that is no model
    indexed.close()
    settings = Config(
        index=IndexConfig(path=str(tmp_path / "index")),
        model=config(tmp_path / "link", trust_remote_code=True),
        store=StoreConfig(chroma=False),
    )
    engine = Engine.open(settings, create_missing=False)
    with pytest.raises(EncoderError, match="lies in the indexed folder"):
        engine.search("bread")
    engine.close()
    other = settings.model_copy(update={"index": IndexConfig(path=str(tmp_path / "other"))})
    engine = Engine.open(other, create_missing=True)
    with pytest.raises(EncoderError, match="lies in the indexed folder"):
        engine.index_path(notes)
    assert not canary.exists()
    assert engine.index_path(elsewhere).state == "done"
    assert canary.exists()
    engine.close()


def test_what_the_cache_lacks_is_asked_of_the_hub(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = miniature.with_code(tmp_path / "model", canary)
    code = (model / "modeling_mini.py").read_text()
    (model / "modeling_mini.py").unlink()
    snapshot = miniature.hub_cache(tmp_path / "cache", model, "someone/colbert", COMMIT)
    weights = snapshot / "model.safetensors"
    asked = []

    def download(name: str, *, revision: str, allow_patterns: list[str], local_files_only: bool) -> str:
        asked.append((allow_patterns[-1], local_files_only))
        if not local_files_only:
            weights.with_name("kept").rename(weights) if not weights.exists() else None
            if "*.py" in allow_patterns:
                (snapshot / "modeling_mini.py").write_text(code)
        return str(snapshot)

    monkeypatch.setattr(loading, "snapshot_download", download)
    encoder = load_encoder(config("someone/colbert", revision=COMMIT, trust_remote_code=True))
    assert asked == [("*.py", True), ("*.py", True), ("*.py", False)]
    assert len(encoder.encode_query("bread").token_embeddings) == 16
    weights.rename(weights.with_name("kept"))
    asked.clear()
    load_encoder(config("someone/colbert", revision=COMMIT, trust_remote_code=True))
    assert asked == [("*.py", True), ("*.py", False)]


def test_an_export_and_a_check_tell_which_folder_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "someone").mkdir()
    model = miniature.stanford(tmp_path / "someone" / "model")
    monkeypatch.chdir(tmp_path)
    assert main(["model", "export", "someone/model", "out", "--json"]) == 0
    assert f"It was written from {model.resolve()}." in json.loads(capsys.readouterr().out)["notes"]
    assert main(["model", "check", "someone/model", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(model.resolve())


@pytest.mark.parametrize("repository", ["", "someone/code"])
def test_an_export_of_a_model_with_code_encodes_as_it_does(tmp_path: Path, canary: Path, repository: str) -> None:
    model = miniature.with_code(tmp_path / "model", canary, repository=repository)
    settings = {"trust_remote_code": True, "code_revision": CODE_COMMIT if repository else ""}
    if repository:
        (tmp_path / "code").mkdir()
        (model / "modeling_mini.py").rename(tmp_path / "code" / "modeling_mini.py")
        miniature.hub_cache(tmp_path / "cache", tmp_path / "code", repository, CODE_COMMIT)
    export(config(model), tmp_path / "out")
    assert not canary.exists()
    one, two = (load_encoder(config(path, **settings)) for path in (model, tmp_path / "out"))
    for text in ("The mill, by the water.", "bread"):
        (mine,), (theirs,) = (e.encode_documents(e.tokenize([text])) for e in (one, two))
        np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
        mine, theirs = one.encode_query(text), two.encode_query(text)
        np.testing.assert_allclose(mine.token_embeddings, theirs.token_embeddings, atol=1e-5)
