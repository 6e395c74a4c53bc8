"""The directory of the index: its size, the disk, its file system, who may read it, and who holds it."""

import os
import shlex
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from colbert_mcp.config import Config
from colbert_mcp.results import Finding
from colbert_mcp.sharing.ownership import CATALOGUE, LOCK, is_held, owner_of
from colbert_mcp.sharing.rendezvous import Rendezvous

# File systems of other machines, whose locks and memory maps may not be what they are here.
_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "ncpfs")
_LITTLE = 500_000_000
_STOP = "colbert-mcp engine stop"


def directory(config: Config) -> Iterator[Finding]:
    """Where the index is, what it takes, and whether it can be written, by whom, and how much more."""
    index = config.index_path.resolve()
    if not index.is_dir():
        taken = index.exists()
        what = f"{index} is a file" if taken else f"there is no index at {index} yet"
        mends = "choose another with --index" if taken else "colbert-mcp index PATH"
        yield Finding(topic="index", state="error" if taken else "warning", what=what, mends=mends)
        yield from _disk(index, 0)
        return
    from colbert_mcp.store.usage import bytes_below, bytes_named  # numpy loads with the store

    parts = {"catalogue": bytes_named(index, CATALOGUE)}
    parts |= {name: bytes_below(index / name) for name in ("tokens", "chroma", "engine")}
    sizes = ", ".join(f"{name} {size / 1e6:,.1f} MB" for name, size in parts.items())
    yield Finding(topic="index", state="ok", what=f"{index}: {sizes}")
    yield from _access(index)
    yield from _disk(index, sum(parts.values()))
    yield from _file_system(index)


def holder(config: Config) -> Iterator[Finding]:
    """The engine or command that holds the index now."""
    from colbert_mcp.sharing.launch import engine_output  # mcp loads with it

    index = config.index_path.resolve()
    rendezvous = Rendezvous(index)
    output, own = engine_output(rendezvous), version("colbert-mcp")
    if output.running:
        engine = output.engine
        if engine is None:
            what = f"it is starting, ending, or of another version; its log is {rendezvous.log}"
            yield Finding(topic="engine", state="warning", what=what, mends=_STOP)
        elif engine.version != own:
            what = f"process {engine.pid} is of version {engine.version}, and this is {own}"
            yield Finding(topic="engine", state="warning", what=what, mends=_STOP)
        else:
            loaded = "loaded" if engine.model_loaded else "not loaded"
            memory = "" if engine.memory_bytes is None else f", {engine.memory_bytes / 1e6:,.0f} MB"
            what = f"process {engine.pid} serves {engine.clients} clients with {engine.model} ({loaded}{memory})"
            yield Finding(topic="engine", state="ok", what=f"{what}; its log is {engine.log}")
    elif is_held(index / LOCK):
        what = f"no engine runs; {owner_of(index)} holds the index"
        yield Finding(topic="engine", state="ok", what=what)
    else:
        yield Finding(topic="engine", state="ok", what="none runs, and nobody holds the index")


def _access(index: Path) -> Iterator[Finding]:
    named = shlex.quote(str(index))
    if not os.access(index, os.R_OK | os.X_OK):
        yield Finding(topic="index", state="error", what="it cannot be read", mends=f"chmod -R u+rwX {named}")
    elif not all(os.access(path, os.W_OK) for path in (index, index / CATALOGUE) if path.exists()):
        what = "it cannot be written: it can only be searched"
        yield Finding(topic="index", state="warning", what=what, mends=f"chmod -R u+w {named}")
    if os.name == "nt":
        return
    status = index.stat()
    if status.st_uid != os.geteuid():
        yield Finding(topic="index", state="warning", what=f"it belongs to another user ({status.st_uid})")
    if status.st_mode & 0o077:
        what = f"other users may look into it (mode {status.st_mode & 0o777:o}), and it holds the text of your files"
        yield Finding(topic="index", state="warning", what=what, mends=f"chmod go-rwx {named}")


def _disk(index: Path, taken: int) -> Iterator[Finding]:
    """Free space; rewriting parts of an index needs as much again as it takes."""
    there = next(path for path in (index, *index.parents) if path.exists())
    free = shutil.disk_usage(there).free
    what = f"{free / 1e9:,.1f} GB free"
    if free < max(taken, _LITTLE):
        state: Literal["error", "warning"] = "error" if free < _LITTLE / 10 else "warning"
        yield Finding(topic="disk", state=state, what=f"only {what}", mends="free some space")
    else:
        yield Finding(topic="disk", state="ok", what=what)


def _file_system(index: Path) -> Iterator[Finding]:
    kind = file_system_of(index, Path("/proc/self/mountinfo"))
    if kind in _NETWORK:
        what = f"the index lies on {kind}, a file system of another machine, whose locks may not hold"
        yield Finding(topic="disk", state="warning", what=what, mends="choose a local folder with --index")
    elif kind is not None:
        yield Finding(topic="disk", state="ok", what=f"file system {kind}")


def file_system_of(path: Path, mounts: Path) -> str | None:
    """The type of the file system that holds a path, as Linux tells; None elsewhere."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    best: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        if len(fields) < 5 or not after:
            continue
        point = Path(fields[4].replace("\\040", " "))
        # Of several over the same point, the last one is seen.
        if path.is_relative_to(point) and (best is None or len(point.parts) >= best[0]):
            best = len(point.parts), after.split()[0]
    return None if best is None else best[1]
