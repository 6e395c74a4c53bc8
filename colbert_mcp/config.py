"""The settings, where they come from, and which wins.

Precedence: option > environment > the file of ``--config`` or else the user's own > default. A configuration is never
read from a folder that is indexed. Knows nothing of what the settings do.
"""

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Literal

from platformdirs import user_config_path, user_data_path
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from colbert_mcp.errors import ConfigError
from colbert_mcp.types import EmbeddingFormat

APP = "colbert-mcp"
INDEX_VARIABLE = "COLBERT_MCP_INDEX"
BUILTIN = "builtin"
_MOST_WEIGHT = 1e6  # scores are float32


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class IndexConfig(_Section):
    """``[index]``: where the index is and what it may hold."""

    path: str = ""
    roots: tuple[str, ...] = Field(default=(), strict=False)  # TOML and JSON have lists


class ModelConfig(_Section):
    """``[model]``: the encoder; 0, "" and "auto" mean what the model says, or what suits the device."""

    name: str = Field(default=BUILTIN, min_length=1)
    revision: str = ""
    trust_remote_code: bool = False
    code_revision: str = ""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    document_length: int = Field(default=0, ge=0, le=65536)
    query_length: int = Field(default=0, ge=0, le=65536)
    attend_to_expansion_tokens: bool | Literal["auto"] = "auto"
    batch_tokens: int = Field(default=0, ge=0, le=2**24)
    threads: int = Field(default=0, ge=0, le=1024)

    @field_validator("attend_to_expansion_tokens", mode="before")
    @classmethod
    def _one_of_three(cls, value: object) -> object:
        if value is True or value is False or value == "auto":
            return value
        raise ValueError('it is "auto", true or false (without quotation marks)')

    @property
    def directory(self) -> Path | None:
        """The directory that ``name`` is; None for a hub id and the built-in model. Raises ConfigError."""
        return _directory(self.name)


class DocumentsConfig(_Section):
    """``[documents]``: which files are read, and what reading one may cost where its text must be extracted."""

    max_file_bytes: int = Field(default=10_000_000, ge=1, le=2**40)
    hidden: bool = False
    extraction_seconds: int = Field(default=30, ge=1, le=3600)
    extraction_memory_bytes: int = Field(default=1_000_000_000, ge=100_000_000, le=2**40)
    extraction_characters: int = Field(default=10_000_000, ge=1, le=1_000_000_000)


class SearchConfig(_Section):
    """``[search]``: candidates, the weights of the hybrid score, and the cross-encoder behind it ("": none)."""

    min_candidates: int = Field(default=400, ge=1)
    candidate_growth: float = Field(default=3.0, ge=0)
    maxsim_weight: float = Field(default=0.4, ge=0, le=_MOST_WEIGHT)
    bm25_weight: float = Field(default=0.3, ge=0, le=_MOST_WEIGHT)
    dense_weight: float = Field(default=0.3, ge=0, le=_MOST_WEIGHT)
    reranker: str = ""
    reranker_revision: str = ""
    reranker_depth: int = Field(default=30, ge=1, le=200)

    @property
    def reranker_directory(self) -> Path | None:
        """The directory that ``reranker`` is; None for a hub id, and where there is none. Raises ConfigError."""
        return _directory(self.reranker)


class StoreConfig(_Section):
    """``[store]``: commits, segments and Chroma."""

    commit_tokens: int = Field(default=50_000, ge=1)
    max_segments: int = Field(default=16, ge=2)
    embedding_format: EmbeddingFormat = "int8"
    chroma: bool = True
    keep_former_days: int = Field(default=90, ge=0, le=36_500)


