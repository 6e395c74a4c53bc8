"""Answers requests on standard input, each in a forked process with limits of its own. Knows frames, not formats.

A request is a line of JSON with ``format``, ``memory``, ``seconds``, ``characters`` and ``length``, then that many
bytes. The answer is its length in eight bytes, big-endian, then that many bytes of JSON: ``{"reason": …}`` or the text.
Where there is no fork (Windows) the process answers one request and ends, and its parent starts another.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from typing import Any

from colbert_mcp.documents.extraction.worker.text import Refusal, Text

FORMATS = ("docx", "html", "notebook", "pdf", "xhtml")
# JSON of a character takes at most six bytes, and headings and parts take some more.
BYTES_PER_CHARACTER = 6
SPARE_BYTES = 16_000_000
_BLOCK = 1 << 20
_CODECS = ("ascii", "cp437", "latin-1", "utf-8-sig", "utf-16-le", "utf-16-be")
_TIME = "time"
_CRASH = "crash"


def main(folders: Sequence[str]) -> None:
    """Serve until the input ends; ``folders`` are more places where the readers' libraries may lie."""
    sys.path.extend(folders)
    for codec in _CODECS:
        "".encode(codec)  # loads it: once a file is being read, nothing can be opened any more
    forking = hasattr(os, "fork")
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while line := source.readline():
        request = json.loads(line)
        raw = source.read(request["length"])
        if len(raw) < request["length"]:
            return
        answer = _forked(request, raw) if forking else _answer(request, raw)
        sink.write(len(answer).to_bytes(8, "big") + answer)
        sink.flush()
        if not forking:
            return


def _reader(name: str) -> Any:
    module = "html" if name == "xhtml" else name
    return importlib.import_module(f"colbert_mcp.documents.extraction.worker.{module}")


def _forked(request: dict[str, Any], raw: bytes) -> bytes:
    """Read the file in a process that can do no more than that, and wait for what it says or how it ends."""
    try:
        _reader(request["format"])  # imported once, for all files after it
    except ImportError:
        return _reason("library")
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for descriptor in (receiver, 0, 1):  # else the parent would not notice that the process above has died
                os.close(descriptor)
            _limit(request)
            _write(sender, _answer(request, raw))
            status = 0
        finally:
            os._exit(status)
    os.close(sender)
    most = BYTES_PER_CHARACTER * request["characters"] + SPARE_BYTES
    answer = _receive(receiver, child, most)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return _reason(_TIME if os.WTERMSIG(status) == getattr(signal, "SIGXCPU", None) else _CRASH)
    return _reason(_CRASH) if answer is None or os.WEXITSTATUS(status) else answer


def _receive(receiver: int, child: int, most: int) -> bytes | None:
    """What the child writes until it ends, or None if that is too much; at the end of the input everything ends."""
    blocks: list[bytes] = []
    size = 0
    with os.fdopen(receiver, "rb", buffering=0) as pipe:
        while True:
            ready, _, _ = select.select([pipe, sys.stdin], [], [])
            if pipe not in ready:
                os.kill(child, signal.SIGKILL)  # no request comes before the answer: the parent is gone
                os._exit(1)
            block = pipe.read(_BLOCK)
            if not block:
                return b"".join(blocks)
            size += len(block)
            if size > most:
                os.kill(child, signal.SIGKILL)
                return None
            blocks.append(block)


def _write(descriptor: int, answer: bytes) -> None:
    view = memoryview(answer)
    while view:
        view = view[os.write(descriptor, view) :]


def _limit(request: dict[str, Any]) -> None:
    """No more memory, time, files or processes than a reader needs; what a system does not know is left out."""
    with contextlib.suppress(ImportError):
        import resource

        seconds = max(1, int(request["seconds"]))
        limits = {
            "RLIMIT_AS": (request["memory"], request["memory"]),
            "RLIMIT_CPU": (seconds, seconds + 1),
            "RLIMIT_CORE": (0, 0),
            "RLIMIT_FSIZE": (0, 0),
            "RLIMIT_NPROC": (0, 0),
            "RLIMIT_NOFILE": (0, 0),
        }
        for name, (soft, hard) in limits.items():
            with contextlib.suppress(AttributeError, ValueError, OSError):
                resource.setrlimit(getattr(resource, name), (soft, hard))


def _answer(request: dict[str, Any], raw: bytes) -> bytes:
    try:
        text = Text(request["characters"])
        _reader(request["format"]).read(raw, text, request["format"])
        return _encoded(text)
    except Refusal as refusal:
        return _reason(refusal.reason)
    except ImportError:
        return _reason("library")
    except MemoryError:
        return _reason("memory")
    except RecursionError:
        return _reason("nesting")
    except Exception:  # noqa: BLE001  a parser may raise anything on a broken file
        return _reason("broken")


def _encoded(text: Text) -> bytes:
    found = {
        "text": str(text),
        "headings": text.headings,
        "parts": text.parts,
        "cells": [(cell.kind, cell.source_end) for cell in text.cells],
        "language": text.language,
    }
    return json.dumps(found, ensure_ascii=False).encode("utf-8", "replace")


def _reason(name: str) -> bytes:
    return json.dumps({"reason": name}).encode()
