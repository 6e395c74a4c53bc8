"""Finding the engine of an index, starting one, and ending one.

However many clients want an engine at once, one of them starts it, under ``start.lock``, and the others wait for it. An
engine of an older version of the program is asked to leave first. Knows nothing of what an engine answers.
"""

import json
import os
import re
import selectors
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

from filelock import Timeout
from pydantic import ValidationError

from colbert_mcp.config import Config
from colbert_mcp.errors import IndexNotFoundError, StoreError, error_named
from colbert_mcp.results import EngineOutput, EngineStatus
from colbert_mcp.sharing.ownership import CATALOGUE, LOCK, OWNER, in_use, is_held
from colbert_mcp.sharing.rendezvous import Endpoint, Rendezvous
from colbert_mcp.sharing.wire import (
    STATUS_TOOL,
    BrokenCallError,
    Caller,
    NotSentError,
    RefusedCallError,
    SilentCallError,
)

_PARENT = str(Path(__file__).parents[2])
# The engine is this very program, also where this one was found through its working directory, which -P leaves out.
_PROGRAM = f"""\
import sys
if {_PARENT!r} not in sys.path:
    sys.path.insert(0, {_PARENT!r})
    import colbert_mcp
    sys.path.pop(0)
from colbert_mcp.sharing.daemon import main
main()
"""
COMMAND = (sys.executable, "-P", "-c", _PROGRAM)
_START_SECONDS = 120.0
_LEAVE_SECONDS = 60.0
_ASK_SECONDS = 15.0
_GRACE_SECONDS = 20.0
_POLL_SECONDS = 0.05
_LOG_BYTES = 1_000_000
T = TypeVar("T")


