"""The parent's side: keeps one child process for many files, and ends it when it takes too long or dies.

The child gets no environment, and the bytes of one file at a time; what parses them can open no file and no socket.
Knows processes and frames, not formats.
"""

import contextlib
import json
import os
import signal
import site
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

from colbert_mcp.config import DocumentsConfig
from colbert_mcp.documents.extraction import worker
from colbert_mcp.documents.extraction.reply import Extracted, checked, refusal
from colbert_mcp.documents.extraction.worker.serve import BYTES_PER_CHARACTER, SPARE_BYTES

# What an interpreter may need in order to start at all.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")

_CLOCK = 2  # seconds by the clock for each second of processor time


class Extractor:
    """Extracts the text of files, one at a time; for one thread. The child starts with the first file.

    Each file has ``extraction_memory_bytes``, and ``extraction_seconds`` of processor time or twice that by the clock.
    One that exceeds a limit, or that its parser crashes on, costs that file only. Use it as a context manager, or call
    ``close``.
    """

    def __init__(self, limits: DocumentsConfig) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Extractor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def extract(self, name: str, raw: bytes) -> Extracted:
        """The text of a file of the format ``docx``, ``html`` or ``xhtml`` (in UTF-8), ``notebook`` or ``pdf``.

        Raises UnreadableDocumentError with the reason: a limit, encryption, damage; never with text of the file.
        """
        request = {
            "format": name,
            "memory": self._limits.extraction_memory_bytes,
            "seconds": self._limits.extraction_seconds,
            "characters": self._limits.extraction_characters,
            "length": len(raw),
        }
        try:
            answer = self._ask(json.dumps(request).encode() + b"\n" + raw)
        except BaseException:
            self.close()  # what it was asked is unfinished
            raise
        if not hasattr(os, "fork"):
            self.close()
        return checked(answer, self._limits)

    def close(self) -> None:
        """End the child, and whatever it is doing."""
        child, self._child = self._child, None
        if child is None:
            return
        _kill(child)
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        child.wait()

    def _ask(self, request: bytes) -> bytes:
        """The child's answer. Raises UnreadableDocumentError where there is none in time."""
        child = self._running()
        late = threading.Event()
        # The child limits its own processor time; this is for one that waits, and on a busy machine they all do.
        watch = threading.Timer(_CLOCK * self._limits.extraction_seconds, _end, (child, late))
        watch.daemon = True
        watch.start()
        try:
            answer = _exchange(child, request, self._most_bytes())
        finally:
            watch.cancel()
            watch.join()  # from here on it kills no more
        if answer is None or late.is_set():
            raise refusal("time" if late.is_set() else "crash", self._limits)
        return answer

    def _most_bytes(self) -> int:
        return BYTES_PER_CHARACTER * self._limits.extraction_characters + SPARE_BYTES

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is not None:
            self.close()
        if self._child is None:
            try:
                self._child = _start()
            except OSError:
                raise refusal("start", self._limits) from None
        return self._child


def _start() -> subprocess.Popen[bytes]:
    folders = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []  # isolation leaves it out
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-I", "-X", "utf8", str(Path(worker.__file__).with_name("__main__.py")), *folders],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=os.sep,
        env={name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
        start_new_session=True,
    )


def _exchange(child: subprocess.Popen[bytes], request: bytes, most: int) -> bytes | None:
    """Send a request and read its answer; None if the child ended, or answered more than it may."""
    assert child.stdin is not None  # noqa: S101
    assert child.stdout is not None  # noqa: S101
    try:
        child.stdin.write(request)
        child.stdin.flush()
        size = int.from_bytes(child.stdout.read(8), "big")
        if not 0 < size <= most:
            return None
        answer = child.stdout.read(size)
    except OSError:
        return None
    return answer if len(answer) == size else None


def _end(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    _kill(child)


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and what it forked; its id stands for no one else until it has been waited for."""
    if child.returncode is not None:
        return
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