class ServerConfig(_Section):
    """``[server]``: the MCP server and the engine that does its work."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    watch: bool = False
    idle_minutes: float = Field(default=30.0, gt=0)


class Config(_Section):
    """All settings, each with its default."""

    index: IndexConfig = IndexConfig()
    model: ModelConfig = ModelConfig()
    documents: DocumentsConfig = DocumentsConfig()
    search: SearchConfig = SearchConfig()
    store: StoreConfig = StoreConfig()
    server: ServerConfig = ServerConfig()

    @property
    def index_path(self) -> Path:
        """The index directory: the configured one, else one in the platform's user data directory."""
        return expanded(self.index.path) if self.index.path else _default_index()

    def for_index(self, text: str) -> str:
        """A text whose commands name this index, where it is not the one that they would use anyhow."""
        index = self.index_path.absolute()
        if index == _default_index():
            return text
        return _COMMAND.sub(lambda _: f"colbert-mcp --index {shlex.quote(str(index))} ", text)


_COMMAND = re.compile(r"\bcolbert-mcp (?=(?:check|doctor|engine|gc|index|remove|search|status)\b(?![^;\n]* --index ))")


def default_config_file() -> Path:
    """Where the user's own configuration is looked for."""
    return user_config_path(APP, appauthor=False) / "config.toml"


def load_config(file: Path | None = None, *, index: str | None = None) -> Config:
    """The settings of ``file`` (default: the user's own, if there is one), under the environment and the options.

    Raises ConfigError for a file that is missing, not TOML, or holds an unknown key or a value out of range.
    """
    values: dict[str, object] = {}
    source = file or default_config_file()
    if file is not None or source.is_file():
        values = _read(source)
    config = _validate(values, source)
    override = index or os.environ.get(INDEX_VARIABLE)
    if override:
        config = config.model_copy(update={"index": config.index.model_copy(update={"path": override})})
    elif config.index.path:
        # A relative path in a file means the file's own folder, wherever the program was started.
        anchored = source.parent.resolve() / expanded(config.index.path)
        config = config.model_copy(update={"index": config.index.model_copy(update={"path": str(anchored)})})
    model, search = config.model, config.search
    if model.name != BUILTIN:
        model = model.model_copy(update={"name": _beside(source, model.name)})
    if search.reranker:
        search = search.model_copy(update={"reranker": _beside(source, search.reranker)})
    return config.model_copy(update={"model": model, "search": search})


def _beside(source: Path, name: str) -> str:
    """A model's directory with its full path, if it is one: a relative one lies beside the configuration file."""
    directory = _directory(name)
    anchored = source.parent.resolve() / (directory or name)
    if directory is None and not os.path.isdir(anchored):  # noqa: PTH112  # false for what can be no path at all
        return name
    return str(anchored)


def _directory(name: str) -> Path | None:
    """The directory that a model's name is; None for a hub id. Raises ConfigError.

    Only a full path, or one that begins with ``~`` or a dot, is one: what else lies in the working directory is a
    stranger's, and must not stand in for a hub id that the user trusts.
    """
    return expanded(name) if name.startswith((".", "~")) or Path(name).is_absolute() else None


def set_by(file: Path | None = None, *, index: str | None = None) -> list[tuple[str, object, str]]:
    """(key, value, where from) of every setting that is not its default, as ``load_config`` finds them."""
    config, defaults = load_config(file, index=index).model_dump(), Config().model_dump()
    source = str(file or default_config_file())
    option = "--index" if index else f"${INDEX_VARIABLE}" if os.environ.get(INDEX_VARIABLE) else source
    return [
        (f"{section}.{key}", value, option if (section, key) == ("index", "path") else source)
        for section, values in config.items()
        for key, value in values.items()
        if value != defaults[section][key]
    ]


def _default_index() -> Path:
    return user_data_path(APP, appauthor=False) / "index"


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the user's directory for ``~``; raises ConfigError for a user that is not there."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ConfigError(f"There is no user as in the path {path}; give a full path.") from None


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {file}; leave --config out to use the defaults.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Cannot read the configuration file {file}: {error}.") from error


def _validate(values: dict[str, object], source: Path) -> Config:
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_problem(detail["loc"], detail["type"], detail["msg"]) for detail in error.errors())
        raise ConfigError(f"In {source}: {problems}. Every key is described in the project's config.toml.") from None


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    key = ".".join(map(str, location))
    return f"unknown key {key}" if kind == "extra_forbidden" else f"{key}: {message}"
