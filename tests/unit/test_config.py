from pathlib import Path

import pytest
from pydantic import ValidationError

from colbert_mcp.config import INDEX_VARIABLE, Config, ModelConfig, default_config_file, load_config
from colbert_mcp.errors import ConfigError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any configuration, and an environment that says nothing."""
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", INDEX_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


def config_file(folder: Path, text: str, name: str = "config.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_without_any_file_every_setting_has_its_default(home: Path) -> None:
    config = load_config()
    assert config == Config()
    assert config.index_path.is_relative_to(home)
    assert config.index_path.name == "index"


def test_a_file_sets_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    config = load_config(config_file(tmp_path, '[search]\nmin_candidates = 7\n[index]\nroots = ["/a", "~/b"]\n'))
    assert config.search.min_candidates == 7
    assert config.index.roots == ("/a", "~/b")
    assert config.search.bm25_weight == Config().search.bm25_weight
    assert config.model == Config().model


def test_the_users_own_file_is_read_if_there_is_one() -> None:
    config_file(default_config_file().parent, "[store]\nchroma = false\n")
    assert load_config().store.chroma is False


def test_a_named_file_is_read_instead_of_the_users_own(tmp_path: Path) -> None:
    config_file(default_config_file().parent, "[store]\nchroma = false\n")
    assert load_config(config_file(tmp_path, "")).store.chroma is True


def test_an_option_wins_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config_file(tmp_path, '[index]\npath = "/from/file"\nroots = ["/r"]\n')
    default = load_config().index_path
    assert load_config(file).index_path == Path("/from/file") != default
    monkeypatch.setenv(INDEX_VARIABLE, "/from/environment")
    assert load_config().index_path == Path("/from/environment")
    assert load_config(file).index_path == Path("/from/environment")
    assert load_config(file, index="/from/option").index_path == Path("/from/option")
    assert load_config(file, index="/from/option").index.roots == ("/r",)


def test_the_variable_for_the_index_is_named_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLBERT_MCP_INDEX", "/somewhere")
    assert load_config().index_path == Path("/somewhere")


def test_an_empty_variable_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INDEX_VARIABLE, "")
    assert load_config(config_file(tmp_path, '[index]\npath = "/from/file"\n')).index_path == Path("/from/file")


def test_a_relative_index_in_a_file_lies_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file(tmp_path / "conf", '[index]\npath = "data/index"\n')
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = tmp_path.resolve() / "conf" / "data" / "index"
    assert load_config(tmp_path / "conf" / "config.toml").index_path == expected
    assert load_config(Path("../conf/config.toml")).index_path == expected


def test_a_relative_model_in_a_file_lies_beside_the_file_and_else_is_a_hub_id(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "models" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "someone" / "colbert").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere")
    beside = tmp_path.resolve() / "conf"
    for name, directory in {
        "models/mine": beside / "models" / "mine",
        "./models/mine": beside / "models" / "mine",
        "../else": beside / ".." / "else",
        "~/m": home / "m",
        str(tmp_path / "m"): tmp_path / "m",
        "someone/colbert": None,
        "builtin": None,
        "x" * 300: None,
    }.items():
        found = load_config(config_file(tmp_path / "conf", f'[model]\nname = "{name}"\n')).model
        assert found.directory == directory
        assert found.name == (name if directory is None else str(directory))
    assert ModelConfig(name="someone/colbert").directory is None


def test_a_model_of_a_user_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no user"):
        load_config(config_file(tmp_path, '[model]\nname = "~nobody-of-this-name/x"\n'))
    with pytest.raises(ConfigError, match="no user"):
        _ = ModelConfig(name="~nobody-of-this-name/x").directory


def test_a_tilde_is_the_home(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config(config_file(tmp_path, '[index]\npath = "~/i"\n')).index_path == home / "i"
    assert load_config(index="~/j").index_path == home / "j"
    monkeypatch.setenv(INDEX_VARIABLE, "~/k")
    assert load_config().index_path == home / "k"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[index]\npaht = 1\n", "index.paht"),
        ("[indx]\npath = 'x'\n", "indx"),
        ("colour = true\n", "colour"),
        ("[search]\nmin_candidates = 1\nweights.extra = 2\n", "search.weights"),
    ],
)
def test_an_unknown_key_is_named(tmp_path: Path, text: str, key: str) -> None:
    file = config_file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert f"unknown key {key}" in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[documents]\nmax_file_bytes = 0\n", "documents.max_file_bytes"),
        ("[documents]\nhidden = 'maybe'\n", "documents.hidden"),
        ("[search]\ncandidate_growth = -1.5\n", "search.candidate_growth"),
        ("[search]\nbm25_weight = -0.1\n", "search.bm25_weight"),
        ("[search]\nmaxsim_weight = 1e39\n", "search.maxsim_weight"),
        ("[model]\ndevice = 'tpu'\n", "model.device"),
        ("[model]\nname = ''\n", "model.name"),
        ("[model]\ndocument_length = 70000\n", "model.document_length"),
        ("[store]\nmax_segments = 1\n", "store.max_segments"),
        ("[server]\nlog_level = 'LOUD'\n", "server.log_level"),
        ("[index]\nroots = 'one'\n", "index.roots"),
    ],
)
def test_a_value_that_is_wrong_is_named_by_its_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config_file(tmp_path, text))
    assert f"{key}" in str(caught.value)
    assert "unknown key" not in str(caught.value)


def test_every_problem_of_a_file_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key index\.a.*store\.max_segments"):
        load_config(config_file(tmp_path, "[index]\na = 1\n[store]\nmax_segments = 1\n"))


def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*none\.toml"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize("raw", [b"[index\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_not_toml_is_an_error(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(raw)
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        load_config(file)


def test_a_folder_in_place_of_a_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read the configuration file"):
        load_config(tmp_path)


def test_a_file_in_the_working_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config_file(tmp_path, "[store]\nchroma = false\n")
    config_file(tmp_path, "[store]\nchroma = false\n", name="colbert-mcp.toml")
    monkeypatch.chdir(tmp_path)
    assert load_config() == Config()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Config().index.path = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    "setting",
    [
        "[store]\nkeep_former_days = 800000",
        "[documents]\nmax_file_bytes = 100000000000000000000",
        "[documents]\nextraction_memory_bytes = 100000000000000000000",
        "[model]\nthreads = 100000000000000",
        "[search]\nmaxsim_weight = inf",
    ],
)
def test_a_value_that_no_machine_can_keep_is_refused(tmp_path: Path, setting: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(setting)
    with pytest.raises(ConfigError, match=setting.split("\n")[1].split(" ")[0]):
        load_config(file)


def test_an_index_of_a_user_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no user"):
        _ = load_config(index="~nobody-of-this-name/x").index_path


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("document_length = true", "model.document_length: Input should be a valid integer"),
        ('document_length = "300"', "model.document_length: Input should be a valid integer"),
        ('trust_remote_code = "yes"', "model.trust_remote_code: Input should be a valid boolean"),
        ('attend_to_expansion_tokens = "true"', 'it is "auto", true or false'),
        ("attend_to_expansion_tokens = 1", 'it is "auto", true or false'),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_guessed(tmp_path: Path, line: str, reason: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[model]\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert reason in str(caught.value)
