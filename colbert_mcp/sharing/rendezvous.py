"""Where the clients of an index find its engine: the folder ``engine`` inside the index directory.

``lock`` is held by the engine as long as it lives, so the operating system, and no process id, says whether one runs.
``endpoint.json`` holds its port and the secret that it asks for; only its owner can read it, and it counts only while
``lock`` is held: one that a killed engine left behind is never believed. ``start.lock`` is held by whoever starts an
engine, and ``log`` is what the engine has to say. Knows nothing of MCP, nor of what an engine does.
"""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from colbert_mcp.errors import StoreError
from colbert_mcp.sharing.ownership import is_held

_MAX_BYTES = 1_000_000
_PROCESSES = Path("/proc")


class Endpoint(BaseModel):
    """A running engine: where it listens on 127.0.0.1, the secret it asks for, and the settings it was started with."""

    model_config = ConfigDict(frozen=True)

    pid: int
    port: int = Field(ge=1, le=65535)
    secret: str = Field(min_length=32, repr=False)
    version: str
    started: str
    config: dict[str, Any]

    @property
    def url(self) -> str:
        """The address of its MCP endpoint."""
        return f"http://127.0.0.1:{self.port}/mcp"


class Rendezvous:
    """The folder ``engine`` of one index directory."""

    def __init__(self, index: Path) -> None:
        self.index = index
        self.folder = index / "engine"
        self.lock = self.folder / "lock"
        self.log = self.folder / "log"
        self._file = self.folder / "endpoint.json"

    def endpoint(self) -> Endpoint | None:
        """The engine that runs and can be called now; None where there is none, or it is starting or ending."""
        self.check()
        endpoint = self._read()
        return endpoint if endpoint is not None and self.running() else None

    def running(self) -> bool:
        """Whether an engine lives, be it still starting or already ending."""
        return is_held(self.lock)

    def is_run_by(self, pid: int) -> bool:
        """Whether a process is the engine: the lock is held, and the process has it open, where the system tells."""
        if not self.running():
            return False
        return not _PROCESSES.joinpath("self", "fd").is_dir() or _has_open(pid, self.lock)

    def make(self) -> None:
        """Make the folder, and the index directory around it, for the user alone; see ``check``."""
        self.index.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.mkdir(exist_ok=True, mode=0o700)
        self.check()

    def check(self) -> None:
        """Raise StoreError where there is a folder in which others could pass for an engine."""
        try:
            status = self.folder.lstat()
        except OSError:
            return
        if os.name != "nt" and not (
            stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022
        ):
            raise StoreError(
                f"{self.folder} is not a folder of yours alone, so another user could pass for the engine. If it is "
                "yours, run: chmod 700 on it; else delete it, or choose another index with --index."
            )

    def engine_lock(self) -> FileLock:
        """What an engine holds while it lives."""
        return FileLock(self.lock, mode=0o600)

    def start_lock(self) -> FileLock:
        """What a client holds while it starts an engine."""
        return FileLock(self.folder / "start.lock", mode=0o600)

    def publish(self, endpoint: Endpoint) -> None:
        """Tell clients of an engine, all at once: they read the old file or the new one, never half of one."""
        written = self.folder / f"endpoint.{secrets.token_hex(8)}"
        try:
            descriptor = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(endpoint.model_dump_json())
            written.replace(self._file)
        except BaseException:
            written.unlink(missing_ok=True)
            raise

    def withdraw(self, endpoint: Endpoint | None = None) -> None:
        """Let no client find this engine any more; None, from who holds the engine's lock, clears what others left."""
        if endpoint is None:
            for left in self.folder.glob(f"{self._file.stem}.*"):  # also those of a kill amid ``publish``
                left.unlink(missing_ok=True)
        elif self.published(endpoint):
            self._file.unlink(missing_ok=True)

    def published(self, endpoint: Endpoint) -> bool:
        """Whether clients still find this very engine."""
        return self._read() == endpoint

    def _read(self) -> Endpoint | None:
        """The file's content; None where it is missing, no endpoint, or could have been written by someone else."""
        try:
            descriptor = os.open(self._file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            if not _private(os.fstat(file.fileno())):
                return None
            try:
                return Endpoint.model_validate_json(file.read(_MAX_BYTES))
            except ValidationError:
                return None


def _has_open(pid: int, file: Path) -> bool:
    """Whether a process has a file open (Linux; another user's process is not looked into)."""
    try:
        wanted = file.stat()
        descriptors = list(_PROCESSES.joinpath(str(pid), "fd").iterdir())
    except OSError:
        return False
    for descriptor in descriptors:
        with suppress(OSError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False


def _private(status: os.stat_result) -> bool:
    """Whether a file is a regular one that nobody but this user can read or write."""
    if not stat.S_ISREG(status.st_mode):
        return False
    return os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
