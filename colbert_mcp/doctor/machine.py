"""The program, what it is made of, its settings, the processor and the model. Knows no index but its fingerprint."""

import os
import platform
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from colbert_mcp.config import Config, ModelConfig, default_config_file, set_by
from colbert_mcp.doctor.content import stored_fingerprint
from colbert_mcp.errors import ColbertMCPError, ConfigError, EncoderError, ModelNotFoundError
from colbert_mcp.results import Finding

_LIBRARIES = ("torch", "pylate", "chromadb", "mcp", "numpy")
_BUILTIN = 'set [model] name = "builtin" in the configuration file'


def program() -> Iterator[Finding]:
    """Versions, and whether everything is installed."""
    own, python = version("colbert-mcp"), sys.version.split()[0]
    what = f"colbert-mcp {own}, Python {python}, {platform.system()} {platform.release()}, {platform.machine()}"
    yield Finding(topic="program", state="ok", what=what)
    found, missing = [f"SQLite {sqlite3.sqlite_version}"], []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding(topic="libraries", state="ok", what=", ".join(found))
    if missing:
        install = f"{sys.executable} -m pip install --force-reinstall colbert-mcp=={own}"
        yield Finding(topic="libraries", state="error", what=f"not installed: {', '.join(missing)}", mends=install)
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    except sqlite3.Error as error:
        what = f"this Python's SQLite has no full-text search ({error})"
        yield Finding(topic="libraries", state="error", what=what, mends="install another build of Python")


def settings(file: Path | None, index: str | None) -> Iterator[Finding]:
    """The configuration file in force, and where every setting comes from that is not its default."""
    try:
        own = set_by(file, index=index)
    except ConfigError as error:
        wrong = file or default_config_file()
        mends = f"edit {wrong}" if wrong.exists() else None  # else the error says it
        yield Finding(topic="settings", state="error", what=str(error), mends=mends)
        return
    source = file or default_config_file()
    there = f"read from {source}" if source.is_file() else f"defaults; there is no {source}"
    yield Finding(topic="settings", state="ok", what=there)
    for key, value, where in own:
        yield Finding(topic="settings", state="ok", what=f"{key} = {value!r}, from {where}")


def processor(config: ModelConfig) -> Iterator[Finding]:
    """Cores, and the device and number format that the model gets, with the reason. Loads torch."""
    from colbert_mcp.encoder.hardware import hardware
    from colbert_mcp.encoder.scoring import scorer_for

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        found = hardware(config)
    except EncoderError as error:
        mends = 'set [model] device = "auto" in the configuration file'
        yield Finding(topic="processor", state="error", what=str(error), mends=mends)
        return
    half = "with" if found.bfloat16 else "without"
    threads = "1 thread" if found.threads == 1 else f"{found.threads} threads"
    what = (
        f"{cores} cores, {half} bfloat16; the model runs on {found.device} in {found.dtype} with {threads} "
        f"({found.device_why}; {found.dtype_why}), and passages are scored in {scorer_for(found.device).name} "
        f"({found.int8_why})"
    )
    yield Finding(topic="processor", state="ok", what=what)


def model(config: Config) -> Iterator[Finding]:
    """Whether the model loads, what it is, and whether the index was made with it."""
    from colbert_mcp.encoder import check_outside, load_encoder
    from colbert_mcp.indexing.indexer import fingerprint
    from colbert_mcp.store import encoder_differences, roots_of

    started = time.monotonic()
    try:
        if config.model.trust_remote_code:
            check_outside(config.model, roots_of(config.index_path.resolve()))
        encoder = load_encoder(config.model)
    except ColbertMCPError as error:
        mends = _BUILTIN if isinstance(error, ModelNotFoundError) else None  # else the error says it
        yield Finding(topic="model", state="error", what=str(error), mends=mends)
        return
    own = encoder.fingerprint
    seconds = time.monotonic() - started
    what = (
        f"{own.model} ({_source(config.model)}) loads in {seconds:.0f} s: {own.dimension} dimensions a token, "
        f"{own.dense_dimension} of a passage, document_length {own.document_length}, window {encoder.window}"
    )
    yield Finding(topic="model", state="ok", what=what)
    yield from _encoding(config.model)
    stored = stored_fingerprint(config.index_path)
    if stored and (different := encoder_differences(stored, fingerprint(encoder))):
        made = f"the index was made with {stored.get('model')}, which differs in {', '.join(different)}"
        yield Finding(topic="model", state="error", what=made, mends="set [model] back, or choose another --index")


def reranker(config: Config) -> Iterator[Finding]:
    """Whether the reranker loads, if the settings name one, and where it is from and runs."""
    from colbert_mcp.encoder import load_reranker
    from colbert_mcp.encoder.reranking import judged_reranker

    if not config.search.reranker:
        return
    started = time.monotonic()
    try:
        directory = judged_reranker(config.search).directory
        found = load_reranker(config.search, config.model)
    except ColbertMCPError as error:
        mends = 'set [search] reranker = "" in the configuration file, or name another'
        yield Finding(topic="reranker", state="error", what=str(error), mends=mends)
        return
    seconds = time.monotonic() - started
    source = "the hub's cache" if config.search.reranker_directory is None else str(directory)
    what = (
        f"{found.name} (from {source}) loads in {seconds:.0f} s, runs on {found.device} in {found.dtype}, window "
        f"{found.window}: it reads the query with the best {config.search.reranker_depth} passages of every search but "
        "those of the mode lexical"
    )
    yield Finding(topic="reranker", state="ok", what=what)


def _encoding(config: ModelConfig) -> Iterator[Finding]:
    """How the model encodes, where each setting comes from, and what there is to know of it."""
    from colbert_mcp.encoder.description import describe

    found = describe(config)
    shown = ("document_length", "query_length", "do_query_expansion", "attend_to_expansion_tokens", "window")
    named = (f"{value.name} {_shown(value.value)} ({value.source})" for value in found.values if value.name in shown)
    yield Finding(topic="encoding", state="ok", what="; ".join(named))
    if found.remote_code:
        code = _shown(found.value("remote_code"))
        what = f"{found.model} runs code of its own, with all rights that you have: {code}"
        yield Finding(topic="code", state="warning", what=what, mends="read it, or name another in [model] name")
    for notice in found.notices:
        lengths = "colbert-mcp model lengths" in notice
        mends = "colbert-mcp model lengths PATH" if lengths else "take it out of the configuration file"
        yield Finding(topic="encoding", state="warning", what=notice, mends=mends)


def _shown(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return {"None": "without a limit", "True": "yes", "False": "no"}.get(str(value), str(value))


def _source(config: ModelConfig) -> str:
    if config.name == "builtin":
        return "of this program"
    return "from the hub" if config.directory is None else f"from {config.directory.resolve()}"