class Launcher:
    """Finds the engine of the configured index; ``command`` runs an engine, as ``daemon.main`` does."""

    def __init__(self, config: Config, version: str, command: Sequence[str] = COMMAND) -> None:
        self._index = config.index_path.resolve()
        self._config = config
        self._version = version
        self._command = command
        self._rendezvous = Rendezvous(self._index)

    def find(self) -> Endpoint | None:
        """The engine that runs, waiting for one that is starting or ending; None where there is none.

        Raises StoreError where it belongs to another version of the program or another index, or takes too long.
        """
        endpoint = _awaited(self._endpoint, until=lambda: not self._rendezvous.running())
        if endpoint is not None and endpoint.version != self._version:
            raise StoreError(
                f"The engine of {self._index} belongs to version {endpoint.version} of colbert-mcp, and this is "
                f"{self._version}. Restart the programs that use the older one, or end the engine with: colbert-mcp "
                "engine stop"
            )
        return endpoint

    def join(self) -> Endpoint | None:
        """The engine that runs, or a new one in the place of an older version's; None where there is none."""
        if _awaited(self._endpoint, until=lambda: not self._rendezvous.running()) is None:
            return None
        return self.ensure()

    def again(self) -> Endpoint:
        """``ensure`` for who has used the index before: it is not made anew. Raises IndexNotFoundError as well."""
        if self._endpoint() is None and not (self._index / CATALOGUE).exists():
            raise IndexNotFoundError(f"The index {self._index} is gone; index again, or choose another with --index.")
        return self.ensure()

    def ensure(self) -> Endpoint:
        """The engine that runs, else a new one. Raises StoreError, or what keeps a new one from opening the index."""
        endpoint = self._endpoint()
        if endpoint is not None and endpoint.version == self._version:
            return endpoint
        self._prepare()
        try:
            with self._rendezvous.start_lock().acquire(timeout=_START_SECONDS, poll_interval=_POLL_SECONDS):
                self._replace_older()
                return self.find() or self._start()
        except Timeout:
            raise StoreError(f"Another process has been starting the engine of {self._index} for too long.") from None
        except OSError as error:
            raise StoreError(f"Cannot start the engine of {self._index}: {error.strerror or error}.") from error

    def _endpoint(self) -> Endpoint | None:
        """The engine that can be called now; raises StoreError for another index's, whose files this one shares."""
        endpoint = self._rendezvous.endpoint()
        served = None if endpoint is None else endpoint.config.get("index", {}).get("path")
        if not served or not _is_another(Path(served), self._index):
            return endpoint
        if not _is_same(self._rendezvous.lock, Rendezvous(Path(served)).lock):
            return None  # a real copy, with what was copied of the other's engine; its own is just starting
        raise StoreError(
            f"The engine found at {self._index} serves {served}: {self._index} is a copy that shares files with it. "
            "Make a real copy (cp -a), or end that engine with: colbert-mcp --index "
            f"{shlex.quote(served)} engine stop"
        )

    def _replace_older(self) -> None:
        """Make an engine of an older version leave: the newest client decides, or two would take turns for ever."""
        endpoint = self._endpoint()
        if endpoint is not None and _order(endpoint.version) < _order(self._version):
            stop_engine(self._rendezvous)

    def _prepare(self) -> None:
        """Make the folder, but leave no trace in a directory that is no index and would be refused."""
        known = {CATALOGUE, "engine", LOCK, OWNER}
        if self._index.is_dir() and (left := {path.name for path in self._index.iterdir()}) and not left & known:
            raise IndexNotFoundError(
                f"{self._index} is not an index and holds other files; choose an empty directory with --index."
            )
        try:
            self._rendezvous.make()
        except OSError as error:
            raise StoreError(f"Cannot make the index directory {self._index}: {error.strerror}.") from error

    def _start(self) -> Endpoint:
        """Start an engine that outlives this process, and wait until it can be called, or says why not."""
        if is_held(self._index / LOCK):  # the engine would find out too, but only after a second or two
            raise in_use(self._index)
        settings = self._config.model_dump(mode="json")
        settings["index"]["path"] = str(self._index)
        with self._log() as log:
            engine = subprocess.Popen(  # noqa: S603  # our own program
                [*self._command, str(self._index)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=Path(self._index.anchor),
                start_new_session=True,
            )
        threading.Thread(target=engine.wait, name="engine-reaper", daemon=True).start()
        assert engine.stdin is not None  # noqa: S101  # as asked for above
        assert engine.stdout is not None  # noqa: S101
        with engine.stdin, engine.stdout, suppress(BrokenPipeError):
            engine.stdin.write(json.dumps(settings).encode())
            engine.stdin.close()
            answer = self._first_line(engine)
        endpoint = self._endpoint()
        if endpoint is not None:
            return endpoint
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(answer)
            raise error_named(told["error"], told["message"])
        raise StoreError(f"The engine of {self._index} did not start; see {self._rendezvous.log}.")

    def _first_line(self, engine: "subprocess.Popen[bytes]") -> bytes:
        """What an engine has to say, which it writes at once; one that says nothing for too long is ended."""
        assert engine.stdout is not None  # noqa: S101  # as asked for
        with selectors.DefaultSelector() as selector:
            selector.register(engine.stdout, selectors.EVENT_READ)
            if selector.select(_START_SECONDS):
                return engine.stdout.readline()
        engine.kill()
        raise StoreError(
            f"The engine of {self._index} did not start within {_START_SECONDS:g} s; see {self._rendezvous.log}, and "
            "call again."
        )

    def _log(self) -> IO[bytes]:
        """The engine's log, begun anew once it is long."""
        log = self._rendezvous.log
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(log, flags, 0o600)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise StoreError(f"{log} is no regular file; delete it.")
        if status.st_size > _LOG_BYTES:
            os.ftruncate(descriptor, 0)
        return os.fdopen(descriptor, "ab")


def _is_another(served: Path, index: Path) -> bool:
    """Whether two directories are there and are not one; an engine whose directory was moved is about to leave."""
    return served != index and served.is_dir() and not _is_same(served, index)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def engine_output(rendezvous: Rendezvous) -> EngineOutput:
    """Whether an engine runs for an index, and what it says of itself; not counted as a call."""
    endpoint = rendezvous.endpoint()
    status, silent = None, None
    if endpoint is not None:
        try:
            status = _ask(endpoint, STATUS_TOOL)
        except SilentCallError:
            silent = endpoint.pid
    return EngineOutput(
        index=str(rendezvous.index),
        running=rendezvous.running(),
        engine=status,
        silent_pid=silent,
        log=str(rendezvous.log) if os.access(rendezvous.log, os.R_OK) else None,
    )


def stop_engine(rendezvous: Rendezvous) -> EngineOutput:
    """Make the engine of an index leave, and wait until it has; an indexing run stops after the batch at hand.

    One that does not answer, or does not leave, is ended by force, which harms no commit. Raises StoreError where that
    fails, or where it is not certain which process it is.
    """
    running = rendezvous.running()
    endpoint = _awaited(rendezvous.endpoint, until=lambda: not rendezvous.running())
    status, patience = None, _LEAVE_SECONDS
    if endpoint is not None:
        try:
            status = _ask(endpoint, "stop_engine")
        except SilentCallError:
            patience = 0
    if not _has_ended(rendezvous, patience):
        _force(rendezvous, endpoint)
    return EngineOutput(index=str(rendezvous.index), running=False, stopped=running, engine=status)


def _force(rendezvous: Rendezvous, endpoint: Endpoint | None) -> None:
    """End an engine by signals, each of which is only sent to what is certainly the engine."""
    for number in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if endpoint is None or not rendezvous.is_run_by(endpoint.pid):
            break
        with suppress(ProcessLookupError):
            os.kill(endpoint.pid, number)
        if _has_ended(rendezvous, _GRACE_SECONDS):
            return
    if rendezvous.running():
        process = f"process {endpoint.pid}" if endpoint else "the process"
        raise StoreError(f"The engine of {rendezvous.index} is still ending; if it does not, end {process} by hand.")


def _has_ended(rendezvous: Rendezvous, seconds: float) -> bool:
    return _awaited(lambda: not rendezvous.running() or None, until=lambda: False, seconds=seconds) is not None


def _ask(endpoint: Endpoint, tool: str) -> EngineStatus | None:
    """What an engine says of itself; None if it is gone or of another version. Raises SilentCallError."""
    caller = Caller()
    try:
        result = caller.call(endpoint, tool, {}, seconds=_ASK_SECONDS)
        return EngineStatus.model_validate(result.structured_content)
    except (NotSentError, BrokenCallError, RefusedCallError, ValidationError):
        return None
    finally:
        caller.close()


def _awaited(get: Callable[[], T | None], until: Callable[[], bool], seconds: float = _START_SECONDS) -> T | None:
    """The first result that is not None; None once ``until`` holds, or when the time is over."""
    deadline = time.monotonic() + seconds
    while (result := get()) is None and not until() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return result if result is not None else get()


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
