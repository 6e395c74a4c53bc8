"""What the index says of itself, read beside whoever holds it: format, contents, folders, files and Chroma."""

import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from colbert_mcp.config import Config
from colbert_mcp.errors import REPAIR_COMMAND, ColbertMCPError, IndexMismatchError
from colbert_mcp.results import Finding
from colbert_mcp.sharing.ownership import CATALOGUE, LOCK, is_held

if TYPE_CHECKING:
    from colbert_mcp.store import Reader  # numpy and scipy load with it


def content(config: Config) -> Iterator[Finding]:
    """The catalogue as far as it can be read, what has changed since, and Chroma."""
    index = config.index_path.resolve()
    left = {path.name for path in index.iterdir()} if index.is_dir() else set()
    if CATALOGUE not in left:
        if left - {"lock", "owner.json", "engine"}:
            lost = bool(left & {"tokens", "chroma"})
            what = f"{index} has lost its {CATALOGUE}" if lost else f"{index} holds other files and is no index"
            mends = f"delete {index} and index again" if lost else "choose another with --index"
            yield Finding(topic="catalogue", state="error", what=what, mends=mends)
        return
    try:
        yield from _catalogue(config)
    except IndexMismatchError as error:
        yield Finding(topic="catalogue", state="error", what=str(error), mends=f"delete {index} and index again")
        return
    except (ColbertMCPError, sqlite3.Error, ValueError, TypeError) as error:
        mends = f"delete {index} and index again" if "delete the index" in str(error) else REPAIR_COMMAND
        yield Finding(topic="catalogue", state="error", what=f"it cannot be read: {error}", mends=mends)
        return
    yield from _chroma(config, index)


def stored_fingerprint(index: Path) -> dict[str, object]:
    """The fingerprint that an index keeps; empty where there is none or it cannot be read."""
    if not (index / CATALOGUE).is_file():
        return {}
    try:
        with closing(_reader(index)) as reader:
            return reader.fingerprint or {}
    except (ColbertMCPError, sqlite3.Error, ValueError):
        return {}


def _reader(index: Path) -> "Reader":
    from colbert_mcp.store import Reader
    from colbert_mcp.store.database import connect

    return Reader(connect(index / CATALOGUE, immutable=not os.access(index, os.W_OK)))


def _catalogue(config: Config) -> Iterator[Finding]:
    from colbert_mcp.store import FORMAT_VERSION

    with closing(_reader(config.index_path.resolve())) as reader:
        counts = reader.counts()
        model = (reader.fingerprint or {}).get("model", "no model yet")
        what = (
            f"format {FORMAT_VERSION}, generation {reader.generation}: {counts['documents']:,} files, "
            f"{counts['passages']:,} passages, {counts['tokens']:,} tokens, made with {model}"
        )
        yield Finding(topic="catalogue", state="ok", what=what)
        yield from _segments(config, reader)
        yield from _sources(reader)


def _segments(config: Config, reader: "Reader") -> Iterator[Finding]:
    from colbert_mcp.store.segments import Segments

    segments = Segments(config.index_path.resolve() / "tokens", config.store.embedding_format)
    stored = reader.segments()
    wrong = []
    for number, files in stored.items():
        for name, (length, _) in files.items():
            file = segments.path(number) / name
            if not file.is_file() or file.stat().st_size != length:
                wrong.append(f"{number:06}/{name}")
    if wrong:
        what = f"{len(wrong)} files of token embeddings are missing or of another length ({wrong[0]})"
        yield Finding(topic="tokens", state="error", what=what, mends=REPAIR_COMMAND)
    else:
        what = f"all files of token embeddings are there; they are kept in {segments.embedding_format}"
        if otherwise := reader.passages_in(segments.in_other_format(stored)):
            what += f", those of {otherwise:,} passages in another format, which colbert-mcp gc converts"
        yield Finding(topic="tokens", state="ok", what=what)


def _sources(reader: "Reader") -> Iterator[Finding]:
    from colbert_mcp.documents import display_path, file_stamp, is_within

    roots = [root.path for root in reader.roots()]
    there = [root for root in roots if os.path.exists(root)]
    gone = [root for root in roots if root not in there]
    for root in gone:
        named = display_path(root)
        what = f"the indexed folder {named} is not there; what is indexed of it stays until it is back"
        remedy = f"mount it or put it back, or let go of it: colbert-mcp remove {shlex.quote(named)}"
        yield Finding(topic="sources", state="warning", what=what, mends=remedy)
    changed = missing = 0
    stale: set[bytes] = set()
    for document in reader.documents():
        path = document.record.path
        holding = [root for root in there if is_within(path, root)]
        if not holding:  # a folder that is gone holds it, and was told
            continue
        try:
            if file_stamp(path) == document.record.stamp:
                continue
            changed += 1
        except OSError:
            missing += 1
        stale.update(holding)
    if stale:
        named = " ".join(shlex.quote(display_path(root)) for root in there if root in stale)
        what = f"since they were indexed, files have changed ({changed:,}) or are gone ({missing:,})"
        yield Finding(topic="sources", state="warning", what=what, mends=f"colbert-mcp index {named}")
    elif not gone:
        yield Finding(topic="sources", state="ok", what="no file has changed its size or time since it was indexed")


def _chroma(config: Config, index: Path) -> Iterator[Finding]:
    folder = index / "chroma"
    if not config.store.chroma:
        yield Finding(topic="chroma", state="ok", what="switched off ([store] chroma)")
    elif is_held(index / LOCK):
        yield Finding(topic="chroma", state="ok", what="in use by whoever holds the index")
    elif not folder.is_dir():
        yield Finding(topic="chroma", state="ok", what="not there yet; it is made at the next opening")
    elif (folder / "open").exists():
        what = "it was not closed cleanly; it is rebuilt at the next opening, and searches do without it meanwhile"
        yield Finding(topic="chroma", state="warning", what=what, mends="colbert-mcp check")
    else:
        yield Finding(topic="chroma", state="ok", what="closed cleanly")
